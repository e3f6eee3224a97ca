"""A worker of its own for one plan of measurements, from its start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import msgspec

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, UsageError
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.measurement import Measured, MeasurePlan, MeasureReport, Task, TaskReport
from hwdash.core.precision import loadable_dtypes
from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.core.text import sanitise_line
from hwdash.engine.life import Life, error_of, log_name
from hwdash.engine.message import Failed, FromWorker, Loading, Measure, Report
from hwdash.engine.models import ModelStore
from hwdash.engine.order import Order, order_of
from hwdash.engine.room import Room

_Event: TypeAlias = StageEvent | Report | Failed | None
"""What happens to a measurement; None: the loading has come to its end, or after it the worker has."""


class Measurement:
    """Runs *plan* on *device* once. The worker ends with the iterator of `reports`, or with `close`."""

    def __init__(
        self, plan: MeasurePlan, device: Device, models: ModelStore, config: EngineConfig, log_dir: Path, room: Room
    ) -> None:
        self._plan = plan
        self._device = device
        self._models = models
        self._config = config
        self._log = log_dir / log_name("measuring", device.id or device.key, plan.model)
        self._room = room
        self._life: Life | None = None
        self._state = WorkerState.STARTING
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    def status(self) -> WorkerStatus:
        """What there is to know from outside."""
        life = self._life
        model = life.loaded if life is not None else None
        return WorkerStatus(
            device=self._device.id,
            model=self._plan.model,
            state=self._state,
            pid=life.pid if life is not None else None,
            dtype=model.dtype if model is not None else None,
            running=int(self._state is WorkerState.BUSY),
            decoder=model.decoder if model is not None else "",
            choices=model.choices if model is not None else (),
            memory_bytes=model.memory_bytes if model is not None else None,
        )

    async def reports(self) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Stages, one `LoadedModel`, then the reports of all tasks in order.

        Raises what loading raises, `UsageError` for a precision that the device does not have, and `WorkerDied`.
        """
        order = self._in_dtype(await order_of(self._plan.model, self._device, self._models, self._config))
        self._check_open()
        try:
            self._loading = asyncio.create_task(self._room.take(lambda last: self._load(order, last), self._starting))
            self._loading.add_done_callback(lambda _: self._events.put_nowait(None))
            while (event := await self._events.get()) is not None:
                if isinstance(event, StageEvent):
                    yield event
            await self._loading
            self._check_open()
            life = self._life
            assert life is not None
            assert life.loaded is not None
            yield life.loaded
            self._state = WorkerState.BUSY
            for number, task in enumerate(self._plan.tasks):
                async with aclosing(self._run(life, number + 1, task)) as found:
                    async for measured in found:
                        yield TaskReport(number, measured)
        except asyncio.CancelledError:
            if self._loading is not None and self._loading.cancelled():
                self._check_open()
            raise
        finally:
            await self._end()

    async def close(self) -> None:
        """End the worker at once; who reads the reports gets an `EngineError`."""
        self._closed = True
        await self._end()

    async def _load(self, order: Order, last: bool) -> None:
        self._starting("")
        load = order.load if last else msgspec.structs.replace(order.load, smaller=())
        life = self._life = Life(self._plan.model, self._device.id, self._log, self._config, self._heard, self._gone)
        try:
            await life.load(load, order.environment)
        except BaseException:
            self._life = None
            await self._room.part(life, at_once=True)
            raise

    def _in_dtype(self, order: Order) -> Order:
        """*order* with a place for the largest batch, in the plan's own precision where it names one."""
        load = msgspec.structs.replace(order.load, slots=max([1, *(task.batch for task in self._plan.tasks)]))
        if (dtype := self._plan.dtype) is not None:
            known = loadable_dtypes(self._device)
            if dtype not in known:
                raise UsageError(
                    f"{self._device.id} does not compute in {dtype!r}; there are: {', '.join(known)}", param="dtype"
                )
            eight = dtype == "int8"
            load = msgspec.structs.replace(load, dtype="fp32" if eight else dtype, smaller=(), quantize=eight)
        return Order(load, order.environment)

    async def _run(self, life: Life, number: int, task: Task) -> AsyncGenerator[Measured, None]:
        life.send(Measure(number, task))
        patience_s = self._config.load_timeout_s
        if task.seconds is not None:
            patience_s = self._config.hang_s + task.report_s
        while not (life.ended and self._events.empty()):
            try:
                event = await asyncio.wait_for(self._events.get(), patience_s)
            except TimeoutError:
                life.kill(
                    f"told nothing for {patience_s:g} s while it measured and was ended: stopped, or hung in the driver"
                )
                raise await life.obituary() from None
            if isinstance(event, Failed):
                raise error_of(event)
            if isinstance(event, Report) and event.id == number:
                yield event.measured
                if event.measured.last:
                    return
        self._check_open()
        raise await life.obituary()

    async def _end(self) -> None:
        self._state = WorkerState.STOPPED
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})
        life, self._life = self._life, None
        if life is not None:
            await self._room.part(life, at_once=True)

    def _heard(self, message: FromWorker) -> None:
        if isinstance(message, Loading):
            self._state = WorkerState.LOADING
            detail = sanitise_line(message.detail, 300)
            self._events.put_nowait(StageEvent(Stage.LOADING, self._device.id, detail, message.progress))
        elif isinstance(message, Report | Failed):
            self._events.put_nowait(message)

    def _gone(self) -> None:
        if self._loading is not None and self._loading.done():
            self._events.put_nowait(None)

    def _starting(self, detail: str) -> None:
        self._state = WorkerState.STARTING
        self._events.put_nowait(StageEvent(Stage.STARTING, self._device.id, detail))

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the daemon is shutting down; measure again when it is back")
