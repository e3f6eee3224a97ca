"""``hwdash soak``: a device under full load for a while, alone, and how it stands that."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from hwdash.core.clock import Clock
from hwdash.core.errors import EngineError, ModelError, UnknownModel, UsageError
from hwdash.core.health import HealthState
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.measurement import Load
from hwdash.core.model import SYNTHETIC
from hwdash.core.soak import SoakEvent, SoakHistory, SoakReport, SoakRequest
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
        self._keeping: set[asyncio.Task[None]] = set()

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

        Raises `HwdashError` when the store cannot be read.
        """
        found = (item.decoded(SoakReport) for item in await self._store.reports(SOAK, device_key, None, limit))
        return SoakHistory(tuple(report for report in found if report is not None))

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
        if (server := self._engine.standing(request.model, device).server) is not None:
            raise UsageError(
                f"{device.id}: the server {server} answers there; a soak needs a device that hwdash's own workers use",
                param="device",
            )

    def _keep(self, report: SoakReport) -> asyncio.Task[None]:
        """Store *report* in a task of its own, so that a client that leaves does not take it along."""
        stored = StoredReport.of(SOAK, report.id, report.started_at, report.device_key, report.model, report)
        task = asyncio.create_task(self._store.add_report(stored))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return task
