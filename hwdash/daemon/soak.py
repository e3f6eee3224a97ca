"""``hwdash soak``: a device under full load for a while, alone, and how it stands that."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from hwdash.core.clock import Clock
from hwdash.core.errors import EngineError, ModelError, UnknownModel, UsageError
from hwdash.core.health import HealthState
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.measurement import Load
from hwdash.core.model import SYNTHETIC
from hwdash.core.precision import loadable_dtypes
from hwdash.core.reading import Absent, is_present
from hwdash.core.soak import SoakEvent, SoakHistory, SoakReport, SoakRequest
from hwdash.core.soak_report import thinned
from hwdash.core.text import sanitise_line
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.soak_run import SoakRun
from hwdash.store.bench import SOAK, StoredReport

if TYPE_CHECKING:
    from hwdash.core.snapshot import DeviceStatus, Snapshot
    from hwdash.daemon.parts import Models
    from hwdash.engine.engine import Engine
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

_WITHOUT_DOWNLOAD = f"{SYNTHETIC}smollm2-135m"
_WHY = "a soak is running"
MOST_TOLD, _FEWEST = 36_000, 10
"""So many samples go into one answer, but no fewer than that of each report."""
_LOADS = (Load.DECODE.value, Load.MATMUL.value)


class Soaker:
    """Runs soaks, one on a device at a time, and remembers their reports.

    A soak that names no model takes *default_model* where that is on this machine, else a small one of drawn weights.
    *first_snapshot* waits for a snapshot where none was made yet.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        models: Models,
        monitor: Monitor,
        snapshots: Broadcast[Snapshot],
        ledger: Ledger,
        first_snapshot: Callable[[], Awaitable[Snapshot]],
        default_model: str,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._store = store
        self._models = models
        self._monitor = monitor
        self._snapshots = snapshots
        self._ledger = ledger
        self._first_snapshot = first_snapshot
        self._default_model = default_model
        self._clock = clock
        self._keeping: set[asyncio.Task[SoakReport]] = set()

    async def soak(self, request: SoakRequest) -> AsyncGenerator[SoakEvent, None]:
        """Load the device of *request*: stages, one `SoakStarted`, samples, one `SoakFinished`.

        Requests wait meanwhile. Closing the generator ends the load at once; what was seen until then is kept as a
        cancelled soak. Raises `UnknownDevice`, `UsageError` for a device that no worker of our own loads, `Overloaded`
        while somebody else has it alone, and what `hwdash.engine.engine.Engine.measure` raises before anything was
        measured.
        """
        status = (await self._first_snapshot()).find(request.device)
        if not request.model:
            request = replace(request, model=await self._own_model())
        self._check(request, status)
        device, gate = status.device, self._ledger.gate(status)
        busy = gate.running + gate.waiting
        words = gate.held or (f"{busy} {'request' if busy == 1 else 'requests'} before the soak" if busy else "")
        yield StageEvent(Stage.QUEUED if words else Stage.STARTING, device.id, words)
        async with gate.hold(_WHY, lasts_s=request.seconds):
            status = (await self._first_snapshot()).find(device.key)
            if status.health.state is HealthState.LOST:
                raise EngineError(f"{device.id}: the device is lost; see: hwdash devices {device.id}")
            run = SoakRun(
                request, status, uuid.uuid4().hex, self._engine, self._monitor, self._snapshots, self._keep, self._clock
            )
            async with aclosing(run.events()) as events:
                async for event in events:
                    yield event

    async def history(self, device_key: str | None, limit: int) -> SoakHistory:
        """The newest *limit* reports of the device with that key, or of all; oldest first.

        Together they have about `MOST_TOLD` samples at most: of many reports each has fewer than it was stored with.
        Raises `HwdashError` when the store cannot be read.
        """
        found = await self._store.reports(SOAK, device_key, None, limit)
        return await asyncio.to_thread(_history, found)

    async def close(self) -> None:
        """Wait until the reports that are on their way are with the store."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=1.0)

    async def _own_model(self) -> str:
        try:
            await asyncio.to_thread(self._models.resolve, self._default_model)
        except (UnknownModel, ModelError):
            return _WITHOUT_DOWNLOAD
        return self._default_model

    def _check(self, request: SoakRequest, status: DeviceStatus) -> None:
        device = status.device
        if request.load not in _LOADS:
            raise UsageError(f"load: no load {request.load!r}; there are: {', '.join(_LOADS)}", param="load")
        if device.members and request.load == Load.MATMUL:
            raise UsageError(
                f"load: matrix products run on one device at a time, and {device.id} is {len(device.members)}; soak them "
                f"one by one, or use --load {Load.DECODE.value}",
                param="load",
            )
        if not device.capabilities.inference:
            raise UsageError(
                f"{device.id}: hwdash cannot run models on it, so it cannot be loaded; see: hwdash devices {device.id}",
                param="device",
            )
        known = loadable_dtypes(device)
        if request.dtype is not None and request.load == Load.DECODE and request.dtype not in known:
            raise UsageError(
                f"dtype: {device.id} does not compute in {sanitise_line(request.dtype, 20)}; there are: {', '.join(known)}",
                param="dtype",
            )
        temperature = status.readings.get("temperature_c")
        if (
            request.max_temperature_c is not None
            and not is_present(temperature)
            and temperature is not Absent.SUSPENDED
        ):
            raise UsageError(
                f"max_temperature_c: {device.id} tells no temperature, so none can end the soak; leave it out, and choose "
                "seconds so that the load may last them",
                param="max_temperature_c",
            )
        if (server := self._engine.standing(request.model, device).server) is not None:
            raise UsageError(
                f"{device.id}: the server {sanitise_line(server)} answers there; a soak needs a device that hwdash's own workers use",
                param="device",
            )

    def _keep(self, make: Callable[[], SoakReport]) -> asyncio.Task[SoakReport]:
        """Make a report and store it in a task of its own, so that a client that leaves does not take it along."""
        task = asyncio.create_task(self._kept(make))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return task

    async def _kept(self, make: Callable[[], SoakReport]) -> SoakReport:
        report, stored = await asyncio.to_thread(_stored, make)
        await self._store.add_report(stored)
        return report


def _stored(make: Callable[[], SoakReport]) -> tuple[SoakReport, StoredReport]:
    report = make()
    return report, StoredReport.of(SOAK, report.id, report.started_at, report.device_key, report.model, report)


def _history(found: Sequence[StoredReport]) -> SoakHistory:
    most = max(_FEWEST, MOST_TOLD // max(1, len(found)))
    reports = (item.decoded(SoakReport) for item in found)
    return SoakHistory(
        tuple(replace(report, samples=thinned(report.samples, most)) for report in reports if report is not None)
    )
