"""The life of one worker: started, loaded, watched while it is needed, ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from hwdash.core.config import EngineConfig
from hwdash.core.errors import EngineError, HwdashError, WorkerDied, error_from_wire
from hwdash.core.measurement import LoadedModel
from hwdash.core.text import sanitise_line
from hwdash.engine.message import Cancel, Failed, FromWorker, Load, Ping, Pong, Ready, ToWorker, Tried, Try
from hwdash.engine.process import WorkerProcess
from hwdash.engine.spare import FIRST_WORD_S, Spare
from hwdash.engine.watch import Watch

_END_PATIENCE_S = 0.15
_log = logging.getLogger(__name__)


def log_name(*words: str) -> str:
    """The name of a worker's log, made of *words* that may hold anything."""
    return f"worker-{re.sub(r'[^A-Za-z0-9._-]+', '-', '-'.join(words))[-100:]}.log"


class Life:
    """One worker for *model* on the device of id *device*, whose output goes to *log*.

    *heard* gets what it says once and while it loads, but for what only this module needs; *gone* is called once, when
    it cannot be talked to any more, for whatever reason.
    """

    def __init__(
        self,
        model: str,
        device: str,
        log: Path,
        config: EngineConfig,
        heard: Callable[[FromWorker], None],
        gone: Callable[[], None],
    ) -> None:
        self.model = model
        self.device = device
        self.loaded: LoadedModel | None = None
        self._log = log
        self._config = config
        self._tell = heard
        self._tell_gone = gone
        self._process = WorkerProcess(self._heard, self._gone, log)
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._trials: dict[int, asyncio.Future[Tried]] = {}
        self._pings = itertools.count(1)
        self._watch = Watch(lambda: self.send(Ping(next(self._pings))), self._hung, config.hang_s)

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """It cannot be talked to any more."""
        return self._process.ended.is_set()

    @property
    def alive(self) -> bool:
        """Its process exists, though it may have ended for us."""
        return self._process.alive

    async def load(self, message: Load, environment: Mapping[str, str], spare: Spare | None = None) -> LoadedModel:
        """Start the process, or take that of *spare*, and have it load the model.

        One that says nothing to that within `FIRST_WORD_S`, or ``engine.hang_s`` where that is less, is ended, and a process
        is started instead. Raises what loading raises, and `WorkerDied`.
        """
        try:
            with contextlib.nullcontext() if spare is None else spare.held_back():
                await self._begin(message, environment, spare)
                ready = await asyncio.wait_for(self._ready, self._config.load_timeout_s)
        except TimeoutError:
            raise EngineError(
                f"{self.model} was not loaded on {self.device} within {self._config.load_timeout_s:g} s; "
                f"see {self._process.log} or raise engine.load_timeout_s"
            ) from None
        except ConnectionResetError:
            raise await self.obituary() from None
        self.loaded = replace(ready.model, start_s=self._process.first_word_s)
        return self.loaded

    async def _begin(self, message: Load, environment: Mapping[str, str], spare: Spare | None) -> None:
        process = spare.take(environment) if spare is not None else None
        if process is None:
            await self._process.start(environment)
            self.send(message)
        elif not await self._takes_over(process, message, environment):
            self._process = WorkerProcess(self._heard, self._gone, self._log)
            await self._process.start(environment)
            self.send(message)

    async def _takes_over(self, process: WorkerProcess, message: Load, environment: Mapping[str, str]) -> bool:
        """Have *process*, which was a spare, load; False where it says nothing to that, and was ended."""
        self._process = process
        await process.hand_over(self._heard, self._gone, self._log)
        self.send(msgspec.structs.replace(message, environment=dict(environment), log=str(self._log)))
        patience_s = min(FIRST_WORD_S, self._config.hang_s)
        # One that still imports its libraries cannot listen before it has them.
        listens = process.prepared or await process.speaks(self._config.hang_s)
        if listens and await process.speaks(patience_s):
            return True
        _log.warning("the spare worker said nothing when it was to load %s and was ended: stopped, or hung", self.model)
        process.disown()
        process.kill()
        await process.end(_END_PATIENCE_S)
        return False

    async def tried(self, number: int, dtypes: tuple[str, ...]) -> Tried:
        """What comes of trying *dtypes* as request *number*, which is called off when the caller is cancelled.

        Raises `EngineError` when no answer comes, and `WorkerDied`.
        """
        answer = self._trials[number] = asyncio.get_running_loop().create_future()
        self.send(Try(number, dtypes))
        try:
            return await asyncio.wait_for(answer, self._config.hang_s)
        except TimeoutError:
            raise EngineError(
                f"{self.device} did not try its precisions within {self._config.hang_s:g} s; see {self._process.log}"
            ) from None
        except ConnectionResetError:
            raise await self.obituary() from None
        finally:
            del self._trials[number]
            if answer.cancelled():
                self.send(Cancel(number))

    def send(self, message: ToWorker) -> None:
        """Send *message*; nothing happens when the worker is gone. Raises `FrameError` for what cannot be sent."""
        self._process.send(message)

    def need(self, needed: bool) -> None:
        """Whether somebody needs an answer from now on: a worker that says nothing then is killed."""
        if needed and not self.ended:
            self._watch.start()
        else:
            self._watch.stop()

    def kill(self, reason: str) -> None:
        """End it at once, because of *reason*: the end of the sentence "the worker …"."""
        _log.warning("the worker for %s on %s %s", self.model, self.device, reason)
        self._process.kill(reason)

    async def end(self, *, at_once: bool = False) -> None:
        """Let it end by itself for a moment, unless *at_once*, then kill it. Returns when it is gone or does not go."""
        self._watch.stop()
        if at_once:
            self._process.kill()
        await self._process.end(_END_PATIENCE_S)

    async def gone(self, patience_s: float) -> bool:
        """Whether its process has gone within *patience_s*."""
        return await self._process.gone(patience_s)

    async def obituary(self) -> WorkerDied:
        """The error for whoever needed it."""
        cause = await self._process.cause_of_death()
        return WorkerDied(f"the worker for {self.model} on {self.device} {cause}; see {self._process.log}")

    def _heard(self, message: FromWorker) -> None:
        self._watch.heard()
        match message:
            case Pong():
                pass
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(message)
            case Tried():
                if (answer := self._trials.get(message.id)) is not None and not answer.done():
                    answer.set_result(message)
            case Failed(id=None):
                if not self._ready.done():
                    self._ready.set_exception(error_of(message))
            case _:
                self._tell(message)

    def _gone(self) -> None:
        self._watch.stop()
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError())
            self._ready.exception()  # nobody waits for it where the process ends before the load was sent
        for answer in self._trials.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())
        self._tell_gone()

    def _hung(self) -> None:
        self.kill(f"did not answer for {self._config.hang_s:g} s and was ended: stopped, or hung in the driver")


def error_of(message: Failed) -> HwdashError:
    """The error that a worker tells of."""
    return error_from_wire(message.code, sanitise_line(message.message, 500), message.param)
