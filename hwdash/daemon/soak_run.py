"""One soak: the load, and the device as the monitor sees it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hwdash.core.clock import Clock
from hwdash.core.errors import EngineError, HwdashError, UnknownDevice
from hwdash.core.health import STALE_AFTER_INTERVALS, HealthState
from hwdash.core.inference import StageEvent
from hwdash.core.measurement import Load, LoadedModel, Measured, MeasurePlan, MeasureReport, Task
from hwdash.core.reading import present
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.soak import SoakEnd, SoakEvent, SoakFinished, SoakReport, SoakRequest, SoakSample, SoakStarted
from hwdash.core.soak_report import report_of, throttles
from hwdash.monitor.broadcast import Broadcast

if TYPE_CHECKING:
    from hwdash.daemon.bracket import Refresher
    from hwdash.engine.engine import Engine

T = TypeVar("T")

_AFTER_ONSET_S = 15.0
_AFTER_ONSET_SHARE = 1.0 / 3.0
"""A soak that goes on until the device throttles goes on this long afterwards, or this share of its time where that is less."""
_READ_S = 1.0
_SILENT_S, _SILENT_INTERVALS = 5.0, 5
"""Nobody loads a device that nobody sees: a soak ends after so many seconds, or intervals, without a sample …"""
_STALE_S = 2.0
"""… and after so many where the device is called stale by then."""
_LOOK_S = 1.0


class SoakRun:
    """Loads the device in *status* as *request* asks; `events` is used once. *keep* makes the report, and stores it."""

    def __init__(
        self,
        request: SoakRequest,
        status: DeviceStatus,
        number: str,
        engine: Engine,
        monitor: Refresher,
        snapshots: Broadcast[Snapshot],
        keep: Callable[[Callable[[], SoakReport]], asyncio.Task[SoakReport]],
        clock: Clock,
    ) -> None:
        self._request = request
        self._device = status.device
        self._engine = engine
        self._monitor = monitor
        self._snapshots = snapshots
        self._keep = keep
        self._clock = clock
        limit = request.max_temperature_c
        self._limit_c = status.device.limits.temperature_slowdown_c if limit is None else limit
        self._unit = "FLOP/s" if request.load == Load.MATMUL else "tok/s"
        self._number = number
        self._tells_throttle = bool(status.throttle)
        self._started: SoakStarted | None = None
        self._began_s = 0.0
        self._seen: datetime | None = None
        self._rate = _Rate(request.load)
        self._samples: list[SoakSample] = []
        self._onset_s: float | None = None
        self._interval_s = _LOOK_S
        self._heard_s = 0.0
        self._stale = False
        self._joules_before: float | None = None
        self._joules: float | None = None
        self._total_s: float | None = None
        self._end: SoakEnd | None = None

    async def events(self) -> AsyncGenerator[SoakEvent, None]:
        """Everything until the end; the load has ended when the report is told, and when this is closed."""
        problem = ""
        try:
            async with aclosing(self._load()) as told:
                async for event in told:
                    yield event
        except HwdashError as error:
            if not self._rate.measured or self._started is None:
                raise
            self._end, problem = SoakEnd.FAILED, error.message
        except (GeneratorExit, asyncio.CancelledError):
            if self._started is not None and self._rate.measured:
                self._keep(self._report(self._started, self._end or SoakEnd.CANCELLED, ""))
            raise
        assert self._started is not None, "a load that ends without an error has begun"
        keeping = self._keep(self._report(self._started, self._end or SoakEnd.TIME, problem))
        yield SoakFinished(await asyncio.shield(keeping))

    async def _load(self) -> AsyncGenerator[SoakEvent, None]:
        """Run the load until it ends or has to; it has ended when this has."""
        reports = self._engine.measure(self._plan(), self._device)
        snapshots = self._snapshots.subscribe()
        told, ticked = asyncio.create_task(_next(reports)), asyncio.create_task(_next(snapshots))
        try:
            while self._end is None:
                await asyncio.wait({told, ticked}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if told.done():
                    if (report := told.result()) is None:
                        self._done()
                        break
                    told = asyncio.create_task(_next(reports))
                    if (event := await self._take(report)) is not None:
                        yield event
                if ticked.done():
                    if (snapshot := ticked.result()) is None:
                        raise EngineError(f"{self._device.id}: the daemon is stopping")
                    ticked = asyncio.create_task(_next(snapshots))
                    if (sample := self._look(snapshot)) is not None:
                        yield sample
                self._listen()
            await self._stop()
        except HwdashError:
            await self._stop()
            raise
        finally:
            told.cancel()
            ticked.cancel()
            await asyncio.gather(told, ticked, return_exceptions=True)
            await reports.aclose()
            await snapshots.aclose()

    def _plan(self) -> MeasurePlan:
        request = self._request
        matmul = request.load == Load.MATMUL
        task = Task(
            Load(request.load),
            batch=1 if matmul else request.batch,
            dtype=request.dtype if matmul else None,
            seconds=request.seconds,
        )
        return MeasurePlan(request.model, (task,), request.dtype)

    async def _take(self, report: StageEvent | MeasureReport) -> SoakEvent | None:
        """Take in what the engine says; gives what the client is told of it."""
        if isinstance(report, StageEvent):
            return report
        if isinstance(report, LoadedModel):
            if (sample := await self._read()) is not None:
                self._joules_before = present(sample.readings.get("energy_j"))
                self._tells_throttle |= sample.throttle_flags is not None
            return self._begin(report)
        measured = report.measured
        if measured.problem:
            raise EngineError(f"{self._device.id}: {measured.problem}")
        self._rate.add(measured)
        if measured.last:
            await self._stop()
        return None

    def _begin(self, loaded: LoadedModel) -> SoakStarted:
        request, device = self._request, self._device
        matmul = request.load == Load.MATMUL
        self._began_s = self._heard_s = self._clock.monotonic()
        self._seen = self._clock.now()
        self._started = SoakStarted(
            self._number,
            self._seen,
            device.id,
            device.key,
            device.name,
            request.model,
            request.load,
            self._unit,
            (request.dtype if matmul else None) or loaded.dtype,
            1 if matmul else request.batch,
            self._limit_c,
            self._tells_throttle,
        )
        return self._started

    def _look(self, snapshot: Snapshot) -> SoakSample | None:
        """The device in *snapshot* as a sample, where it is a new one; decides whether the soak ends here."""
        if self._total_s is not None:
            return None
        self._interval_s = snapshot.interval_s
        try:
            status = snapshot.find(self._device.key)
        except UnknownDevice:
            status = None
        if status is None or status.health.state is HealthState.LOST:
            if not self._rate.measured:
                raise EngineError(f"{self._device.id}: the device was lost before it was loaded; see: hwdash devices")
            self._end = SoakEnd.LOST
            return None
        self._stale = status.health.state is HealthState.STALE
        if self._started is None or self._seen is None or status.sampled_at is None or status.sampled_at <= self._seen:
            return None
        self._seen, self._heard_s = status.sampled_at, self._clock.monotonic()
        sample = self._sample(status)
        self._samples.append(sample)
        self._decide(status, sample)
        return sample

    def _sample(self, status: DeviceStatus) -> SoakSample:
        # A duty tells of the time since the sample before, which for the first one lies outside the soak.
        inside = bool(self._samples)
        holding = [activity for activity in status.throttle if activity.active or (inside and activity.duty)]
        health = status.health
        suspected = "; ".join(health.reasons) or "slower than it was" if health.suspected else ""
        return SoakSample(
            at_s=self._clock.monotonic() - self._began_s,
            rate=self._rate.take(),
            temperature_c=status.number("temperature_c"),
            memory_temperature_c=status.number("memory_temperature_c"),
            power_w=status.number("power_w"),
            clock_hz=status.number("clock_hz"),
            throttle=tuple(dict.fromkeys(activity.reason.value for activity in holding)),
            duty=tuple((item.reason.value, item.duty) for item in holding if inside and item.duty is not None),
            suspected=suspected,
        )

    def _listen(self) -> None:
        """Raises `EngineError` when the device has not been seen for too long while it is loaded."""
        if self._started is None or self._end is not None or self._total_s is not None:
            return
        silent_s = self._clock.monotonic() - self._heard_s
        most_s = max(_SILENT_S, _SILENT_INTERVALS * self._interval_s)
        if self._stale:
            most_s = min(most_s, max(_STALE_S, STALE_AFTER_INTERVALS * self._interval_s))
        if silent_s > most_s:
            device = self._device.id
            raise EngineError(f"{device}: no readings for {silent_s:.0f} s; see: hwdash devices {device}")

    def _decide(self, status: DeviceStatus, sample: SoakSample) -> None:
        request, margin = self._request, status.number("temperature_margin_c")
        too_hot = margin is not None and margin <= 0.0
        if self._limit_c is not None and sample.temperature_c is not None:
            too_hot = too_hot or sample.temperature_c >= self._limit_c
        if too_hot:
            self._end = SoakEnd.TEMPERATURE
        elif request.until_throttled:
            if self._onset_s is None and throttles(sample):
                self._onset_s = sample.at_s
            after_s = min(_AFTER_ONSET_S, request.seconds * _AFTER_ONSET_SHARE)
            if self._onset_s is not None and sample.at_s >= self._onset_s + after_s:
                self._end = SoakEnd.THROTTLED

    def _done(self) -> None:
        """The load ended by itself."""
        if self._started is None or not self._rate.measured:
            raise EngineError(f"{self._device.id}: the load ended without a result; see the log")
        self._end = SoakEnd.TIME
        if self._rate.fresh:
            # What came after the last look at the device, or all of a soak that was shorter than one interval.
            self._samples.append(SoakSample(self._length_s(), self._rate.take(), watched=False))

    def _length_s(self) -> float:
        return self._clock.monotonic() - self._began_s if self._total_s is None else self._total_s

    async def _stop(self) -> None:
        """The load ends now, before its worker does: how long it took, and what the device's own counter says of it.

        That is None where it has none or did not move.
        """
        if self._total_s is not None or self._started is None:
            return
        self._total_s = self._length_s()
        sample = await self._read()
        before, after = self._joules_before, None if sample is None else present(sample.readings.get("energy_j"))
        self._joules = after - before if before is not None and after is not None and after > before else None

    async def _read(self) -> Sample | None:
        try:
            return await self._monitor.refresh(self._device.key, _READ_S)
        except UnknownDevice:
            return None

    def _report(self, started: SoakStarted, end: SoakEnd, problem: str) -> Callable[[], SoakReport]:
        """What makes the report, which takes a while where there are many samples."""
        return partial(report_of, started, tuple(self._samples), end, self._length_s(), self._joules, problem)


class _Rate:
    """Tokens or floating-point operations, and the time they took, since it was last asked.

    ``measured``: there were any at all.
    """

    def __init__(self, load: str) -> None:
        self.measured = False
        self._matmul = load == Load.MATMUL
        self._work = self._seconds = 0.0

    @property
    def fresh(self) -> bool:
        """There is something that was not asked for yet."""
        return self._seconds > 0.0

    def add(self, measured: Measured) -> None:
        """Take in *measured*."""
        work = measured.flops if self._matmul else measured.tokens
        if work > 0 and measured.ended_s > measured.began_s:
            self.measured = True
            self._work += work
            self._seconds += measured.ended_s - measured.began_s

    def take(self) -> float | None:
        """Tokens/s or FLOP/s since this was last asked; None where nothing was told since."""
        if self._seconds <= 0.0:
            return None
        rate = self._work / self._seconds
        self._work = self._seconds = 0.0
        return rate


async def _next(events: AsyncGenerator[T, None]) -> T | None:
    return await anext(events, None)
