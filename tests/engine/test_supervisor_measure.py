"""Plans of measurements in workers of their own, which are scripted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from hwdash.core.device import DeviceKind
from hwdash.core.errors import DeviceFull, EngineError, UsageError, WorkerDied
from hwdash.core.inference import StageEvent
from hwdash.core.measurement import Load, LoadedModel, MeasurePlan, MeasureReport, Task, TaskReport
from hwdash.core.status import WorkerState
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.script import DEVICE, Scene, ask, pid_of, said, worker
from tests.engine.test_supervisor import is_alive
from tests.engine.waiting import eventually


async def measured(engine: WorkerEngine, plan: MeasurePlan) -> list[StageEvent | MeasureReport]:
    return [report async for report in engine.measure(plan, DEVICE)]


async def test_stages_then_the_model_then_the_reports_in_order(scene: Scene) -> None:
    engine = scene.engine()
    plan = MeasurePlan("one", (Task(Load.COPY, repeats=1), Task(Load.DECODE, batch=32, repeats=3)))
    reports = await measured(engine, plan)
    kinds = [type(report) for report in reports]
    assert kinds == sorted(kinds, key=[StageEvent, LoadedModel, TaskReport].index)
    (loaded,) = [report for report in reports if isinstance(report, LoadedModel)]
    assert (loaded.dtype, loaded.choices) == ("fp32", ("it is a test",))
    assert loaded.start_s is not None
    assert loaded.start_s > 0
    told = [(report.task, report.measured.tokens) for report in reports if isinstance(report, TaskReport)]
    assert told == [(0, 1), (1, 1), (1, 2), (1, 3)]
    assert all(report.measured.problem == "" for report in reports if isinstance(report, TaskReport))
    assert scene.load_of("one").slots == 32
    assert engine.workers() == ()


async def test_a_plan_without_tasks_tells_how_the_model_lies_there(scene: Scene) -> None:
    reports = await measured(scene.engine(), MeasurePlan("one", ()))
    assert isinstance(reports[-1], LoadedModel)
    assert scene.load_of("one").slots == 1


async def test_the_precision_is_the_plans_own(scene: Scene) -> None:
    engine = scene.engine()
    await measured(engine, MeasurePlan("one", (), dtype="fp16"))
    load = scene.load_of("one")
    assert (load.dtype, load.smaller, load.quantize) == ("fp16", (), False)
    await measured(engine, MeasurePlan("one", (), dtype="int8"))
    load = scene.load_of("one")
    assert (load.dtype, load.smaller, load.quantize) == ("fp32", (), True)
    await measured(scene.engine(quantize=True), MeasurePlan("one", ()))
    assert scene.load_of("one").quantize
    with pytest.raises(
        UsageError, match=r"cpu0 does not compute in 'fp7'; there are: fp32, bf16, fp16, int8"
    ) as caught:
        await measured(engine, MeasurePlan("one", (), dtype="fp7"))
    assert caught.value.param == "dtype"


async def test_closing_in_the_middle_ends_the_process(scene: Scene) -> None:
    engine = scene.engine()
    plan = MeasurePlan("one", (Task(Load.DECODE, repeats=10**9, seconds=1e9),))
    async with aclosing(engine.measure(plan, DEVICE)) as reports:
        async for report in reports:
            if isinstance(report, TaskReport):
                break
        pid = pid_of(engine)
        assert worker(engine).state is WorkerState.BUSY
        assert worker(engine).decoder == "script"
        os.kill(pid, signal.SIGSTOP)  # not even then does it wait
        began = time.monotonic()
    assert time.monotonic() - began < 5  # the promise is half a second; a busy machine may stretch it
    assert not is_alive(pid)
    assert engine.workers() == ()


async def test_closing_while_it_loads_ends_the_process(scene: Scene) -> None:
    engine = scene.engine()
    async with aclosing(engine.measure(MeasurePlan("slow", ()), DEVICE)) as reports:
        async for report in reports:
            if isinstance(report, StageEvent) and report.detail == "importing nothing":
                break
        pid = pid_of(engine, "slow")
    assert not is_alive(pid)


async def test_a_cancelled_task_ends_the_process(scene: Scene) -> None:
    engine = scene.engine()
    task = asyncio.create_task(measured(engine, MeasurePlan("slow", ())))
    await eventually(lambda: any(status.pid is not None for status in engine.workers()))
    pid = pid_of(engine, "slow")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(pid)


@pytest.mark.parametrize("model", ["one", "slow"])
async def test_the_end_of_the_daemon_ends_it(scene: Scene, model: str) -> None:
    engine = scene.engine()
    task = asyncio.create_task(measured(engine, MeasurePlan(model, (Task(Load.COPY, prompt_tokens=0),))))
    state = WorkerState.BUSY if model == "one" else WorkerState.LOADING
    await eventually(lambda: any(status.state is state for status in engine.workers()))
    pid = pid_of(engine, model)
    await engine.close()
    assert not is_alive(pid)
    with pytest.raises(EngineError, match="shutting down"):
        await task


async def test_no_room(scene: Scene) -> None:
    scene.room(0)
    with pytest.raises(DeviceFull, match="no room for one"):
        await measured(scene.engine(), MeasurePlan("one", ()))


async def test_a_worker_that_dies_meanwhile(scene: Scene) -> None:
    engine = scene.engine()
    reports = engine.measure(MeasurePlan("one", (Task(Load.DECODE, prompt_tokens=1),)), DEVICE)
    async for report in reports:
        if isinstance(report, TaskReport):
            break
    with pytest.raises(WorkerDied, match="exit code 4"):
        await anext(reports)
    assert engine.workers() == ()


async def test_a_task_that_fails(scene: Scene) -> None:
    with pytest.raises(EngineError, match="came to nothing"):
        await measured(scene.engine(), MeasurePlan("one", (Task(Load.DECODE, prompt_tokens=2),)))


@pytest.mark.parametrize(
    ("seconds", "settings", "words"),
    [(5.0, {"hang_s": 1}, "for 1.1 s"), (None, {"hang_s": 0.1, "load_timeout_s": 2}, "for 2 s")],
)
async def test_a_worker_that_tells_nothing_is_ended(
    scene: Scene, seconds: float | None, settings: dict[str, float], words: str
) -> None:
    task = Task(Load.DECODE, prompt_tokens=0, seconds=seconds, report_s=0.1)
    with pytest.raises(WorkerDied, match=f"told nothing {words} while it measured"):
        await measured(scene.engine(**settings), MeasurePlan("one", (task,)))


async def test_other_answers_go_on_beside_it(scene: Scene) -> None:
    engine = scene.engine()
    async with aclosing(engine.measure(MeasurePlan("two", (Task(Load.COPY, prompt_tokens=0),)), DEVICE)) as reports:
        async for report in reports:
            if isinstance(report, LoadedModel):
                break
        assert await said(engine, ask("a")) == "a a a "
        assert [status.model for status in engine.workers()] == ["one", "two"]


async def test_a_device_that_no_worker_drives(scene: Scene) -> None:
    other = replace(DEVICE, kind=DeviceKind.NPU, id="npu0")
    with pytest.raises(EngineError, match="npu0"):
        async for _ in scene.engine().measure(MeasurePlan("one", ()), other):
            pass
