"""The gate before a device: who goes through, who waits, who is sent away."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.config import Config, EngineConfig
from hwdash.core.errors import Overloaded
from hwdash.core.inference import FinishReason, InferenceRecord, Stage, StageEvent, TokenEvent
from hwdash.core.throttle import ThrottleReason
from hwdash.core.wire import dumps
from hwdash.daemon.gate import Gate, Place
from tests.daemon.living import ask_for, living, until
from tests.daemon.test_dispatch import FIRST, SECOND, HeldEngine, admission, answer, gpus

ONE = Config(engine=EngineConfig(max_concurrent=1, max_queue=2))


async def test_a_gate_lets_through_in_order_of_arrival() -> None:
    gate = Gate("gpu0", 8, 2, ManualClock())
    places = [gate.enter() for _ in range(5)]
    assert [place.admitted for place in places] == [True, True, False, False, False]
    assert [place.words for place in places[2:]] == [f"{n} requests before this one" for n in (2, 3, 4)]
    places[3].leave()
    assert places[4].words == "3 requests before this one"
    places[1].leave()
    assert [place.admitted for place in places] == [True, True, True, False, False]
    places[1].leave()
    assert (gate.running, gate.waiting) == (2, 1)


async def test_a_lower_limit_disturbs_nobody_and_a_higher_one_lets_more_through() -> None:
    gate = Gate("gpu0", 8, 2, ManualClock())
    places = [gate.enter() for _ in range(3)]
    gate.adjust(1, "power cap: 1 at once instead of 2")
    assert gate.running == 2
    places[0].leave()
    assert not places[2].admitted
    assert places[2].words == "1 request before this one; power cap: 1 at once instead of 2"
    gate.adjust(2, "")
    assert places[2].admitted


async def test_a_full_gate_says_when_to_come_again() -> None:
    clock = ManualClock()
    gate = Gate("gpu0", 3, 1, clock)
    place = gate.enter()
    clock.advance(20.0)
    place.leave()
    for _ in range(4):
        gate.enter()
    with pytest.raises(Overloaded, match=r"gpu0: 3 requests wait already.*about 1 min") as caught:
        gate.enter()
    assert caught.value.retry_after_s == 60.0


@given(st.lists(st.one_of(st.just("enter"), st.integers(0, 30), st.tuples(st.integers(1, 4)))))
@settings(deadline=None)
def test_whatever_comes_and_goes_the_gate_keeps_its_bounds(steps: list[str | int | tuple[int]]) -> None:
    async def run() -> None:
        gate = Gate("gpu0", 5, 2, ManualClock())
        inside: list[Place] = []
        for step in steps:
            if step == "enter":
                was_full = gate.full
                try:
                    inside.append(gate.enter())
                    assert not was_full
                except Overloaded:
                    assert was_full
            elif isinstance(step, tuple):
                gate.adjust(step[0], "")
            elif isinstance(step, int) and inside:
                inside.pop(step % len(inside)).leave()
            admitted = [place for place in inside if place.admitted]
            assert gate.running == len(admitted)
            assert gate.waiting == len(inside) - len(admitted) <= 5
            # Nobody passes an earlier one, and no room is left while somebody waits.
            assert inside[: len(admitted)] == admitted
            assert not gate.waiting or gate.running >= gate.limit

    asyncio.run(run())


async def test_those_that_wait_are_told_and_served_in_order() -> None:
    engine = HeldEngine(FIRST)
    async with living(gpus(1), engine, config=ONE) as daemon:
        await daemon.service.snapshot()
        asking = []
        for number in range(3):
            asking.append(asyncio.create_task(answer(daemon, ask_for(f"request {number}"))))
            await until(lambda number=number: admission(daemon).waiting == number)  # type: ignore[misc]
        with pytest.raises(Overloaded, match="gpu0: 2 requests wait already"):
            await answer(daemon)
        engine.held[FIRST].set()
        told = [events for events, _ in await asyncio.gather(*asking)]
        assert StageEvent(Stage.QUEUED, "gpu0", "2 requests before this one") in told[2]
        assert [request.messages[0].content for request in engine.requests] == [f"request {n}" for n in range(3)]


async def test_auto_takes_the_next_device_where_one_is_full() -> None:
    engine = HeldEngine(FIRST, SECOND)
    async with living(gpus(2), engine, config=ONE) as daemon:
        asking = [asyncio.create_task(answer(daemon, ask_for(device="gpu0"))) for _ in range(3)]
        await until(lambda: admission(daemon).waiting == 2)
        engine.held[SECOND].set()
        _, record = await answer(daemon)
        assert record.device == "gpu1"
        assert record.route.fallback_from is None
        engine.held[FIRST].set()
        await asyncio.gather(*asking)


async def test_leaving_the_queue_gives_the_place_up_and_leaves_a_record() -> None:
    engine = HeldEngine(FIRST)
    seen: list[InferenceRecord] = []
    async with living(gpus(1), engine, config=ONE) as daemon:
        daemon.service.observers.append(seen.append)
        await daemon.service.snapshot()
        first, second = (asyncio.create_task(answer(daemon)) for _ in range(2))
        await until(lambda: admission(daemon).waiting == 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert admission(daemon).waiting == 0
        await until(lambda: [record.finish_reason for record in seen] == [FinishReason.CANCELLED])
        engine.held[FIRST].set()
        await first
        assert len(engine.asked) == 1


async def test_a_client_that_leaves_the_queue_is_noticed_through_the_socket() -> None:
    engine = HeldEngine(FIRST)
    async with living(gpus(1), engine, config=ONE) as daemon:
        first = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).running == 1)
        events = daemon.client.prompt(ask_for())
        assert await anext(events) == StageEvent(Stage.QUEUED, "gpu0", "1 request before this one")
        await events.aclose()
        await until(lambda: admission(daemon).waiting == 0)
        engine.held[FIRST].set()
        await first


async def test_ten_thousand_prompts_are_refused_at_once_and_leave_nothing() -> None:
    engine = HeldEngine(FIRST, SECOND)
    async with living(gpus(2), engine, config=ONE) as daemon:
        asking = [asyncio.create_task(answer(daemon)) for _ in range(6)]
        await until(lambda: sum(item.waiting + item.running for item in daemon.service.status().admission) == 6)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        tasks = len(asyncio.all_tasks())
        started = time.monotonic()
        refused = 0
        for _ in range(10_000):
            try:
                await answer(daemon)
            except Overloaded:
                refused += 1
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refused == 10_000
        assert time.monotonic() - started < 60
        assert after - before < 2 * 2**20
        assert len(asyncio.all_tasks()) <= tasks + 10
        status, head, _ = await daemon.ask("POST", "/api/v1/prompt", dumps({"prompt": "x", "model": "echo"}))
        assert status == 429
        assert "retry-after: " in head
        for event in engine.held.values():
            event.set()
        await asyncio.gather(*asking)
        assert len(engine.asked) == 6


async def test_a_power_capped_device_takes_fewer_at_once_and_says_so() -> None:
    source, engine = gpus(1), HeldEngine(FIRST)
    source.flags[FIRST] = frozenset({ThrottleReason.POWER_CAP})
    async with living(source, engine, config=Config(engine=EngineConfig(max_concurrent=2))) as daemon:
        first = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).running == 1)
        assert admission(daemon).limit == 1
        assert "1 at once instead of 2" in admission(daemon).why
        events = daemon.service.prompt(ask_for())
        stage = await anext(events)
        assert isinstance(stage, StageEvent)
        assert stage.detail.startswith("1 request before this one; ")
        assert "1 at once instead of 2" in stage.detail
        source.flags[FIRST] = frozenset()
        await until(lambda: admission(daemon).limit == 2)
        engine.held[FIRST].set()
        assert any(isinstance(event, TokenEvent) for event in [event async for event in events])
        await first
