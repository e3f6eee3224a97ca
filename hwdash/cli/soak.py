"""``hwdash soak``: load a device, watch it, and print how it stood that."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Callable
from contextlib import aclosing

from hwdash.cli.output import failure_told, print_json
from hwdash.cli.requirement import model_name
from hwdash.cli.settings import with_client
from hwdash.cli.soak_line import SoakLine
from hwdash.cli.soak_text import history_text, report_text
from hwdash.client.client import Client
from hwdash.core.duration import parse_duration
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.soak import SoakEnd, SoakFinished, SoakReport, SoakRequest, SoakSample, SoakStarted
from hwdash.core.soak_report import report_of
from hwdash.core.text import sanitise_line
from hwdash.core.wire import to_wire

_INTERRUPTED = 130
_HISTORY = 10
_COLDEST_C, _HOTTEST_C = 1.0, 200.0


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``soak``."""
    parser = command("soak", "load a device for a while: does it throttle, when, and why")
    parser.add_argument("--device", metavar="ID", help="device id or key, or gpu0+gpu1")
    parser.add_argument(
        "--model", metavar="M", help="what decodes; a large one loads a GPU better: synthetic:llama-3.1-8b"
    )
    parser.add_argument("--load", choices=["decode", "matmul"], default="decode", help="tokens (default) or products")
    parser.add_argument("--seconds", default="300", metavar="TIME", help="how long: 90, 5m, 1h (default 5m)")
    parser.add_argument("--until-throttled", action="store_true", help="end 15 s after the device throttles")
    parser.add_argument(
        "--max-temperature", metavar="C", help="end at this temperature (default: the device's slowdown)"
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="sequences decoded at once (default 8)")
    parser.add_argument("--dtype", metavar="D", help="precision, such as bf16 (default: the device's own choice)")
    parser.add_argument("--history", action="store_true", help="the reports of earlier soaks instead")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    with failure_told(parsed.json):
        if parsed.history:
            return with_client(parsed, lambda client: _show_history(client, parsed.device, parsed.json))
        request = _request(parsed)
    return with_client(parsed, lambda client: _soak(client, request, parsed.json))


def _request(parsed: argparse.Namespace) -> SoakRequest:
    """What the options ask for. Raises `UsageError`."""
    if not parsed.device:
        raise UsageError("soak needs --device ID, one of: hwdash devices", param="--device")
    return SoakRequest(
        device=parsed.device,
        model="" if parsed.model is None else model_name(parsed.model),
        load=parsed.load,
        seconds=parse_duration(parsed.seconds, "--seconds"),
        until_throttled=parsed.until_throttled,
        max_temperature_c=_temperature(parsed.max_temperature),
        batch=parsed.batch,
        dtype=parsed.dtype,
    )


def _temperature(text: str | None) -> float | None:
    """The limit in °C. Raises `UsageError`."""
    if text is None:
        return None
    try:
        limit_c = float(text)
    except ValueError:
        limit_c = math.nan
    if not _COLDEST_C <= limit_c <= _HOTTEST_C:
        raise UsageError(
            f"--max-temperature: {sanitise_line(text, 20)} is no temperature from {_COLDEST_C:g} to {_HOTTEST_C:g} °C",
            param="--max-temperature",
        )
    return limit_c


async def _show_history(client: Client, device: str | None, as_json: bool) -> int:
    history = await client.soaks(device, _HISTORY)
    if as_json:
        print_json(to_wire(history))
    else:
        print(history_text(history, _plain()))
    return 0


class _Seen:
    """What a soak has told so far; `report` makes a report of it that the daemon did not."""

    def __init__(self) -> None:
        self.started: SoakStarted | None = None
        self.samples: list[SoakSample] = []
        self.began_s = 0.0
        self.report: SoakReport | None = None

    def ended(self, end: SoakEnd, problem: str = "") -> SoakReport | None:
        """The report of a soak that ended here; None where nothing was measured."""
        if self.started is None or not any(sample.rate is not None for sample in self.samples):
            return None
        return report_of(self.started, self.samples, end, time.monotonic() - self.began_s, problem=problem)


async def _soak(client: Client, request: SoakRequest, as_json: bool) -> int:
    """Run the soak and print its report, also that of one that was interrupted or broke off."""
    seen, line = _Seen(), SoakLine(request.seconds)
    try:
        await _follow(client, request, seen, line)
    except asyncio.CancelledError:
        # The connection is closed, which is what ends the load; the daemon's own report would come too late.
        line.clear()
        if (report := seen.ended(SoakEnd.CANCELLED)) is None:
            raise
        _print(report, as_json)
        return _INTERRUPTED
    except HwdashError as error:
        line.clear()
        if (report := seen.ended(SoakEnd.FAILED, error.message)) is None:
            with failure_told(as_json):
                raise
        _print(report, as_json)
        return error.exit_code
    finally:
        line.clear()
    assert seen.report is not None, "a soak always ends with its report"
    _print(seen.report, as_json)
    return 1 if seen.report.end in (SoakEnd.FAILED, SoakEnd.LOST) else 0


async def _follow(client: Client, request: SoakRequest, seen: _Seen, line: SoakLine) -> None:
    async with aclosing(client.soak(request)) as events:
        async for event in events:
            match event:
                case SoakStarted():
                    seen.started, seen.began_s = event, time.monotonic()
                    line.begin(event)
                case SoakSample():
                    seen.samples.append(event)
                    line.show(event)
                case SoakFinished():
                    seen.report = event.report
                case _:
                    line.stage(event)


def _print(report: SoakReport, as_json: bool) -> None:
    if as_json:
        print_json(to_wire(report))
    else:
        print(report_text(report, _plain()))


def _plain() -> bool:
    """Stdout takes no more than ASCII."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return encoding.replace("-", "").replace("_", "") != "utf8"
