"""Where the time comes from, so that a test can hold it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for durations and a wall clock for people."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; the zero means nothing."""
        ...

    def now(self) -> datetime:
        """The time in UTC, aware."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Seconds of ``CLOCK_MONOTONIC``."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall time in UTC, cut to milliseconds."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


SYSTEM_CLOCK: Clock = SystemClock()
"""The one instance there needs to be: it has no state."""


class ManualClock:
    """A clock that stands until it is told to move."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        """Seconds moved so far, from an arbitrary zero."""
        return self._monotonic

    def now(self) -> datetime:
        """The wall time this clock was moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by *seconds*."""
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)
