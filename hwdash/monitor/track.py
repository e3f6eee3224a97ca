"""One device as it is followed from tick to tick."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hwdash.core.device import Device, MemoryPool
from hwdash.core.event import SEVERITY_OF, Event, EventKind
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, LastRequest
from hwdash.core.throttle import ThrottleActivity
from hwdash.monitor.derive import View, derive
from hwdash.monitor.health import Condition, Observation, advance
from hwdash.monitor.reader import Outcome, Reader
from hwdash.sources.source import Source

EXPECTED = ("utilization", "memory_used_bytes", "memory_total_bytes", "temperature_c", "power_w", "clock_hz")
"""What any device should tell: the metrics that are absent while it has never answered."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a tick on both clocks, and how long is too long: for one read, and for the age of a sample."""

    at_s: float
    at: datetime
    deadline_s: float
    max_age_s: float


@dataclass(slots=True, eq=False)
class Line:
    """One reader and the devices that it reads. ``took_s`` is how long its newest read took, None while it is asked."""

    source: Source
    reader: Reader
    tracks: list[Track] = field(default_factory=list)
    took_s: float | None = None


class Track:
    """A device, its newest sample, and its health. Lives on the loop; only its reader's thread calls the driver."""

    def __init__(self, device: Device, line: Line) -> None:
        self.device = device
        self.line = line
        self.asked = 0
        self.vanished = False
        self.shown = False
        self.lost = ""
        self.wanted: list[asyncio.Future[Sample | None]] = []
        self._retry_at_s = 0.0
        self._error = ""
        self._sample: Sample | None = None
        self._base: Sample | None = None
        self._view: View | None = None
        self._fresh = False
        self._condition: Condition | None = None

    def due(self, cycle: int, now_s: float) -> bool:
        """True when this cycle should read the device and has not asked for it yet."""
        return self.asked != cycle and not self.vanished and (not self.lost or now_s >= self._retry_at_s)

    def vanish(self, words: str) -> None:
        """Its source finds it no more: lost with *words* until `reappear`."""
        self.vanished = True
        self._lose(self.lost or words)

    def reappear(self) -> None:
        """Its source finds it again: read it in the next tick."""
        self.vanished = False
        self._retry_at_s = 0.0

    def accept(self, outcome: Outcome, retry_at_s: float) -> None:
        """Take in what a read came to; a lost device is asked again at *retry_at_s*."""
        self.shown = True
        if self.vanished:
            return
        if outcome.lost:
            self._retry_at_s = retry_at_s
            self._lose(outcome.lost)
        elif outcome.sample is not None:
            self._view = derive(self._base, outcome.sample, self.device)
            self._sample = self._base = outcome.sample
            self._fresh = True
            self.lost = self._error = ""
        else:
            self._error = outcome.error

    def observe(self, moment: Moment, last_request: LastRequest | None) -> tuple[DeviceStatus, tuple[Event, ...]]:
        """The device's row in the snapshot of *moment*, and what happened to it."""
        overdue = self.overdue(moment)
        age_s = None if self._sample is None else max(0.0, moment.at_s - self._sample.monotonic_s)
        silence = ""
        if age_s is None or age_s > moment.max_age_s:
            silence = self._silence(overdue)
        readings, throttle, pools = self._now(overdue)
        before = self._condition
        after = self._condition = advance(
            before,
            Observation(
                moment.at_s, moment.at, self._fresh, readings, throttle, self.device.limits, self.lost, silence, age_s
            ),
        )
        self._fresh = False
        status = DeviceStatus(
            self.device,
            readings,
            pools,
            throttle,
            after.health,
            None if self._sample is None else self._sample.taken_at,
            age_s,
            last_request,
        )
        if before is not None and before.health.state is after.health.state:
            return status, ()
        return status, (_change(status, None if before is None else before.health.state),)

    def overdue(self, moment: Moment) -> bool:
        """True when a driver call for this device has taken longer than a read may take."""
        return self.line.reader.busy_for(moment.at_s) > moment.deadline_s

    def _lose(self, words: str) -> None:
        self.lost = words
        self._error = ""
        self._base = None  # a device that comes back may have been reset: its counters start anew
        self._fresh = False

    def _silence(self, overdue: bool) -> str:
        if self._error:
            return f"reading fails: {self._error}"
        return "the driver does not answer" if overdue or self._sample is None else "the driver answers too slowly"

    def _now(self, overdue: bool) -> tuple[Mapping[str, Reading], tuple[ThrottleActivity, ...], tuple[MemoryPool, ...]]:
        """Readings, throttling and pools that may be shown now; an old number is not shown as if it were of today."""
        absent = (
            Absent.DEVICE_LOST
            if self.lost
            else Absent.TIMED_OUT
            if overdue
            else Absent.ERROR
            if self._error
            else Absent.TIMED_OUT
            if self._view is None
            else None
        )
        if absent is None and self._view is not None and self._sample is not None:
            return self._view.readings, self._view.throttle, self._sample.pools
        names = EXPECTED if self._view is None else self._view.readings
        return dict.fromkeys(names, absent or Absent.TIMED_OUT), (), ()


def _change(status: DeviceStatus, before: HealthState | None) -> Event:
    health: Health = status.health
    words = f"{health.state}: {', '.join(health.reasons)}" if health.reasons else health.state.value
    return Event(
        health.since,
        status.device.key,
        EventKind.HEALTH,
        SEVERITY_OF[health.state],
        words,
        device=status.device.id,
        before=before,
        after=health.state,
        reasons=health.reasons,
        throttle=tuple(activity.reason.value for activity in status.limiting),
        suspected=health.suspected,
    )
