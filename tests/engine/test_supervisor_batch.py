"""Several requests at once on one worker, which is scripted."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from hwdash.core.errors import DeviceFull, Overloaded, WorkerDied
from hwdash.core.inference import PROBE, FinishReason, Generation, Stage, StageEvent, TokenEvent
from hwdash.core.status import WorkerState
from hwdash.engine.engine import Standing
from tests.engine.script import DEVICE, Scene, ask, drained, pid_of, running, said, worker
from tests.engine.waiting import eventually, first_token


async def test_answers_come_at_the_same_time_and_each_gets_its_own(scene: Scene) -> None:
    engine = scene.engine(max_concurrent=3)
    assert engine.standing("one", DEVICE) == Standing(slots=3)
    async with running(engine, "a", "b") as streams:
        assert worker(engine).state is WorkerState.BUSY
        assert engine.standing("one", DEVICE) == Standing(loaded=True, running=2, slots=3)
        # A third comes and goes while the two run, and gets nothing of theirs.
        assert await said(engine, ask("c", 4)) == "c c c c "
        for stream, text in zip(streams, ("a ", "b "), strict=True):
            assert (await first_token(stream)).text == text
    await eventually(lambda: worker(engine).state is WorkerState.READY)
    assert engine.standing("one", DEVICE) == Standing(loaded=True, slots=3)
    load = scene.load_of("one")
    assert (load.slots, load.synthetic, load.compile, load.quantize) == (3, False, False, False)


async def test_what_a_generation_says_of_itself(scene: Scene) -> None:
    engine = scene.engine()
    events = [event async for event in engine.generate(ask("a", 2), DEVICE)]
    made = events[-1]
    assert isinstance(made, Generation)
    assert (made.share, made.digest, made.dtype) == (0.25, "digest of a", "fp32")
    assert made.timing.cold_start_s is not None
    status = worker(engine)
    assert (status.decoder, status.choices, status.memory_bytes) == ("script", ("it is a test",), 4000)


async def test_one_leaves_and_the_others_go_on(scene: Scene) -> None:
    engine = scene.engine()
    async with running(engine, "a", "b") as (first, second):
        pid = pid_of(engine)
        await first.aclose()
        await eventually(lambda: worker(engine).running == 1)
        for _ in range(5):
            assert isinstance(await anext(second), TokenEvent | StageEvent)
        assert pid_of(engine) == pid


async def test_those_without_a_place_wait_in_order(scene: Scene) -> None:
    engine = scene.engine(max_concurrent=2, max_queue=2)
    async with running(engine, "a", "b") as (first, _):
        waiting = [engine.generate(ask(text, 2), DEVICE) for text in ("c", "d")]
        told = [await anext(events) for events in waiting]
        assert told == [StageEvent(Stage.QUEUED, "cpu0", f"{count} requests before this one") for count in (2, 3)]
        assert engine.standing("one", DEVICE) == Standing(loaded=True, running=2, waiting=2, slots=2)
        assert (worker(engine).running, worker(engine).queued) == (2, 2)
        with pytest.raises(Overloaded, match="4 requests already run or wait"):
            await said(engine, ask("e"))
        await first.aclose()
        ended = [events async for events in waiting[0]][-1], [events async for events in waiting[1]][-1]
        for made in ended:
            assert isinstance(made, Generation)
            assert made.finish_reason is FinishReason.LENGTH
            assert made.timing.queue_s is not None
            assert made.timing.queue_s > 0


async def test_as_many_as_can_run_are_let_in_before_the_worker_is_there(scene: Scene) -> None:
    engine = scene.engine(max_concurrent=3, max_queue=1)
    tasks = [asyncio.create_task(said(engine, ask(str(number)))) for number in range(5)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[:4] == [f"{number} " * 3 for number in range(4)]
    assert isinstance(outcomes[4], Overloaded)


async def test_want_of_memory_of_one_is_no_failure_of_the_others(scene: Scene) -> None:
    engine = scene.engine()
    async with running(engine, "a") as (stream,):
        pid = pid_of(engine)
        with pytest.raises(DeviceFull, match="keys and values"):
            await said(engine, ask("full"))
        assert (await first_token(stream)).text == "a "
        assert pid_of(engine) == pid


async def test_a_death_fails_all_that_run_and_none_that_wait(scene: Scene) -> None:
    engine = scene.engine(max_concurrent=3)
    async with running(engine, "a", "b", "c") as streams:
        waiting = [asyncio.create_task(said(engine, ask(text))) for text in ("d", "e")]
        await eventually(lambda: worker(engine).queued == 2)
        os.kill(pid_of(engine), signal.SIGKILL)
        for stream in streams:
            with pytest.raises(WorkerDied, match=r"SIGKILL \(9\)"):
                await drained(stream)
        assert await asyncio.gather(*waiting) == ["d d d ", "e e e "]
    assert worker(engine).restarts == 1


async def test_what_hwdash_asks_itself_keeps_no_model_in_memory(scene: Scene) -> None:
    engine = scene.engine(keep_alive_s=0.4)
    await said(engine, ask("a"))
    pid = pid_of(engine)
    async with asyncio.timeout(20):
        while worker(engine).pid == pid:
            await said(engine, ask("a", 1, origin=PROBE))
    # It was answered by another worker, or the first has ended since: no probe made it stay.
    assert worker(engine).pid != pid


async def test_without_a_limit_an_idle_worker_stays(scene: Scene) -> None:
    engine = scene.engine(keep_alive_s=0.0)
    await said(engine, ask("a"))
    pid = pid_of(engine)
    await asyncio.sleep(0.2)
    assert await said(engine, ask("b", 1)) == "b "
    assert pid_of(engine) == pid
