"""``hwdash probe``: one probe now."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from hwdash.cli.output import failure_told, print_json
from hwdash.cli.requirement import model_name
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.format import seconds_text
from hwdash.core.inference import AUTO
from hwdash.core.probe import ProbeOutcome, ProbeRequest, ProbeResult
from hwdash.core.text import sanitise_line
from hwdash.core.wire import to_wire

_LONGEST = 500


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``probe``."""
    parser = command("probe", "one probe now: does a device answer, as fast as ever, and the same")
    parser.add_argument("--device", default=AUTO, metavar="ID", help="device id or key, gpu0+gpu1, or auto (default)")
    parser.add_argument(
        "--model", metavar="M", help="the model to ask; loaded if it is not (default: the daemon's own)"
    )
    parser.add_argument("--accept", action="store_true", help="its answer is the right one from now on")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    with failure_told(parsed.json):
        model = None if parsed.model is None else model_name(parsed.model)
    request = ProbeRequest(parsed.device, model, parsed.accept)
    return with_client(parsed, lambda client: probe(client, request, as_json=parsed.json))


async def probe(client: Client, request: ProbeRequest, *, as_json: bool) -> int:
    """Probe and print what came of it; 0 when all is well, 1 when the answer is wrong or there is none."""
    with failure_told(as_json):
        result = await client.probe(request)
    if as_json:
        print_json(to_wire(result))
    else:
        print(result_text(result))
    return 0 if result.outcome is ProbeOutcome.OK else 1


def result_text(result: ProbeResult) -> str:
    """*result* in a line or two: outcome, times, drift, and what was wrong."""
    head = f"{result.device}: {result.outcome.value}, {sanitise_line(result.model, _LONGEST)}"
    if result.dtype:
        head += f" in {sanitise_line(result.dtype, 40)}"
    if result.outcome is ProbeOutcome.FAILED:
        return f"{head}: {sanitise_line(result.error or 'no reason told', _LONGEST)}"
    parts = [f"TTFT {seconds_text(result.ttft_s)}"] if result.ttft_s is not None else []
    parts += [f"{seconds_text(result.itl_s)} a token"] if result.itl_s is not None else []
    parts += [f"{result.tokens} tokens"]
    parts += [f"drift {result.drift * 100:+.0f} %"] if result.drift is not None else []
    lines = [f"{head}: {', '.join(parts)}"]
    if result.outcome is ProbeOutcome.WRONG:
        lines.append("  answered twice with other tokens than before; if that is meant to be: hwdash probe --accept")
    elif not result.expected:
        lines.append("  the first one under these conditions: later answers are compared with it")
    return "\n".join(lines)
