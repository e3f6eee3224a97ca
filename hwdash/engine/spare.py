"""One worker more than are needed: it has imported its libraries, and waits for whatever model is loaded next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hwdash.core.errors import EngineError
from hwdash.engine.message import Prepare
from hwdash.engine.placement import early_environment
from hwdash.engine.process import WorkerProcess

_FIRST_S = 2.0
"""A daemon that starts has other things to do, and perhaps a model to load."""
_QUIET_S, _LOOK_S = 10.0, 0.25
"""After a model was loaded its first answers come first, for so long at most."""
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 2.0, 600.0
_END_PATIENCE_S = 0.15
FIRST_WORD_S = 10.0
"""One that was told to load says so at once. One that has not, after so long, is stopped or hangs."""
_READ_LATE = frozenset({"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"})
"""Variables that are read when a device is first used (by CUDA's driver, ROCm's runtime), not when torch is imported."""
_log = logging.getLogger(__name__)


class Spare:
    """There is none before `keep`. *busy* tells whether somebody waits for an answer: the next one starts after that.

    What is taken is replaced. One that dies is replaced, too, each time later than before.
    """

    def __init__(self, log_dir: Path, busy: Callable[[], bool]) -> None:
        self._log = log_dir / "worker-spare.log"
        self._is_busy = busy
        self._environment = early_environment()
        self._process: WorkerProcess | None = None
        self._taken: WorkerProcess | None = None
        self._gone = asyncio.Event()
        self._loading = 0
        self._deaths = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """There is one, and it has imported everything."""
        return self._process is not None and self._process.prepared

    @property
    def pid(self) -> int | None:
        """Its process id, while there is one."""
        return self._process.pid if self._process is not None else None

    def keep(self, first_s: float = _FIRST_S) -> None:
        """Have one from now on, the first in *first_s* at the earliest."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(first_s), name="spare worker")

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """None is started meanwhile: somebody waits for a model to be loaded."""
        self._loading += 1
        try:
            yield
        finally:
            self._loading -= 1

    def take(self, environment: Mapping[str, str]) -> WorkerProcess | None:
        """The one that waits, for a device that *environment* shows; None where there is none that still can be told."""
        process = self._process
        if process is None or process.ended.is_set() or not process.alive or not self._suits(environment):
            return None
        self._process, self._taken = None, process
        self._deaths = 0
        self._gone.set()
        return process

    async def close(self) -> None:
        """End it, and have none any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _suits(self, environment: Mapping[str, str]) -> bool:
        return all(name in _READ_LATE or self._environment.get(name) == value for name, value in environment.items())

    async def _keep(self, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            await self._quiet()
            problem = await self._one()
            if not problem:
                continue
            delay_s = min(_FIRST_BACK_OFF_S * 2**self._deaths, _LONGEST_BACK_OFF_S)
            self._deaths += 1
            _log.warning("the spare worker %s; see %s; the next one starts in %g s", problem, self._log, delay_s)
            await asyncio.sleep(delay_s)

    async def _quiet(self) -> None:
        """Wait until no model is loaded and nobody is answered; the answers are not waited for for ever."""
        waited_s = 0.0
        while self._loading or (self._is_busy() and waited_s < _QUIET_S):
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S

    async def _one(self) -> str:
        """The life of one until it is taken, or how it ended instead."""
        self._gone.clear()
        process = WorkerProcess(lambda _: None, self._gone.set, self._log)
        starting = asyncio.ensure_future(process.start(self._environment))
        try:
            await asyncio.shield(starting)
            process.send(Prepare())
            self._process = process
            await self._gone.wait()
            self._process = None
            return "" if self._taken is process else await process.cause_of_death()
        except EngineError as error:
            return f"did not start: {error.message}"
        finally:
            if self._taken is not process:
                self._process = None
                await asyncio.wait({starting})  # a process that is half started could not be ended
                await process.end(_END_PATIENCE_S)
