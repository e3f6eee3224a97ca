"""Measuring tasks: a load on the device, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator

from hwdash.core.errors import HwdashError
from hwdash.core.measurement import Load, Measured, Task
from hwdash.core.text import sanitise_line
from hwdash.engine.worker.arithmetic import copies, products
from hwdash.engine.worker.decoder import Decoder, SequenceFailed
from hwdash.engine.worker.failure import is_beyond_repair
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text, release_memory
from hwdash.engine.worker.sequence import prompts, tokens
from hwdash.engine.worker.step import Step, Unfit

_log = logging.getLogger(__name__)


def run_task(decoder: Decoder, model: ReadyModel, task: Task, stopped: Callable[[], bool]) -> Iterator[Measured]:
    """Run *task*; *stopped* is asked after every step. Gives one `Measured` every ``report_s``, where the task has
    ``seconds``, and one at the end.

    What goes wrong is told in the last `Measured`; after that it is raised if the device cannot be used any more.
    """
    tally = _Tally()
    problem, beyond_repair = "", None
    try:
        steps = _steps(decoder, model, task)
        for step in steps:
            if step is not None:
                tally.add(step)
            if stopped() or tally.lasts(task.seconds):
                break
            if task.seconds is not None and tally.is_due(task.report_s):
                yield tally.report()
        steps.close()
    except Exception as error:  # noqa: BLE001 - whatever the libraries raise is what came of the task
        _log.exception("the task failed: %s", task)
        problem = _problem(error, model)
        beyond_repair = error if is_beyond_repair(_cause(error)) else None
    if problem and beyond_repair is None:
        release_memory()
    yield tally.report(last=True, problem=problem)
    if beyond_repair is not None:
        raise beyond_repair


def _steps(decoder: Decoder, model: ReadyModel, task: Task) -> Generator[Step | None]:
    match task.load:
        case Load.COPY:
            return copies(task, model.device)
        case Load.MATMUL:
            return products(task, model.device, task.dtype or model.dtype)
        case Load.PREFILL:
            return prompts(decoder, model, task)
        case Load.DECODE:
            return tokens(decoder, model, task)


class _Tally:
    """What was counted since the last report. Time counts from the beginning of the first step."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._began_s = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._steps_s: list[float] = []
        self._tokens = 0
        self._bytes = 0
        self._flops = 0.0

    def add(self, step: Step) -> None:
        """Count *step*, which has just ended."""
        if self._first_s is None:
            self._first_s = self._began_s = time.monotonic() - step.seconds
        self._steps_s.append(step.seconds)
        self._tokens += step.tokens
        self._bytes += step.bytes
        self._flops += step.flops

    def lasts(self, seconds: float | None) -> bool:
        """Whether it has been so long since the first step."""
        return seconds is not None and self._first_s is not None and time.monotonic() - self._first_s >= seconds

    def is_due(self, report_s: float) -> bool:
        """Whether a report is due, and there is something to tell."""
        return bool(self._steps_s) and time.monotonic() - self._began_s >= report_s

    def report(self, last: bool = False, problem: str = "") -> Measured:
        """What was counted, and begin anew."""
        ended_s = time.monotonic()
        measured = Measured(
            self._began_s,
            ended_s,
            tuple(self._steps_s),
            self._tokens,
            self._bytes,
            self._flops,
            last=last,
            problem=problem,
        )
        self._clear()
        self._began_s = ended_s
        return measured


def _problem(error: Exception, model: ReadyModel) -> str:
    error = _cause(error)
    if isinstance(error, HwdashError):
        return error.message
    if isinstance(error, Unfit):
        return str(error)
    if is_out_of_memory(error):
        return out_of_memory_text(error, model.device)
    return f"the task failed: {sanitise_line(str(error)) or type(error).__name__}"


def _cause(error: Exception) -> Exception:
    if isinstance(error, SequenceFailed) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error
