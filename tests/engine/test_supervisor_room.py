"""Models that make room for one another on a device that does not hold them all."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from hwdash.core.errors import DeviceFull
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.measurement import Load as Kind
from hwdash.core.measurement import LoadedModel, MeasurePlan, Task, TaskReport
from hwdash.core.status import WorkerState
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.script import DEVICE, Scene, ask, running, said, worker


def living(engine: WorkerEngine) -> list[str]:
    return [status.model for status in engine.workers() if status.pid is not None]


async def details_of(engine: WorkerEngine, model: str) -> list[str]:
    events = [event async for event in engine.generate(ask("a", model=model), DEVICE)]
    return [event.detail for event in events if isinstance(event, StageEvent) and event.stage is Stage.STARTING]


async def test_the_least_recently_used_model_goes_first(scene: Scene) -> None:
    scene.room(3)
    engine = scene.engine()
    for model in ("one", "two", "three", "one"):
        await said(engine, ask("a", model=model))
    assert living(engine) == ["one", "three", "two"]
    told = await details_of(engine, "four")
    assert [words for words in told if "room" in words] == ["unloading two to make room"]
    assert living(engine) == ["four", "one", "three"]
    assert scene.load_of("four").smaller == ()  # with idle models in the way, no smaller precision was tried

    scene.room(1)
    told = await details_of(engine, "five")
    assert [words for words in told if "room" in words] == [
        f"unloading {model} to make room" for model in ("three", "one", "four")
    ]
    assert living(engine) == ["five"]
    assert scene.load_of("five").smaller == ("bf16",)
    assert await said(engine, ask("b", model="one")) == "b b b "
    assert worker(engine, "one").restarts == 1


async def test_a_model_in_use_never_makes_room(scene: Scene) -> None:
    scene.room(2)
    engine = scene.engine()
    async with running(engine, "a", model="one"):
        async with running(engine, "a", model="two"):
            with pytest.raises(DeviceFull, match="no room for three in fp32, nor in bf16"):
                await said(engine, ask("a", model="three"))
            assert living(engine) == ["one", "two"]
        assert await said(engine, ask("b", model="three")) == "b b b "
        assert living(engine) == ["one", "three"]


async def test_who_comes_while_the_model_goes_gets_it_back(scene: Scene) -> None:
    scene.room(1)
    engine = scene.engine()
    await said(engine, ask("a", model="one"))
    other = engine.generate(ask("b", model="two"), DEVICE)
    async for event in other:
        if isinstance(event, StageEvent) and event.detail == "unloading one to make room":
            break
    back = asyncio.create_task(said(engine, ask("c", model="one")))
    async for _ in other:
        pass
    # It comes back when the other is idle, or is told that there is no room; it never hangs.
    (outcome,) = await asyncio.gather(back, return_exceptions=True)
    assert outcome == "c c c " or isinstance(outcome, DeviceFull)


async def test_idle_models_make_room_for_a_measurement_and_it_for_nobody(scene: Scene) -> None:
    scene.room(1)
    engine = scene.engine()
    await said(engine, ask("a", model="one"))
    plan = MeasurePlan("two", (Task(Kind.DECODE, repeats=2),))
    async with aclosing(engine.measure(plan, DEVICE)) as reports:
        seen = []
        async for report in reports:
            seen.append(report)
            if isinstance(report, LoadedModel):
                with pytest.raises(DeviceFull):
                    await said(engine, ask("a", model="one"))
    assert StageEvent(Stage.STARTING, "cpu0", "unloading one to make room") in seen
    assert [report.measured.last for report in seen if isinstance(report, TaskReport)] == [False, True]
    assert worker(engine, "one").state is WorkerState.STOPPED
    assert await said(engine, ask("a", model="one")) == "a a a "
