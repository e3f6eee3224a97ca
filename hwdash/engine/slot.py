"""The place of one worker: one model on one device, with its queue, its restarts and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from pathlib import Path

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError, Overloaded, PromptTooLong, WorkerDied, error_from_wire
from hwdash.core.inference import PromptRequest, Stage, StageEvent
from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.core.text import sanitise_line
from hwdash.engine.engine import Standing
from hwdash.engine.frame import FrameError
from hwdash.engine.job import Job, queued_stage
from hwdash.engine.message import Cancel, Done, Failed, FromWorker, Load, Loading, Prefill, Ready, Token
from hwdash.engine.models import ModelStore
from hwdash.engine.placement import placement_of
from hwdash.engine.process import WorkerProcess

CANCEL_PATIENCE_S = 5.0
"""How long a worker may take to acknowledge a cancel before it is taken for hung and killed."""

_END_PATIENCE_S = 0.15
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.5, 30.0
_FORGIVEN_DEATHS = 2
"""Deaths in a row after which those who wait are kept waiting for the next worker; after more they are let go."""
_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
_log = logging.getLogger(__name__)


class Slot:
    """Queue and worker of one model on one device. One task serves the queue; it exists while there is work."""

    def __init__(self, model: str, device: Device, models: ModelStore, config: EngineConfig, log_dir: Path) -> None:
        self.model = model
        self.device = device
        self.spawned = 0
        self._models = models
        self._config = config
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{device.id or device.key}-{model}")[-100:]
        self._log = log_dir / f"worker-{name}.log"
        self._waiting: deque[Job] = deque()
        self._warmers: list[asyncio.Future[None]] = []
        self._running: Job | None = None
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: WorkerProcess | None = None
        self._loaded: asyncio.Future[Ready] | None = None
        self._ready: Ready | None = None
        self._state = WorkerState.STOPPED
        self._problem = ""
        self._failures = 0
        self._not_before = 0.0
        self._cold_from = self._ready_at = 0.0
        self._took_s = _SHORTEST_RETRY_S
        self._closed = False

    @property
    def was_used(self) -> bool:
        """Whether a worker was ever started here, or somebody waits for one."""
        return self.spawned > 0 or (self._task is not None and not self._task.done())

    # What callers do

    def enqueue(self, number: int, request: PromptRequest, arrived: float) -> Job:
        """Take *request* into the queue. Raises `Overloaded` when it is full."""
        before = len(self._waiting)
        if before >= self._config.max_queue:
            raise Overloaded(
                f"{before} requests already wait for {self.model} on {self.device.id}; try again later "
                "or raise engine.max_queue",
                retry_after_s=min(max(self._took_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S),
            )
        job = Job(number, request, arrived)
        if before := before + (self._running is not None):
            job.stage(queued_stage(self.device.id, before))
        self._waiting.append(job)
        if self._state is WorkerState.BACKING_OFF:
            job.stage(self._back_off_stage())
        self._go()
        return job

    def withdraw(self, job: Job) -> None:
        """The caller does not want *job* any more; nothing happens when it is finished."""
        if job.finished.is_set():
            return
        if job is self._running and self._process is not None:
            self._process.send(Cancel(job.number))
            asyncio.get_running_loop().call_later(CANCEL_PATIENCE_S, self._kill_if_hung, job)
        elif job in self._waiting:
            self._waiting.remove(job)

    async def warm(self) -> None:
        """Return when the model is loaded. Raises what loading raises."""
        waiter = asyncio.get_running_loop().create_future()
        self._warmers.append(waiter)
        self._go()
        await waiter

    def status(self) -> WorkerStatus:
        """What there is to know from outside."""
        return WorkerStatus(
            device=self.device.id,
            model=self.model,
            state=self._state,
            pid=self._process.pid if self._process is not None else None,
            dtype=self._ready.model.dtype if self._ready is not None else None,
            queued=len(self._waiting),
            restarts=max(0, self.spawned - 1),
            problem=self._problem,
        )

    def standing(self) -> Standing:
        """How this place stands now: before and between workers nothing runs, and all who came wait."""
        loaded = self._ready is not None and self._process is not None and not self._process.ended.is_set()
        return Standing(loaded=loaded, running=int(self._running is not None), waiting=len(self._waiting))

    async def close(self) -> None:
        """End the worker at once; every request that is not finished fails."""
        self._closed = True
        error = EngineError("the daemon is shutting down; send the prompt again when it is back")
        if self._running is not None:
            self._running.fail(error)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._fail_waiting(error)

    # The task

    def _go(self) -> None:
        self._work.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"worker {self.model} on {self.device.id}")
            self._task.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Task[None]) -> None:
        """Serve again, if somebody came while the last worker was being ended."""
        if (self._waiting or self._warmers) and not self._closed:
            self._go()

    async def _run(self) -> None:
        try:
            while await self._has_work():
                try:
                    await self._ensure_ready()
                except WorkerDied as error:
                    self._settle_warmers(error)
                    if self._waiting:
                        self._waiting.popleft().fail(error)
                    self._let_go()
                except HwdashError as error:
                    self._problem = error.message
                    self._fail_waiting(error)
                else:
                    if self._ready is not None:
                        self._settle_warmers(None)
                        if self._waiting:
                            await self._serve(self._waiting.popleft())
        except Exception:  # noqa: BLE001 - nobody else would answer those who wait
            _log.exception("serving %s on %s failed", self.model, self.device.id)
            failure = EngineError("the engine failed inside; see the daemon's log")
            if self._running is not None:
                self._running.fail(failure)
            self._fail_waiting(failure)
        finally:
            self._running = None
            await self._end_worker()

    async def _has_work(self) -> bool:
        """True when somebody waits; False when the worker has been idle for long enough, or there is none."""
        while not (self._waiting or self._warmers):
            self._work.clear()
            if self._process is None or self._process.ended.is_set():
                return False
            self._state = WorkerState.READY
            try:
                await asyncio.wait_for(self._work.wait(), self._config.keep_alive_s or None)
            except TimeoutError:
                return bool(self._waiting or self._warmers)
        return True

    async def _ensure_ready(self) -> None:
        """Have a worker with the model loaded, unless everybody leaves meanwhile. Raises what loading raises."""
        if self._ready is not None and self._process is not None:
            if not self._process.ended.is_set():
                return
            await self._bury(self._process)
        await self._back_off()
        if not (self._waiting or self._warmers):
            return
        self._cold_from = time.monotonic()
        self._enter(WorkerState.STARTING, Stage.STARTING, self._problem)
        directory = await asyncio.to_thread(self._models.resolve, self.model)
        placement = placement_of(self.device)
        process = self._process = WorkerProcess(self._heard, self._gone, self._log)
        loaded = self._loaded = asyncio.get_running_loop().create_future()
        try:
            await process.start(placement.environment)
            self.spawned += 1
            process.send(
                Load(
                    str(directory),
                    self.model,
                    placement.torch_device,
                    placement.dtype,
                    placement.threads,
                    placement.module,
                    placement.smaller,
                    placement.architecture,
                )
            )
            self._ready = await asyncio.wait_for(loaded, self._config.load_timeout_s)
        except TimeoutError:
            raise EngineError(
                f"{self.model} was not loaded on {self.device.id} within {self._config.load_timeout_s:g} s; "
                f"see {self._log} or raise engine.load_timeout_s"
            ) from None
        except ConnectionResetError:
            raise await self._bury(process) from None
        finally:
            self._loaded = None
            if self._ready is None:
                await self._end_worker()
        self._ready_at = time.monotonic()

    async def _back_off(self) -> None:
        delay = self._not_before - time.monotonic()
        if delay > 0:
            self._state = WorkerState.BACKING_OFF
            for job in self._waiting:
                job.stage(self._back_off_stage())
            await asyncio.sleep(delay)

    def _back_off_stage(self) -> StageEvent:
        delay = max(0.0, self._not_before - time.monotonic())
        detail = sanitise_line(f"{self._problem}; next try in {delay:.1f} s", 300)
        return StageEvent(Stage.STARTING, self.device.id, detail)

    async def _serve(self, job: Job) -> None:
        assert self._process is not None
        process = self._process
        self._running, self._state = job, WorkerState.BUSY
        job.turn_came(self._cold_from, self._ready_at)
        try:
            process.send(job.as_message())
        except FrameError as error:
            self._free()
            job.fail(PromptTooLong(f"the prompt cannot be sent: {error}", param="messages"))
        if process.ended.is_set():
            job.finished.set()
        began = time.monotonic()
        await job.finished.wait()
        self._running = None
        self._took_s = time.monotonic() - began
        if process.ended.is_set():
            job.fail(await self._bury(process))
            self._let_go()

    async def _bury(self, process: WorkerProcess) -> WorkerDied:
        """The worker is dead: remember why, and when the next may start. The error for whoever needed it."""
        cause = await process.cause_of_death()
        self._failures += 1
        delay = min(_FIRST_BACK_OFF_S * 2 ** (self._failures - 1), _LONGEST_BACK_OFF_S)
        self._not_before = time.monotonic() + delay
        self._problem = f"the worker for {self.model} on {self.device.id} {cause}; see {self._log}"
        _log.warning("%s", self._problem)
        self._process = self._ready = None
        self._state = WorkerState.STOPPED
        return WorkerDied(self._problem)

    def _let_go(self) -> None:
        """Fail those who wait once workers die again and again: another device may answer them."""
        if self._failures > _FORGIVEN_DEATHS:
            self._fail_waiting(WorkerDied(f"{self._problem}; {self._failures} died in a row"))

    async def _end_worker(self) -> None:
        process, self._process, self._ready = self._process, None, None
        self._state = WorkerState.STOPPED
        if process is not None:
            await process.end(_END_PATIENCE_S)

    # What the worker says

    def _heard(self, message: FromWorker) -> None:
        job = self._running
        match message:
            case Loading():
                self._enter(WorkerState.LOADING, Stage.LOADING, message.detail, message.progress)
            case Ready() if self._loaded is not None and not self._loaded.done():
                self._loaded.set_result(message)
            case Failed(id=None) if self._loaded is not None and not self._loaded.done():
                self._loaded.set_exception(_error_of(message))
            case Prefill() if job is not None and job.number == message.id:
                detail = message.detail or f"reading {message.prompt_tokens} tokens"
                job.stage(StageEvent(Stage.PREFILL, self.device.id, detail))
            case Token() if job is not None and job.number == message.id:
                job.token(message)
            case Done() if job is not None and job.number == message.id:
                self._failures, self._problem = 0, ""
                self._free()
                job.done(message, self._ready.model.dtype if self._ready is not None else None)
            case Failed() if job is not None and job.number == message.id:
                self._free()
                job.fail(_error_of(message))

    def _free(self) -> None:
        self._running, self._state = None, WorkerState.READY

    def _gone(self) -> None:
        """The process ended, by itself or by us: wake whoever waits for it."""
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(ConnectionResetError())
        if self._running is not None:
            self._running.finished.set()
        self._state = WorkerState.STOPPED
        self._work.set()

    def _kill_if_hung(self, job: Job) -> None:
        if job is self._running and not job.finished.is_set() and self._process is not None:
            _log.warning("the worker for %s on %s does not stop; killing it", self.model, self.device.id)
            self._process.kill()

    def _enter(self, state: WorkerState, stage: Stage, detail: str, progress: float | None = None) -> None:
        self._state = state
        event = StageEvent(stage, self.device.id, sanitise_line(detail, 300), progress)
        for job in self._waiting:
            job.stage(event)

    def _fail_waiting(self, error: HwdashError) -> None:
        self._settle_warmers(error)
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _settle_warmers(self, error: HwdashError | None) -> None:
        for waiter in self._warmers:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error_from_wire(error.code, error.message, error.param))
        self._warmers.clear()


def _error_of(message: Failed) -> HwdashError:
    return error_from_wire(message.code, sanitise_line(message.message, 500), message.param)
