"""The line that tells of a soak while it runs."""

from __future__ import annotations

import shutil
import sys

from hwdash.core.format import clock_text, duration_text
from hwdash.core.inference import StageEvent
from hwdash.core.soak import SoakSample, SoakStarted
from hwdash.core.soak_report import rate_words
from hwdash.core.throttle import reason_words

_EVERY_S = 5.0
"""Without a terminal a line is written no oftener than this."""


class SoakLine:
    """One line on stderr, replaced with each sample of a soak of *seconds*; without a terminal a new one now and then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._live = sys.stderr.isatty()
        self._started: SoakStarted | None = None
        self._next_s = 0.0
        self._told = ""
        self._painted = False

    def stage(self, event: StageEvent) -> None:
        """What comes before the load."""
        share = "" if event.progress is None else f" {event.progress:.0%}"
        words = f"{event.device}: {event.stage}"
        detail = f": {event.detail}" if event.detail else ""
        if self._live:
            self._paint(words + share + detail)
        elif words + detail != self._told:
            self._told = words + detail
            print(self._told, file=sys.stderr, flush=True)

    def begin(self, started: SoakStarted) -> None:
        """The load begins."""
        self._started = started

    def show(self, sample: SoakSample) -> None:
        """The device now."""
        if self._started is None:
            return
        text = _words(self._started, sample, self._seconds)
        if self._live:
            self._paint(text)
        elif sample.at_s >= self._next_s:
            self._next_s = sample.at_s + _EVERY_S
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._painted:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._painted = False

    def _paint(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text if len(text) <= room else text[: max(0, room - 1)] + '…'}")
        sys.stderr.flush()
        self._painted = True


def _words(started: SoakStarted, sample: SoakSample, seconds: float) -> str:
    parts = [f"{started.device}: {duration_text(sample.at_s)} of {duration_text(seconds)}"]
    if sample.rate is not None:
        parts.append(rate_words(sample.rate, started.unit))
    if sample.temperature_c is not None:
        parts.append(f"{sample.temperature_c:.0f} °C")
    if sample.power_w is not None:
        parts.append(f"{sample.power_w:.0f} W")
    if sample.clock_hz is not None:
        parts.append(clock_text(sample.clock_hz))
    reasons = ", ".join(map(reason_words, sample.throttle)) or (
        f"suspected: {sample.suspected}" if sample.suspected else ""
    )
    return " · ".join([*parts, reasons] if reasons else parts)
