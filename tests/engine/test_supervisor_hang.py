"""Workers that are stopped, that hang, and that do not even end when they are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from hwdash.core.errors import EngineError, WorkerDied
from hwdash.engine import process, room, slot
from hwdash.engine.watch import Watch
from tests.engine.conftest import CPU, MakeEngine
from tests.engine.script import DEVICE, ENDLESS, Scene, ask, drained, pid_of, running, said, worker
from tests.engine.test_supervisor import answered, asking, is_alive
from tests.engine.test_supervisor import pid_of as real_pid_of
from tests.engine.waiting import eventually, first_token

HUNG = r"did not answer for 1 s and was ended: stopped, or hung in the driver; see .*\.log"


async def test_a_worker_that_is_stopped_while_it_answers(scene: Scene) -> None:
    engine = scene.engine(hang_s=1)
    async with running(engine, "a", "b") as streams:
        pid = pid_of(engine)
        os.kill(pid, signal.SIGSTOP)
        for stream in streams:
            with pytest.raises(WorkerDied, match=HUNG):
                await drained(stream)
    assert not is_alive(pid)
    assert await said(engine, ask("c")) == "c c c "


async def test_a_worker_that_is_stopped_while_it_is_idle(scene: Scene) -> None:
    engine = scene.engine(hang_s=1)
    await engine.prewarm("one", DEVICE)
    os.kill(pid_of(engine), signal.SIGSTOP)
    asked = time.monotonic()
    with pytest.raises(WorkerDied, match=HUNG):
        await said(engine, ask("a"))
    assert 0.9 < time.monotonic() - asked < 15  # the promise is one second; a busy machine may stretch it
    assert await said(engine, ask("b")) == "b b b "


async def test_a_stopped_worker_that_takes_in_no_more_is_ended_like_any_other(scene: Scene) -> None:
    engine = scene.engine(hang_s=1)
    await engine.prewarm("one", DEVICE)
    os.kill(pid_of(engine), signal.SIGSTOP)
    with pytest.raises(WorkerDied, match=HUNG):
        await said(engine, ask("a" * 4_000_000))  # more than a socket holds: its sending never comes to an end
    assert await said(engine, ask("b")) == "b b b "


async def test_a_real_worker_that_is_stopped(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(hang_s=2)
    stream = engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)
    await first_token(stream)
    os.kill(real_pid_of(engine), signal.SIGSTOP)
    with pytest.raises(WorkerDied, match="did not answer for 2 s"):
        await drained(stream)
    text, *_ = await answered(engine, asking(tiny_model))
    assert text


async def test_a_real_worker_that_works_is_left_alone(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(hang_s=1)
    await engine.prewarm(str(tiny_model), CPU)
    pid = real_pid_of(engine)
    stream = engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)
    began = time.monotonic()
    async for _ in stream:
        if time.monotonic() - began > 2.5:
            break
    await stream.aclose()
    await answered(engine, asking(tiny_model))
    assert real_pid_of(engine) == pid


async def test_a_worker_that_is_stopped_while_it_loads(scene: Scene) -> None:
    engine = scene.engine(load_timeout_s=1)
    answer = asyncio.create_task(said(engine, ask("a", model="slow")))
    await eventually(lambda: any(status.pid is not None for status in engine.workers()))
    pid = pid_of(engine, "slow")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match="was not loaded on cpu0 within 1 s"):
        await answer
    assert not is_alive(pid)
    assert await said(engine, ask("b")) == "b b b "


async def test_a_worker_that_hears_no_cancel_is_ended_when_nobody_else_needs_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "CANCEL_PATIENCE_S", 0.2)
    engine = scene.engine()
    async with running(engine, "deaf"):
        pid = pid_of(engine)
    await eventually(lambda: not is_alive(pid))
    await eventually(lambda: "did not stop when it was told to" in worker(engine).problem)
    assert await said(engine, ask("b")) == "b b b "


async def test_a_worker_that_hears_no_cancel_gets_more_time_while_it_answers_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "CANCEL_PATIENCE_S", 0.1)
    engine = scene.engine(hang_s=2)
    async with running(engine, "deaf", "b") as (deaf, other):
        left = time.monotonic()
        await deaf.aclose()
        with pytest.raises(WorkerDied, match="did not stop when it was told to"):
            await drained(other)
        assert time.monotonic() - left > 1.9


async def test_what_does_not_end_is_waited_for_and_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GOING_S", 0.1)
    monkeypatch.setattr(process, "_KILLED_PATIENCE_S", 0.1)
    engine = scene.engine(hang_s=1, max_concurrent=1)
    pid = 0
    with monkeypatch.context() as patched:
        # Nothing can be told from a process in the driver but that it stays when it is killed.
        patched.setattr(asyncio.subprocess.Process, "kill", lambda _: None)
        async with running(engine, "a") as (stream,):
            pid = pid_of(engine)
            waiting = asyncio.create_task(said(engine, ask("b")))
            await eventually(lambda: worker(engine).queued == 1)
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(WorkerDied, match=HUNG):
                await drained(stream)
            with pytest.raises(EngineError, match=f"process {pid}, a worker for one, was killed and does not end"):
                await waiting
        with pytest.raises(EngineError, match=r"cpu0: process \d+.*reset the device"):
            await engine.prewarm("two", DEVICE)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_alive(pid))
    assert await said(engine, ask("c")) == "c c c "


async def test_a_watch_does_not_blame_the_worker_for_a_time_in_which_nobody_listened() -> None:
    asked: list[float] = []
    hung = asyncio.Event()
    watch = Watch(lambda: asked.append(time.monotonic()), hung.set, 0.2)
    watch.start()
    watch.heard()
    time.sleep(0.4)  # the daemon itself stands still
    await eventually(lambda: len(asked) == 2)
    assert not hung.is_set()
    await asyncio.wait_for(hung.wait(), 20)
    assert time.monotonic() - asked[1] >= 0.2
    assert len(asked) == 2
    watch.stop()
