"""One device as it is followed from tick to tick."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.health import Health
from hwdash.core.probe import Usual
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import FaultLevel, Notice, Sample
from hwdash.core.snapshot import DeviceStatus, LastRequest
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.monitor.chronicle import Chronicle
from hwdash.monitor.derive import NO_COUNTS, View, derive
from hwdash.monitor.health import Condition, Observation, Suspect, advance
from hwdash.monitor.reader import Outcome, Reader
from hwdash.monitor.suspicion import Suspicion
from hwdash.sources.source import Source

EXPECTED = ("utilization", "memory_used_bytes", "memory_total_bytes", "temperature_c", "power_w", "clock_hz")
"""What any device should tell: the metrics that are absent while it has never answered."""

_MOST_NOTICES = 32


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
        self.wanted: list[asyncio.Future[Sample | None]] = []
        self._chronicle = Chronicle()
        self.forget()

    def forget(self) -> None:
        """Be as one that was just found, except for the id: no sample, no condition, nothing learned."""
        self.vanished = False
        self.shown = False
        self.lost = ""
        self._retry_at_s = 0.0
        self._error = ""
        self._is_late = False
        self._sample: Sample | None = None
        self._base: Sample | None = None
        self._view: View | None = None
        self._fresh = False
        self._condition: Condition | None = None
        self._suspicion = Suspicion(self.device.kind)
        self._suspicions: tuple[Suspect, ...] = ()
        self._notices: list[Notice] = []
        self._heard_flags: frozenset[ThrottleReason] = frozenset()
        self._heard_unknown: str | None = None
        self._chronicle.forget()

    def due(self, cycle: int, now_s: float) -> bool:
        """True when this cycle should read the device and has not asked for it yet."""
        return self.asked != cycle and not self.vanished and (not self.lost or now_s >= self._retry_at_s)

    def learn(self, device: Device) -> None:
        """Its source tells these facts of it now. Under a known key there may be another device than before."""
        before = self.device
        self.device = device
        if (before.vendor, before.name, before.pci) != (device.vendor, device.name, device.pci):
            self._base = None
            self._condition = None
            self._suspicion = Suspicion(device.kind)
            self._suspicions = ()
            self._chronicle.replace(before)

    def vanish(self, words: str) -> None:
        """Its source finds it no more: lost with *words* until `reappear`."""
        self.vanished = True
        self._lose(self.lost or words)

    def reappear(self) -> None:
        """Its source finds it again: read it in the next tick."""
        self.vanished = False
        self._retry_at_s = 0.0

    def visible(self, moment: Moment) -> bool:
        """True for a device that answered, is lost, or should have answered by now. One just plugged in may wait."""
        return self.shown or (bool(self.lost) and not self.vanished) or self.overdue(moment)

    def accept(self, outcome: Outcome, retry_at_s: float) -> None:
        """Take in what a read came to; a lost device is asked again at *retry_at_s*."""
        if self.vanished:
            return
        self.shown = True
        if outcome.lost:
            self._retry_at_s = retry_at_s
            self._lose(outcome.lost)
        elif outcome.sample is not None:
            self._take(outcome.sample)
            self.lost = self._error = ""
        else:
            self.fail(outcome.error, late=outcome.late)

    def fail(self, words: str, *, late: bool = False) -> None:
        """The newest read came to nothing, with these *words*; *late* when that was a timeout of the driver."""
        self._error = words
        self._is_late = late

    def hear(self, sample: Sample) -> None:
        """Keep what *sample*, which was read out of turn, says of the time since the last tick.

        A source tells each notice once, and may tell what has grown since its last read by a flag: both go into the
        next tick. Rates and duties are from tick to tick all the same.
        """
        self._note(sample)
        if self._sample is None or sample.monotonic_s != self._sample.monotonic_s:
            self._heard_flags |= sample.throttle_flags or frozenset()
            self._heard_unknown = sample.unknown_flags or self._heard_unknown

    def note_request(self, now_s: float, last: LastRequest) -> None:
        """A request has finished on the device at *now_s*."""
        self._suspicion.note(now_s, last)

    def note_probe(self, now_s: float, model: str, gap_s: float, usual: Usual, counts_s: float) -> None:
        """A probe has finished on the device at *now_s*."""
        self._suspicion.note_probe(now_s, model, gap_s, usual, counts_s)

    def observe(self, moment: Moment, last_request: LastRequest | None) -> tuple[DeviceStatus, tuple[Event, ...]]:
        """The device's row in the snapshot of *moment*, and what happened to it."""
        self.shown = True
        overdue = self.overdue(moment)
        sample = self._sample
        age_s = None if sample is None else max(0.0, moment.at_s - sample.monotonic_s)
        silence = ""
        if age_s is None or age_s > moment.max_age_s:
            silence = self._silence(overdue)
            self._suspicion.pause()
        absent = self._absent(overdue)
        current = None if absent is not None else sample
        readings, throttle = self._now(absent)
        health = self._health(moment, readings, throttle, silence, age_s)
        status = DeviceStatus(
            self.device,
            readings,
            () if current is None else current.pools,
            throttle,
            health,
            None if sample is None else sample.taken_at,
            age_s,
            last_request,
            None if current is None else current.processes,
            () if current is None else current.faults,
            current is not None and current.clock_is_set,
        )
        notices, self._notices = self._notices, []
        return status, self._chronicle.follow(status, moment.at, None if current is None else current.faults, notices)

    def overdue(self, moment: Moment) -> bool:
        """True when a driver call for this device has taken longer than a read may take."""
        return self.line.reader.busy_for() > moment.deadline_s

    def _take(self, sample: Sample) -> None:
        known = self._sample
        if known is not None and not self.lost and (known is sample or known.monotonic_s == sample.monotonic_s):
            return  # the very same state again, of a clock that stands or a chip that has nothing new
        if self._heard_flags or self._heard_unknown:
            sample = replace(
                sample,
                throttle_flags=self._heard_flags | (sample.throttle_flags or frozenset()),
                unknown_flags=sample.unknown_flags or self._heard_unknown,
            )
        self._view = derive(self._base, sample, self.device, self._view)
        self._sample = self._base = sample
        self._fresh = True
        self._heard_flags, self._heard_unknown = frozenset(), None
        if sample.notices:
            self._note(sample)
        if any(fault.level is not FaultLevel.WARNING for fault in sample.faults):
            self._suspicion.pause()
            self._suspicions = ()
        else:
            self._suspicions = self._suspicion.observe(sample, self._view.readings, self._view.throttle, self.device)

    def _note(self, sample: Sample) -> None:
        self._notices += sample.notices[: _MOST_NOTICES - len(self._notices)]

    def _health(
        self,
        moment: Moment,
        readings: Mapping[str, Reading],
        throttle: tuple[ThrottleActivity, ...],
        silence: str,
        age_s: float | None,
    ) -> Health:
        sample = self._sample
        if self._condition is None or self._fresh or self.lost or silence:
            self._condition = advance(
                self._condition,
                Observation(
                    sample.monotonic_s if self._fresh and sample is not None else moment.at_s,
                    moment.at,
                    self._fresh,
                    readings,
                    throttle,
                    self.device.limits,
                    self.lost,
                    silence,
                    age_s,
                    () if sample is None else sample.faults,
                    self._suspicions,
                    NO_COUNTS if self._view is None else self._view.counts,
                ),
            )
            self._fresh = False
        return self._condition.health

    def _lose(self, words: str) -> None:
        self.lost = words
        self._error = ""
        self._base = None  # a device that comes back may have been reset: its counters start anew
        self._fresh = False
        self._heard_flags, self._heard_unknown = frozenset(), None
        self._suspicion.pause()

    def _silence(self, overdue: bool) -> str:
        if self._error:
            return self._error if self._is_late else f"reading fails: {self._error}"
        return "the driver does not answer" if overdue or self._sample is None else "the driver answers too slowly"

    def _absent(self, overdue: bool) -> Absent | None:
        """Why nothing may be shown now; an old number is not shown as if it were of today."""
        if self.lost:
            return Absent.DEVICE_LOST
        if overdue:
            return Absent.TIMED_OUT
        if self._error:
            return Absent.TIMED_OUT if self._is_late else Absent.ERROR
        return Absent.TIMED_OUT if self._view is None else None

    def _now(self, absent: Absent | None) -> tuple[Mapping[str, Reading], tuple[ThrottleActivity, ...]]:
        if absent is None and self._view is not None:
            return self._view.readings, self._view.throttle
        names = EXPECTED if self._view is None else self._view.readings
        return dict.fromkeys(names, absent or Absent.TIMED_OUT), ()
