"""The place of one model on one device: its jobs, and the worker that runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import msgspec

from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError, Overloaded, PromptTooLong, WorkerDied
from hwdash.core.inference import PROMPT, PromptRequest, Stage, StageEvent
from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.core.text import sanitise_line
from hwdash.core.trial import DeviceTrial
from hwdash.engine.engine import Standing
from hwdash.engine.frame import FrameError
from hwdash.engine.job import Job, queued_stage
from hwdash.engine.lane import Lane
from hwdash.engine.life import Life, error_of, log_name
from hwdash.engine.message import Cancel, Done, Failed, FromWorker, Loading, Prefill, Token
from hwdash.engine.models import ModelStore
from hwdash.engine.order import Order, order_of
from hwdash.engine.room import Room
from hwdash.engine.setback import Setback
from hwdash.engine.spare import Spare

CANCEL_PATIENCE_S = 5.0
"""How long a worker that runs nothing else may take to acknowledge a cancel before it is taken for hung and killed."""

_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
_log = logging.getLogger(__name__)


class Slot:
    """Jobs and worker of one model on one device. One task serves the jobs; it exists while there is work."""

    def __init__(
        self,
        model: str,
        device: Device,
        models: ModelStore,
        config: EngineConfig,
        log_dir: Path,
        room: Room,
        spare: Spare | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.spawned = 0
        self._models = models
        self._config = config
        self._log = log_dir / log_name(device.id or device.key, model)
        self._room = room
        self._spare = spare
        self._lane = Lane(config.max_concurrent)
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._life: Life | None = None
        self._setback = Setback()
        self._state = WorkerState.STOPPED
        self._told: StageEvent | None = None
        self._cold_from = self._ready_at = self._used_at = 0.0
        self._took_s = _SHORTEST_RETRY_S
        self._closed = False

    @property
    def was_used(self) -> bool:
        """Whether a worker was ever started here, or somebody waits for one."""
        return self.spawned > 0 or (self._task is not None and not self._task.done())

    @property
    def is_busy(self) -> bool:
        """Somebody waits or is answered."""
        return bool(self._lane.jobs) or self._lane.wanted

    @property
    def idle_since(self) -> float | None:
        """Since when (``CLOCK_MONOTONIC``) its loaded model is not used; None while it is, or where none is loaded."""
        idle = self._loaded is not None and not self._lane.jobs and not self._lane.wanted and not self._closed
        return self._used_at if idle else None

    @property
    def _loaded(self) -> Life | None:
        life = self._life
        return life if life is not None and life.loaded is not None and not life.ended else None

    # What callers do

    def enqueue(self, number: int, request: PromptRequest, arrived: float) -> Job:
        """Take *request* in. Raises `Overloaded` when as many wait as may, besides those that can run at once."""
        lane = self._lane
        if lane.jobs >= self._config.max_queue + lane.places:
            raise Overloaded(
                f"{lane.jobs} requests already run or wait for {self.model} on {self.device.id}; try again later "
                "or raise engine.max_queue",
                retry_after_s=min(max(self._took_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S),
            )
        job = Job(number, request, arrived)
        if lane.jobs >= lane.places:
            job.stage(queued_stage(self.device.id, lane.jobs))
        if self._told is not None:
            backing_off = self._state is WorkerState.BACKING_OFF
            job.stage(self._setback.stage(self.device.id) if backing_off else self._told)
        lane.waiting.append(job)
        self._go()
        return job

    def withdraw(self, job: Job) -> None:
        """The caller does not want *job* any more; nothing happens when it is finished."""
        job.withdrawn = True
        if job.finished.is_set() or self._lane.drop(job):
            return
        if (life := self._life) is not None:
            life.send(Cancel(job.number))
            asyncio.get_running_loop().call_later(CANCEL_PATIENCE_S, self._insist, job, life)

    async def warm(self) -> None:
        """Return when the model is loaded. Raises what loading raises."""
        self._used_at = time.monotonic()
        warmer = self._lane.warmer()
        self._go()
        await warmer

    async def trial(self, number: int) -> DeviceTrial | None:
        """The device's precisions, tried by the idle worker; None where it is none or was wanted meanwhile.

        Raises `EngineError` where it does not answer, and `WorkerDied`.
        """
        if (life := self._loaded) is None or self.is_busy:
            return None
        device = self.device
        tried = await life.tried(number, device.capabilities.dtypes)
        if not tried.trials:
            return None
        return DeviceTrial(device.key, device.driver or "", tried.torch, SYSTEM_CLOCK.now(), tried.trials)

    def status(self) -> WorkerStatus:
        """What there is to know from outside."""
        life, lane, state = self._loaded, self._lane, self._state
        if life is not None:
            state = WorkerState.BUSY if lane.running else WorkerState.READY
        model = life.loaded if life is not None else None
        return WorkerStatus(
            device=self.device.id,
            model=self.model,
            state=state,
            pid=self._life.pid if self._life is not None else None,
            dtype=model.dtype if model is not None else None,
            queued=len(lane.waiting),
            restarts=max(0, self.spawned - 1),
            problem=self._setback.problem,
            running=len(lane.running),
            decoder=model.decoder if model is not None else "",
            choices=model.choices if model is not None else (),
            memory_bytes=model.memory_bytes if model is not None else None,
        )

    def standing(self) -> Standing:
        """How this place stands now: before and between workers nothing runs, and all who came wait."""
        lane = self._lane
        return Standing(
            loaded=self._loaded is not None, running=len(lane.running), waiting=len(lane.waiting), slots=lane.places
        )

    async def unload(self) -> None:
        """End the worker. Whoever comes meanwhile gets another one."""
        life, self._life = self._life, None
        self._state = WorkerState.STOPPED
        self._work.set()
        if life is not None:
            await self._room.part(life)

    async def close(self) -> None:
        """End the worker at once; every request that is not finished fails."""
        self._closed = True
        error = EngineError("the daemon is shutting down; send the prompt again when it is back")
        self._lane.fail_running(error)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._lane.fail_waiting(error)

    # The task

    def _go(self) -> None:
        self._work.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"worker {self.model} on {self.device.id}")
            self._task.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Task[None]) -> None:
        """Serve again, if somebody came while the last worker was being ended."""
        if self._lane.wanted and not self._closed:
            self._go()

    async def _run(self) -> None:
        lane = self._lane
        try:
            while await self._has_work():
                try:
                    await self._ensure_loaded()
                except WorkerDied as error:
                    self._setback.died(error)
                    lane.fail_first(error)
                    self._let_go()
                except HwdashError as error:
                    self._setback.problem = error.message
                    lane.fail_waiting(error)
                else:
                    if self._life is not None:
                        await self._serve(self._life)
        except Exception:  # noqa: BLE001 - nobody else would answer those who wait
            _log.exception("serving %s on %s failed", self.model, self.device.id)
            failure = EngineError("the engine failed inside; see the daemon's log")
            lane.fail_running(failure)
            lane.fail_waiting(failure)
        finally:
            await self.unload()

    async def _has_work(self) -> bool:
        """True when somebody waits; False when the worker has been idle for long enough, or there is none."""
        while not self._lane.wanted:
            self._work.clear()
            if self._loaded is None:
                return False
            keep_s = self._config.keep_alive_s
            left_s = self._used_at + keep_s - time.monotonic()
            if keep_s and left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), left_s if keep_s else None)
        return True

    async def _ensure_loaded(self) -> None:
        """Have a worker with the model loaded, unless everybody leaves meanwhile. Raises what loading raises."""
        if self._life is not None:
            return
        try:
            if delay_s := self._setback.delay_s:
                self._enter(WorkerState.BACKING_OFF, self._setback.stage(self.device.id))
                await asyncio.sleep(delay_s)
            if not self._lane.wanted:
                return
            order = await order_of(self.model, self.device, self._models, self._config)
            self.spawned += 1
            self._cold_from = time.monotonic()
            await self._room.take(lambda last: self._load(order, smaller=last), self._starting)
            self._ready_at = self._used_at = time.monotonic()
        finally:
            self._told = None
            if self._life is None:
                self._state = WorkerState.STOPPED

    async def _load(self, order: Order, *, smaller: bool) -> None:
        self._starting(self._setback.problem)
        life = self._life = Life(self.model, self.device.id, self._log, self._config, self._heard, self._work.set)
        load = order.load if smaller else msgspec.structs.replace(order.load, smaller=())
        try:
            await life.load(load, order.environment, self._spare)
        except BaseException:
            self._life = None
            await self._room.part(life)
            raise

    async def _serve(self, life: Life) -> None:
        """Have the worker run what there is until nobody needs it any more, or it is gone."""
        lane = self._lane
        while not life.ended:
            self._work.clear()
            lane.settle()
            while (job := lane.next()) is not None:
                self._send(job, life)
            life.need(bool(lane.running))
            if not lane.running:
                return
            await self._work.wait()
        error = await life.obituary()
        self._life, self._state = None, WorkerState.STOPPED
        self._setback.died(error)
        lane.fail_running(error)
        await self._room.part(life)
        self._let_go()

    def _send(self, job: Job, life: Life) -> None:
        job.turn_came(self._cold_from, self._ready_at)
        try:
            life.send(job.as_message())
        except FrameError as error:
            self._free(job)
            job.fail(PromptTooLong(f"the prompt cannot be sent: {error}", param="messages"))

    def _free(self, job: Job) -> None:
        del self._lane.running[job.number]
        self._took_s = job.ran_s
        if job.request.origin == PROMPT:  # what hwdash asks for itself keeps no model in memory
            self._used_at = time.monotonic()
        self._work.set()

    def _let_go(self) -> None:
        if (error := self._setback.hopeless) is not None:
            self._lane.fail_waiting(error)

    def _insist(self, job: Job, life: Life, *, last: bool = False) -> None:
        """End a worker that has not let go of *job*; while it runs others that somebody wants, it gets more time."""
        if job.finished.is_set():
            return
        if last or self._lane.forsaken:
            life.kill("did not stop when it was told to and was ended: stopped, or hung in the driver")
        else:
            more_s = max(0.0, self._config.hang_s - CANCEL_PATIENCE_S)
            asyncio.get_running_loop().call_later(more_s, lambda: self._insist(job, life, last=True))

    # What the worker says

    def _heard(self, message: FromWorker) -> None:
        if isinstance(message, Loading):
            detail = sanitise_line(message.detail, 300)
            self._enter(WorkerState.LOADING, StageEvent(Stage.LOADING, self.device.id, detail, message.progress))
            return
        job = self._lane.running.get(getattr(message, "id", None) or 0)
        if job is None:
            return
        match message:
            case Prefill():
                detail = message.detail or f"reading {message.prompt_tokens} tokens"
                job.stage(StageEvent(Stage.PREFILL, self.device.id, sanitise_line(detail, 300)))
            case Token():
                job.token(message)
            case Done():
                self._setback.over()
                self._free(job)
                loaded = self._life.loaded if self._life is not None else None
                job.done(message, loaded.dtype if loaded is not None else None)
            case Failed():
                self._free(job)
                job.fail(error_of(message))

    def _starting(self, detail: str) -> None:
        self._enter(WorkerState.STARTING, StageEvent(Stage.STARTING, self.device.id, sanitise_line(detail, 300)))

    def _enter(self, state: WorkerState, event: StageEvent) -> None:
        """Tell all who wait, and those who will come while it lasts."""
        self._state, self._told = state, event
        self._lane.tell(event)
