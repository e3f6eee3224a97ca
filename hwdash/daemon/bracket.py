"""What the device's own counters and sensors said between the start and the end of one request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from hwdash.core.clock import Clock
from hwdash.core.device import Device, DeviceKind
from hwdash.core.errors import UnknownDevice
from hwdash.core.inference import Conditions, Energy
from hwdash.core.reading import Reading, present
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import ThrottleReason
from hwdash.daemon.meter import Meter
from hwdash.monitor.broadcast import Broadcast

SHARED = ", shared"
"""Ends `Energy.scope` where other requests ran on the device at the same time and are in the figure too, because the engine
does not tell whose part was how big."""


class Refresher(Protocol):
    """What a bracket needs of the monitor."""

    async def refresh(self, key: str, timeout_s: float = 0.1) -> Sample | None:
        """One extra sample now; None when it is late or the device is lost."""
        ...


class Bracket:
    """Reads a device before and after a request and follows its snapshots in between.

    *meter* is the device's, which shares its energy out among the requests of all workers; *worker* names that of this one.
    """

    def __init__(
        self,
        monitor: Refresher,
        snapshots: Broadcast[Snapshot],
        device: Device,
        meter: Meter,
        worker: str,
        clock: Clock,
    ) -> None:
        self._monitor = monitor
        self._snapshots = snapshots
        self._device = device
        self._meter = meter
        self._worker = worker
        self._party = meter.enter(worker)
        self._clock = clock
        self._decoding = False
        self._tasks: tuple[asyncio.Task[Sample | None], asyncio.Task[None]] | None = None
        self._reset()

    def open(self) -> None:
        """Begin at this moment (again, when called again), without waiting for the first read."""
        self._stop()
        self._reset()
        self._party = self._meter.enter(self._worker)
        self._tasks = (asyncio.create_task(self._read_first()), asyncio.create_task(self._follow()))

    def run(self) -> None:
        """The device works on the request from now on, and no longer on another of the same queue."""
        self._party.running = True

    def decode(self) -> None:
        """The first token is there: from now on the clock counts."""
        self._decoding = True

    async def close(
        self, tokens: int, share: float | None = None, *, told: bool = True
    ) -> tuple[Energy | None, Conditions]:
        """Read once more and give the energy of *tokens* tokens and the conditions seen.

        The energy is the difference of the device's counter; None where it has none, was late, or did not move. Where
        others ran too it is the part of it that *share* of the worker's steps comes to, an even one where that is None,
        or all of it where the engine has not *told*.
        """
        before: Sample | None = None
        party = self._party
        try:
            after = await self._read()
            if self._tasks is not None:
                before = await self._tasks[0]
            part = self._meter.leave(party, share)
        finally:
            self.abandon()
        for sample in (before, after):
            if sample is not None:
                self._throttle |= sample.throttle_flags or frozenset()
                self._saw(sample.readings, clock=sample is after)
        if before is not None and after is not None:
            for reason, seconds in after.throttle_seconds.items():
                if seconds > before.throttle_seconds.get(reason, seconds):
                    self._throttle.add(reason)
        conditions = Conditions(
            tuple(reason.value for reason in ThrottleReason if reason in self._throttle),
            self._temperature,
            self._clock_min,
        )
        if before is None or after is None or part is None:
            return None, conditions
        return self._energy(before, after, tokens, part if told else None), conditions

    def abandon(self) -> None:
        """End without a figure: nothing is read any more, and the device's other requests do without this one."""
        self._stop()

    def _reset(self) -> None:
        self._since = self._clock.now()
        self._inside = 0
        self._throttle: set[ThrottleReason] = set()
        self._temperature: float | None = None
        self._clock_min: float | None = None

    def _stop(self) -> None:
        for task in self._tasks or ():
            task.cancel()
        self._tasks = None
        self._meter.leave(self._party)

    async def _read(self) -> Sample | None:
        try:
            sample = await self._monitor.refresh(self._device.key)
        except UnknownDevice:
            return None
        if sample is not None and (joules := present(sample.readings.get("energy_j"))) is not None:
            self._meter.read(sample.monotonic_s, joules)
        return sample

    async def _read_first(self) -> Sample | None:
        party = self._party
        sample = await self._read()
        self._meter.begin(party)
        return sample

    async def _follow(self) -> None:
        async for snapshot in self._snapshots.subscribe():
            with contextlib.suppress(UnknownDevice):
                self._note(snapshot.find(self._device.key))

    def _note(self, status: DeviceStatus) -> None:
        if status.sampled_at is None or status.sampled_at <= self._since:
            return
        self._since = status.sampled_at
        self._inside += 1
        for activity in status.throttle:
            # A duty tells of the time since the sample before, which for the first one lies outside the request.
            if activity.active or (self._inside > 1 and (activity.duty or 0.0) > 0.0):
                self._throttle.add(activity.reason)
        self._saw(status.readings, clock=True)

    def _saw(self, readings: Mapping[str, Reading], *, clock: bool) -> None:
        if (temperature := present(readings.get("temperature_c"))) is not None:
            known = self._temperature
            self._temperature = temperature if known is None else max(known, temperature)
        if clock and self._decoding and (hertz := present(readings.get("clock_hz"))) is not None:
            self._clock_min = hertz if self._clock_min is None else min(self._clock_min, hertz)

    def _energy(self, before: Sample, after: Sample, tokens: int, part: float | None) -> Energy | None:
        start, end = present(before.readings.get("energy_j")), present(after.readings.get("energy_j"))
        if start is None or end is None or end <= start:
            return None
        scope = "package" if self._device.kind is DeviceKind.CPU else "device"
        whole, share = end - start, 1.0
        if self._party.shared:
            if part is None:
                return Energy(whole, scope + SHARED, share=None)
            if part <= 0.0:
                return None
            share = min(1.0, part / whole)
        joules = whole * share
        idle_w = self._meter.idle.watts(self._clock.now().timestamp())
        idle = None if idle_w is None else min(joules, idle_w * (after.monotonic_s - before.monotonic_s) * share)
        return Energy(joules, scope, joules / tokens if tokens else None, share, idle)
