"""The shipped fake of an engine: answers by saying the prompt back, word by word, without any model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from hwdash.core.device import Device
from hwdash.core.errors import HwdashError, UnknownModel
from hwdash.core.inference import (
    EngineEvent,
    FinishReason,
    Generation,
    PromptRequest,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.core.measurement import Load, LoadedModel, Measured, MeasurePlan, MeasureReport, Task, TaskReport
from hwdash.core.model import ModelShape
from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.core.trial import DeviceTrial
from hwdash.engine.engine import Standing


class FakeEngine:
    """A `hwdash.engine.engine.Engine` that echoes.

    ``delay_s`` lies between two tokens. ``failure`` is raised before the first token, or after ``fail_after``
    tokens; ``failures`` likewise, but on the device with that key only. ``unknown`` are the models that `check` does
    not know, ``standings`` what `standing` says of a device by its key, ``shapes`` the shapes of models.
    ``digests`` are those of the next answers in order, then ``digest``; ``dtype`` is what they are computed in.
    ``trials`` are those of devices by their key, each made in ``trial_s``; ``tried`` are the keys that were asked for.
    ``cancelled``, ``requests`` and ``asked`` (the keys of devices, in order) tell what happened.
    """

    def __init__(self, delay_s: float = 0.0, failure: HwdashError | None = None, fail_after: int = 0) -> None:
        self.delay_s = delay_s
        self.failure = failure
        self.fail_after = fail_after
        self.unknown: set[str] = set()
        self.failures: dict[str, HwdashError] = {}
        self.plans: list[MeasurePlan] = []
        self.digest = ""
        self.digests: list[str] = []
        self.dtype = "fp32"
        self.measured: dict[Load, Measured] = {}
        self.measure_failure: HwdashError | None = None
        self.standings: dict[str, Standing] = {}
        self.shapes: dict[str, ModelShape] = {}
        self.trials: dict[str, DeviceTrial] = {}
        self.trial_s = 0.0
        self.tried: list[str] = []
        self.requests: list[PromptRequest] = []
        self.asked: list[str] = []
        self.cancelled = 0
        self.closed = False
        self._served: dict[tuple[str, str], WorkerStatus] = {}

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Echo the last message, one word a token, at most ``max_tokens``."""
        self.requests.append(request)
        self.asked.append(device.key)
        failure = self.failures.get(device.key, self.failure)
        self._served[device.key, request.model] = WorkerStatus(
            device.id, request.model, WorkerState.READY, dtype="fp32"
        )
        started = time.monotonic()
        words = request.messages[-1].content.split() or ["…"]
        made = words[: request.max_tokens]
        first = last = 0.0
        try:
            yield StageEvent(Stage.PREFILL, device.id)
            for number, word in enumerate(made, start=1):
                if failure is not None and number > self.fail_after:
                    raise failure
                await asyncio.sleep(self.delay_s)
                last = time.monotonic() - started
                first = first or last
                yield TokenEvent(word if number == 1 else " " + word, number, last)
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        yield Generation(
            FinishReason.STOP if len(made) == len(words) else FinishReason.LENGTH,
            TokenCounts(len(words), len(made)),
            Timing(
                queue_s=0.0,
                ttft_s=first,
                total_s=time.monotonic() - started,
                tokens_per_s=(len(made) - 1) / (last - first) if last > first else None,
            ),
            self.dtype,
            digest=self.digests.pop(0) if self.digests else self.digest,
        )

    async def check(self, model: str, device: Device) -> None:
        """Raise for the models in ``unknown``."""
        if model in self.unknown:
            raise UnknownModel(f"no model {model!r}", param="model")

    async def prewarm(self, model: str, device: Device) -> None:
        """Pretend that *model* is loaded."""
        self._served[device.key, model] = WorkerStatus(device.id, model, WorkerState.READY, dtype="fp32")

    async def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Pretend to run each task: ``measured`` of its load if there is one, else ten steps of a millisecond.

        A task with ``seconds`` goes on, reporting every ``report_s``, until then. ``measure_failure`` is raised first.
        """
        self.plans.append(plan)
        if self.measure_failure is not None:
            raise self.measure_failure
        yield StageEvent(Stage.LOADING, device.id, "reading the weights", 0.5)
        dtype = plan.dtype or "fp32"
        yield LoadedModel(dtype, 1000, 4000, 2048, "eager", ("a fake",), 4000, 0.1, 0.2, 0.3, 0.4)
        for number, task in enumerate(plan.tasks):
            began = time.monotonic()
            until = began + (task.seconds or 0.0)
            while task.seconds is not None and (now := time.monotonic()) < until:
                await asyncio.sleep(min(task.report_s, until - now))
                yield TaskReport(number, replace(self._made(task, began), last=False))
                began = time.monotonic()
            yield TaskReport(number, self._made(task, began))

    def _made(self, task: Task, began: float) -> Measured:
        if (told := self.measured.get(task.load)) is not None:
            return told
        tokens = {Load.DECODE: 10 * task.batch, Load.PREFILL: 10 * task.batch * task.prompt_tokens}.get(task.load, 0)
        moved = 10_000_000 if task.load in (Load.COPY, Load.DECODE) else 0
        flops = 1e9 if task.load is Load.MATMUL else 0.0
        return Measured(began, began + 0.01, (0.001,) * 10, tokens, moved, flops, last=True)

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """That of ``trials``, after ``trial_s``."""
        self.tried.append(device.key)
        await asyncio.sleep(self.trial_s)
        return self.trials.get(device.key)

    def standing(self, model: str, device: Device) -> Standing:
        """That of ``standings``; loaded where it answered before."""
        return self.standings.get(device.key, Standing(loaded=(device.key, model) in self._served))

    async def shape(self, model: str) -> ModelShape | None:
        """That of ``shapes``."""
        return self.shapes.get(model)

    def served(self) -> Sequence[str]:
        """None: there is no server."""
        return ()

    def workers(self) -> Sequence[WorkerStatus]:
        """One ready worker per device and model that was asked for."""
        return tuple(self._served.values())

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
