"""``hwdash bench``: measure a device with a model, and print what it can do beside what it did before."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from contextlib import aclosing

from hwdash.cli.bench_text import history_text, report_text
from hwdash.cli.output import failure_told, print_json
from hwdash.cli.progress import Progress
from hwdash.cli.requirement import model_name
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.bench import (
    MAX_BATCH,
    MAX_NEW_TOKENS,
    MAX_PROMPT_TOKENS,
    MAX_TRIED,
    BenchFinished,
    BenchReport,
    BenchRequest,
    BenchStep,
)
from hwdash.core.errors import UsageError
from hwdash.core.inference import AUTO
from hwdash.core.text import sanitise_line
from hwdash.core.wire import to_wire

_USUAL = BenchRequest("")
_HISTORY = 20
_WIDTH = 80


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``bench``."""
    parser = command("bench", "measure how fast a device is with a model, and compare with earlier runs")
    parser.add_argument("--device", metavar="ID", help="device id or key, or gpu0+gpu1 (default: the best one)")
    parser.add_argument("--model", metavar="M", help="what to measure with, such as synthetic:llama-3.1-8b")
    parser.add_argument(
        "--dtype", metavar="D", help="precisions: bf16,fp32 or all (default: the one that the device would use)"
    )
    parser.add_argument(
        "--batch", metavar="N,…", help=f"sequences decoded at once (default {_numbers(_USUAL.batches)})"
    )
    parser.add_argument(
        "--prompt-tokens", metavar="N,…", help=f"lengths of prompts (default {_numbers(_USUAL.prompt_tokens)})"
    )
    parser.add_argument(
        "--tokens",
        metavar="N",
        default=str(_USUAL.new_tokens),
        help=f"new tokens of each sequence (default {_USUAL.new_tokens})",
    )
    parser.add_argument("--history", action="store_true", help="the reports of earlier runs instead")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=_run)


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


def _run(parsed: argparse.Namespace) -> int:
    with failure_told(parsed.json):
        request = _request(parsed)
    if parsed.history:
        return with_client(parsed, lambda client: _show_history(client, parsed, request.model))
    return with_client(parsed, lambda client: _bench(client, request, parsed.json))


def _request(parsed: argparse.Namespace) -> BenchRequest:
    """What the options ask for. Raises `UsageError`."""
    return BenchRequest(
        model="" if parsed.model is None else model_name(parsed.model),
        device=AUTO if parsed.device is None else parsed.device,
        dtypes=() if parsed.dtype is None else _words("--dtype", parsed.dtype),
        batches=_USUAL.batches if parsed.batch is None else _counts("--batch", parsed.batch, MAX_BATCH),
        prompt_tokens=_USUAL.prompt_tokens
        if parsed.prompt_tokens is None
        else _counts("--prompt-tokens", parsed.prompt_tokens, MAX_PROMPT_TOKENS),
        new_tokens=_count("--tokens", parsed.tokens, 2, MAX_NEW_TOKENS),
    )


def _words(flag: str, text: str) -> tuple[str, ...]:
    """The words between the commas of *text*. Raises `UsageError`."""
    found = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",")))
    if not all(found):
        raise UsageError(f"{flag}: a value is missing in {sanitise_line(text, 60)!r}", param=flag)
    if len(found) > MAX_TRIED:
        raise UsageError(f"{flag} takes at most {MAX_TRIED} values, not {len(found)}", param=flag)
    return found


def _counts(flag: str, text: str, most: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_count(flag, word, 1, most) for word in _words(flag, text)))


def _count(flag: str, text: str, least: int, most: int) -> int:
    word = text.strip()
    if not (word.isascii() and word.isdecimal() and len(word) <= 9 and least <= int(word) <= most):
        shown = sanitise_line(text, 20)
        raise UsageError(f"{flag} takes whole numbers from {least} to {most:,}, not {shown!r}", param=flag)
    return int(word)


async def _show_history(client: Client, parsed: argparse.Namespace, model: str) -> int:
    with failure_told(parsed.json):
        history = await client.benches(parsed.device, model or None, _HISTORY)
    if parsed.json:
        print_json(to_wire(history))
    else:
        print(history_text(history))
    return 0


async def _bench(client: Client, request: BenchRequest, as_json: bool) -> int:
    progress = Progress(quiet=as_json)
    report: BenchReport | None = None
    with failure_told(as_json):
        async with aclosing(client.bench(request)) as events:
            try:
                async for event in events:
                    match event:
                        case BenchFinished():
                            report = event.report
                        case BenchStep():
                            share = "" if event.progress is None else f" {event.progress:.0%}"
                            progress.say(f"{event.device}{share}: {event.words}")
                        case _:
                            progress.show(event)
            finally:
                progress.clear()
    assert report is not None, "a bench always ends with its report"
    if as_json:
        print_json(to_wire(report))
    else:
        print(report_text(report, max(40, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))))
    return 0
