"""``hwdash bench``: how fast a device is with a model, alone, in one precision after another."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from hwdash import __version__
from hwdash.core.bench import BenchEvent, BenchFinished, BenchHistory, BenchReport, BenchRequest, BenchStep
from hwdash.core.clock import Clock
from hwdash.core.device import Device, DeviceKind
from hwdash.core.errors import EngineError, HwdashError, NoSuitableDevice, UsageError
from hwdash.core.health import HealthState
from hwdash.core.inference import AUTO
from hwdash.core.precision import loadable_dtypes
from hwdash.core.ranking import Ranking, nothing_text
from hwdash.core.requirement import Requirements
from hwdash.core.text import sanitise_line
from hwdash.daemon.bench_compare import MOST_EARLIER, compare
from hwdash.daemon.bench_energy import EnergyTrace
from hwdash.daemon.bench_run import BenchRun, Place
from hwdash.daemon.group_bracket import SCOPE
from hwdash.daemon.idle import IDLE_UTILIZATION
from hwdash.daemon.ledger import Ledger
from hwdash.store.bench import BENCH, StoredReport

if TYPE_CHECKING:
    from hwdash.core.snapshot import DeviceStatus, Snapshot
    from hwdash.engine.engine import Engine
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

log = logging.getLogger(__name__)

ALL = "all"
"""Stands for the device's own choice and all other precisions that models are loaded in there."""
_WHY = "a bench is running"


class Bencher:
    """Runs benches, one on a device at a time, and compares each with the device's earlier ones.

    *rank* ranks devices as `hwdash.daemon.service.Service.rank` does; *first_snapshot* waits for a snapshot where none
    was made yet. Where a device counts its energy, its idle power is taken over ``idle_s`` seconds before the model is
    loaded, and the energy of a token over ``energy_s``: the counter moves only every 0.1 s.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        monitor: Monitor,
        snapshots: Broadcast[Snapshot],
        ledger: Ledger,
        rank: Callable[[Requirements], Awaitable[Ranking]],
        first_snapshot: Callable[[], Awaitable[Snapshot]],
        clock: Clock,
    ) -> None:
        self.idle_s = 3.0
        self.energy_s = 2.5
        self._engine = engine
        self._store = store
        self._monitor = monitor
        self._snapshots = snapshots
        self._ledger = ledger
        self._rank = rank
        self._first_snapshot = first_snapshot
        self._clock = clock
        self._keeping: set[asyncio.Task[None]] = set()

    async def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        """Measure what *request* asks for: stages and steps, then one `BenchFinished`.

        Requests wait meanwhile. Closing the generator ends everything at once; nothing is kept then. A precision that
        fails is told with its problem; when none gave a figure, the error of the first is raised. Raises `UnknownDevice`,
        `UnknownModel`, `ModelError`, `NoSuitableDevice`, `UsageError` for a device that no worker of our own drives and
        for a precision that it does not have, `Overloaded` while somebody else has it alone, `EngineError`.
        """
        status = await self._status(request)
        device = status.device
        dtypes = _dtypes(device, request.dtypes)
        await self._engine.check(request.model, device)
        gate = self._ledger.gate(status)
        if gate.running and not gate.barred:
            count = f"{gate.running} {'request' if gate.running == 1 else 'requests'}"
            yield BenchStep(device.id, f"waiting for {count} before the bench", 0.0)
        async with gate.hold(_WHY, await self._lasts_s(device, request, len(dtypes))):
            started_at, began_s = self._clock.now(), self._clock.monotonic()
            yield BenchStep(device.id, "looking at the idle device", 0.0)
            place = await self._place(status)
            runs: list[BenchRun] = []
            async with aclosing(self._runs(request, dtypes, place, runs)) as events:
                async for event in events:
                    yield event
            report = BenchReport(
                id=uuid.uuid4().hex,
                started_at=started_at,
                total_s=self._clock.monotonic() - began_s,
                device=device.id,
                device_key=device.key,
                device_name=device.name,
                model=request.model,
                energy_scope=_scope(device) if place.energy_s is not None else None,
                copy_bytes_per_s=max(filter(None, (run.copy_bytes_per_s for run in runs)), default=None),
                versions=await asyncio.to_thread(_versions, device),
                dtypes=tuple(run.figures for run in runs),
            )
        yield BenchFinished(await self._concluded(report))

    async def history(self, device_key: str | None, model: str | None, limit: int) -> BenchHistory:
        """The newest *limit* reports, oldest first, of the device with that key and *model*, or of all.

        Raises `HwdashError` when the store cannot be read.
        """
        found = await self._store.reports(BENCH, device_key, model, limit)
        return await asyncio.to_thread(_history, found)

    async def close(self) -> None:
        """Wait until the reports that are on their way are with the store."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=1.0)

    async def _lasts_s(self, device: Device, request: BenchRequest, dtypes: int) -> float | None:
        """About how long a bench of so many *dtypes* takes: as the newest one of that device and model; None without one."""
        try:
            earlier = (await self.history(device.key, request.model, 1)).reports
        except HwdashError:
            return None
        return earlier[0].total_s * dtypes / len(earlier[0].dtypes) if earlier and earlier[0].dtypes else None

    async def _runs(
        self, request: BenchRequest, dtypes: tuple[str | None, ...], place: Place, runs: list[BenchRun]
    ) -> AsyncGenerator[BenchEvent, None]:
        """One run after the other, each into *runs*. Raises the first error when none of them gave a figure."""
        first: EngineError | None = None
        for number, dtype in enumerate(dtypes):
            # The device's own choice is one of those that `ALL` names besides it.
            if any(run.figures.dtype == dtype for run in runs):
                continue
            run = BenchRun(request, dtype, place, number / len(dtypes), 1.0 / len(dtypes))
            runs.append(run)
            try:
                async with aclosing(run.events()) as events:
                    async for event in events:
                        yield event
            except EngineError as error:
                run.failed(error)
                first = first or error
            if run.lost:
                break
        if not any(run.measured for run in runs):
            problem = next((run.figures.problem for run in runs if run.figures.problem), "see the log")
            raise first or EngineError(f"{place.device.id}: nothing could be measured: {problem}")

    async def _status(self, request: BenchRequest) -> DeviceStatus:
        """The device that *request* names, or the best one that our own workers drive."""
        snapshot = await self._first_snapshot()
        if request.device == AUTO:
            return await self._best(request.model, snapshot)
        status = snapshot.find(request.device)
        device = status.device
        if (server := self._engine.standing(request.model, device).server) is not None:
            raise UsageError(
                f"{device.id}: the server {sanitise_line(server)} answers there; a bench needs a device that hwdash's own "
                "workers use",
                param="device",
            )
        if not device.capabilities.inference:
            raise UsageError(
                f"{device.id}: hwdash cannot run models on it, so there is nothing to measure; see: hwdash devices",
                param="device",
            )
        if status.health.state is HealthState.LOST:
            raise EngineError(f"{device.id}: the device is lost; see: hwdash devices")
        return status

    async def _best(self, model: str, snapshot: Snapshot) -> DeviceStatus:
        ranking = await self._rank(Requirements(model=model))
        for item in ranking.ranked:
            status = snapshot.find(item.device)
            standing = self._engine.standing(model, status.device)
            if standing.server is None and not standing.problem:
                return status
        if ranking.ranked:
            raise NoSuitableDevice(
                f"only external servers answer for {model}; a bench needs a device that hwdash's own workers use",
                param="device",
            )
        raise NoSuitableDevice(nothing_text(ranking.excluded), param="device")

    async def _place(self, status: DeviceStatus) -> Place:
        """What is known of the device before anything is loaded; looking at its idle power takes a while."""
        device, idle_w, energy_s = status.device, None, None
        trace = EnergyTrace(self._monitor, device.key)
        if await trace.read():
            energy_s = self.energy_s
            await asyncio.sleep(self.idle_s)
            await trace.read()
            latest = self._snapshots.latest
            used = None if latest is None else latest.find(device.key).number("utilization")
            if used is None or used <= IDLE_UTILIZATION:
                idle_w = trace.watts()
        return Place(self._engine, self._monitor, self._snapshots, self._clock, device, energy_s, idle_w)

    async def _concluded(self, report: BenchReport) -> BenchReport:
        """*report* with its comparisons; it is stored, in a task of its own, unless the disk fails."""
        try:
            earlier = await self.history(report.device_key, report.model, MOST_EARLIER)
            comparisons = await asyncio.to_thread(compare, report, earlier.reports)
            report = replace(report, comparisons=comparisons)
        except HwdashError as error:
            log.warning("a bench is not compared with earlier ones: %s", error.message)
        task = asyncio.create_task(self._kept(report))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        await asyncio.shield(task)
        return report

    async def _kept(self, report: BenchReport) -> None:
        stored = await asyncio.to_thread(
            StoredReport.of, BENCH, report.id, report.started_at, report.device_key, report.model, report
        )
        await self._store.add_report(stored)


def _history(found: Sequence[StoredReport]) -> BenchHistory:
    reports = (item.decoded(BenchReport) for item in found)
    return BenchHistory(tuple(report for report in reports if report is not None))


def _scope(device: Device) -> str:
    if device.members:
        return SCOPE
    return "package" if device.kind is DeviceKind.CPU else "device"


def _dtypes(device: Device, asked: tuple[str, ...]) -> tuple[str | None, ...]:
    """The precisions to try, None for the device's own choice. Raises `UsageError` for one that it does not have."""
    if not asked:
        return (None,)
    known = loadable_dtypes(device)
    for dtype in asked:
        if dtype != ALL and dtype not in known:
            raise UsageError(
                f"dtypes: {device.id} does not compute in {sanitise_line(dtype, 20)}; there are: {', '.join(known)}, "
                f"and {ALL}",
                param="dtypes",
            )
    if ALL in asked:
        native = {*device.capabilities.dtypes, "fp32", "int8"}
        return (None, *(dtype for dtype in known if dtype in native))
    return tuple(dict.fromkeys(asked))


def _versions(device: Device) -> tuple[tuple[str, str], ...]:
    """What was measured with. Reads files."""
    # Here, because the daemon starts without it.
    from importlib.metadata import PackageNotFoundError, version

    found = [("driver", device.driver)] if device.driver else []
    for name in ("torch", "transformers"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return (*found, ("hwdash", __version__))
