"""One precision of a bench: load the model, run all tasks, gather their figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from hwdash.core.bench import BenchRequest, BenchStep, DecodeFigure, DtypeFigures, PrefillFigure
from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError
from hwdash.core.inference import Conditions, StageEvent
from hwdash.core.measurement import Load, LoadedModel, Measured, MeasurePlan, MeasureReport, Task
from hwdash.core.precision import choose_dtype
from hwdash.daemon.bench_energy import EnergyTrace
from hwdash.daemon.bench_figure import copy_rate, decode_figure, prefill_figure, whole
from hwdash.daemon.bracket import Bracket
from hwdash.daemon.loss import DeviceLost, LossWatch
from hwdash.daemon.meter import Meter

if TYPE_CHECKING:
    from hwdash.core.snapshot import Snapshot
    from hwdash.engine.engine import Engine
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor

DECODE_PROMPT = 64
"""Tokens of the prompts that are decoded from."""
_REPEATS, _LONG_REPEATS, _LONG_PROMPT = 5, 3, 1024
_COPIES = 20
_TRIES, _AGAIN_S = 4, 0.05
"""The counter is read so often, until it was read after the last token."""

RunEvent: TypeAlias = StageEvent | BenchStep


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is done and what with: the rooms, and what is known of the device before it.

    ``energy_s`` is how long tokens are made for the figure of energy, None where the device counts none; ``idle_w`` what
    the device draws when idle.
    """

    engine: Engine
    monitor: Monitor
    snapshots: Broadcast[Snapshot]
    clock: Clock
    device: Device
    energy_s: float | None
    idle_w: float | None


class BenchRun:
    """Measures *request* in *dtype*, None for the device's own choice; ``figures`` is what is known so far.

    Of the whole bench this is the part from *begin* on, *span* long (0 to 1). ``lost``: the device is gone.
    """

    def __init__(self, request: BenchRequest, dtype: str | None, place: Place, begin: float, span: float) -> None:
        self._place = place
        self._plan = MeasurePlan(request.model, _tasks(request, place.energy_s), dtype)
        self._begin, self._span = begin, span
        self._dtype = dtype or choose_dtype(place.device)
        self._loaded: LoadedModel | None = None
        self._prefill: list[PrefillFigure] = []
        self._decode: list[DecodeFigure] = []
        self._conditions = Conditions()
        self._problems: list[str] = []
        self._trace = EnergyTrace(place.monitor, place.device.key)
        self.copy_bytes_per_s: float | None = None
        self.lost = False

    @property
    def figures(self) -> DtypeFigures:
        """What was measured."""
        return DtypeFigures(
            self._dtype,
            self._loaded,
            tuple(self._prefill),
            tuple(self._decode),
            self._conditions,
            "; ".join(dict.fromkeys(self._problems)),
        )

    @property
    def measured(self) -> bool:
        """There is a figure of it."""
        return bool(self._prefill or self._decode)

    def failed(self, error: EngineError) -> None:
        """It ended with *error*."""
        self._problems.append(error.message)
        self.lost = isinstance(error, DeviceLost)

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """Run everything; the worker has ended when this has. Raises as `Engine.measure`, and `DeviceLost`."""
        place = self._place
        device = place.device
        bracket = Bracket(place.monitor, place.snapshots, device, Meter(), "bench", place.clock)
        watch = LossWatch(place.snapshots, device)
        bracket.open()
        try:
            yield self._step(-1)
            async with aclosing(place.engine.measure(self._plan, device)) as reports:
                try:
                    async with aclosing(self._follow(watch, reports, bracket)) as events:
                        async for event in events:
                            yield event
                except HwdashError:
                    _, self._conditions = await bracket.close(0)
                    raise
                _, self._conditions = await bracket.close(0)
        except DeviceLost:
            raise DeviceLost(f"{device.id} was lost during the bench; see: hwdash devices") from None
        finally:
            watch.close()
            bracket.abandon()
            self._trace.stop()

    async def _follow(
        self, watch: LossWatch, reports: AsyncGenerator[StageEvent | MeasureReport, None], bracket: Bracket
    ) -> AsyncGenerator[RunEvent, None]:
        parts: list[Measured] = []
        while (report := await watch.next(reports)) is not None:
            if isinstance(report, StageEvent):
                yield report
                continue
            if isinstance(report, LoadedModel):
                self._loaded, self._dtype = report, report.dtype
                number = 0
            else:
                parts.append(report.measured)
                if not report.measured.last:
                    continue
                number = report.task + 1
                if not await self._settle(self._plan.tasks[report.task], whole(parts)):
                    return
                parts = []
            if number < len(self._plan.tasks):
                if self._plan.tasks[number].load is Load.DECODE:
                    bracket.decode()
                    if self._place.energy_s is not None:
                        await self._trace.start()
                yield self._step(number)

    async def _settle(self, task: Task, measured: Measured) -> bool:
        """Take in what *task* came to; False where the ones after it are not to be tried."""
        if measured.problem:
            larger = any(other.batch > task.batch for other in self._plan.tasks)
            self._problems.append(_problem(task, measured.problem, larger=larger))
        match task.load:
            case Load.COPY:
                self.copy_bytes_per_s = copy_rate(measured)
            case Load.PREFILL if (prefill := prefill_figure(task, measured)) is not None and not measured.problem:
                self._prefill.append(prefill)
            case Load.DECODE if task.seconds is not None:
                await self._add_energy(task.batch, measured)
            case Load.DECODE if not measured.problem:
                if (decode := decode_figure(task, measured, self.copy_bytes_per_s)) is not None:
                    self._decode.append(decode)
        # A batch that cannot be decoded is followed by larger ones only.
        return not (measured.problem and task.load is Load.DECODE)

    async def _add_energy(self, batch: int, measured: Measured) -> None:
        """Give the figure of *batch*, if there is one, the energy of a token while *measured* was made."""
        place = next((place for place, figure in enumerate(self._decode) if figure.batch == batch), None)
        if measured.problem or not measured.tokens or place is None:
            return
        joules = None
        for _ in range(_TRIES):
            await self._trace.read()
            if (joules := self._trace.joules(measured.began_s, measured.ended_s)) is not None:
                break
            await asyncio.sleep(_AGAIN_S)
        else:
            return
        idle_w, idle = self._place.idle_w, None
        if idle_w is not None:
            idle = min(joules, idle_w * (measured.ended_s - measured.began_s)) / measured.tokens
        self._decode[place] = replace(
            self._decode[place], joules_per_token=joules / measured.tokens, idle_joules_per_token=idle
        )

    def _step(self, number: int) -> BenchStep:
        """What is done now: task *number*, or, before the first one, the loading."""
        tasks = self._plan.tasks
        costs = [_LOADING, *(_COSTS[task.load] for task in tasks)]
        progress = self._begin + self._span * sum(costs[: number + 1]) / sum(costs)
        doing = f"loading {self._plan.model}" if number < 0 else _words(tasks[number])
        return BenchStep(self._place.device.id, f"{self._dtype}: {doing}", progress)


_LOADING = 3.0
_COSTS = {Load.COPY: 0.5, Load.MATMUL: 1.0, Load.PREFILL: 1.0, Load.DECODE: 2.0}
"""About how long each takes beside the others, for the progress that is shown."""


def _tasks(request: BenchRequest, energy_s: float | None) -> tuple[Task, ...]:
    """Everything to run, in order: batches grow, so that after one that finds no room none is missed."""
    tasks = [Task(Load.COPY, repeats=_COPIES)]
    for length in sorted(set(request.prompt_tokens)):
        repeats = _REPEATS if length < _LONG_PROMPT else _LONG_REPEATS
        tasks.append(Task(Load.PREFILL, prompt_tokens=length, repeats=repeats))
    for batch in sorted(set(request.batches)):
        task = Task(Load.DECODE, batch, DECODE_PROMPT, request.new_tokens)
        tasks.append(task)
        if energy_s is not None:
            tasks.append(replace(task, seconds=energy_s))
    return tuple(tasks)


def _words(task: Task) -> str:
    match task.load:
        case Load.COPY:
            return "copying memory"
        case Load.PREFILL:
            return f"reading prompts of {task.prompt_tokens} tokens"
        case _:
            count = "1 sequence" if task.batch == 1 else f"{task.batch} sequences at once"
            return f"decoding {count}" + ("" if task.seconds is None else ", for its energy")


def _problem(task: Task, problem: str, *, larger: bool) -> str:
    match task.load:
        case Load.PREFILL:
            return f"prompt of {task.prompt_tokens} tokens: {problem}"
        case Load.DECODE:
            return f"batch {task.batch}: {problem}" + ("; larger ones were not tried" if larger else "")
        case _:
            return f"{task.load.value}: {problem}"
