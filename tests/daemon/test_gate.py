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
from hwdash.core.model import ModelShape
from hwdash.core.requirement import Requirements
from hwdash.core.throttle import ThrottleReason
from hwdash.core.wire import dumps
from hwdash.daemon.gate import Gate, Place
from hwdash.engine.engine import Standing
from hwdash.sources.fake import GIB, fake_readings
from tests.daemon.living import ask_for, living, until
from tests.daemon.test_dispatch import FIRST, SECOND, HeldEngine, admission, answer, gpus

ONE = Config(engine=EngineConfig(max_concurrent=1, max_queue=2))


def gate_of(max_queue: int = 8, limit: int = 4, clock: ManualClock | None = None) -> Gate:
    return Gate("gpu0", max_queue, limit, clock or ManualClock())


async def test_a_gate_lets_through_in_order_of_arrival() -> None:
    gate = gate_of()
    line = gate.line("m", 2)
    places = [line.enter() for _ in range(5)]
    assert [place.admitted for place in places] == [True, True, False, False, False]
    assert [place.words for place in places[2:]] == [f"{n} requests before this one" for n in (2, 3, 4)]
    places[3].leave()
    assert places[4].words == "3 requests before this one"
    places[1].leave()
    assert [place.admitted for place in places] == [True, True, True, False, False]
    places[1].leave()
    assert (gate.running, gate.waiting) == (line.running, line.waiting) == (2, 1)


async def test_a_full_line_holds_no_other_up_and_the_device_s_limit_holds_for_all() -> None:
    gate = gate_of(limit=2)
    a, b, c = (gate.line(name, 1) for name in "abc")
    first, second = a.enter(), a.enter()
    other, third = b.enter(), c.enter()
    assert [place.admitted for place in (first, second, other, third)] == [True, False, True, False]
    # One is held by its own line, the other by the device.
    assert second.words == "1 request before this one"
    assert third.words == "3 requests before this one"
    other.leave()
    assert [place.admitted for place in (second, third)] == [False, True]
    first.leave()
    assert second.admitted
    assert gate.running == 2


async def test_a_line_is_kept_while_somebody_is_in_it() -> None:
    gate = gate_of()
    first, second = gate.line("m", 1), gate.line("m", 1)
    running, waiting = first.enter(), second.enter()
    assert not waiting.admitted
    assert gate.line("m", 1) is first
    running.leave()
    waiting.leave()
    assert gate.line("m", 1) is not first


async def test_a_lower_limit_disturbs_nobody_and_a_higher_one_lets_more_through() -> None:
    gate = gate_of(limit=2)
    line = gate.line("m", 2)
    places = [line.enter() for _ in range(3)]
    gate.adjust(1, "power cap: 1 at once instead of 2")
    assert gate.running == 2
    places[0].leave()
    assert not places[2].admitted
    assert places[2].words == "1 request before this one; power cap: 1 at once instead of 2"
    gate.adjust(2, "")
    assert places[2].admitted


async def test_what_lowered_the_device_s_limit_is_not_told_to_who_waits_for_its_worker() -> None:
    gate = gate_of()
    line = gate.line("m", 1)
    _, waiting = line.enter(), line.enter()
    gate.adjust(2, "power cap: 2 at once instead of 4")
    assert waiting.words == "1 request before this one"
    assert line.load == (1, 1, 1, "")


async def test_the_load_is_that_of_the_line_or_of_the_device_whichever_is_fuller() -> None:
    gate = gate_of(limit=2)
    busy, idle = gate.line("busy", 4), gate.line("idle", 1)
    for _ in range(5):
        busy.enter()
    assert busy.load == (2, 3, 2, "")
    assert idle.load == (2, 3, 2, "")
    gate.adjust(8, "")
    assert busy.load == (4, 1, 4, "")
    assert idle.load == (4, 1, 8, "")


async def test_a_full_gate_says_when_to_come_again() -> None:
    clock = ManualClock()
    gate = gate_of(3, 2, clock)
    line = gate.line("m", 1)
    place = line.enter()
    clock.advance(20.0)
    place.leave()
    for _ in range(4):
        line.enter()
    assert line.full
    with pytest.raises(Overloaded, match=r"gpu0: 3 requests wait already.*about 1 min") as caught:
        line.enter()
    assert caught.value.retry_after_s == 60.0
    # Another worker is idle: who wants that does not wait.
    assert gate.line("other", 1).enter().admitted
    with pytest.raises(Overloaded):
        gate.line("third", 1).enter()


async def test_those_that_run_at_once_bring_the_next_turn_sooner() -> None:
    clock = ManualClock()
    gate = gate_of(4, 4, clock)
    line = gate.line("m", 2)
    place = line.enter()
    clock.advance(20.0)
    place.leave()
    for _ in range(6):
        line.enter()
    assert line.retry_after_s == 40.0
    gate.adjust(1, "hot")
    assert line.retry_after_s == 80.0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(0, 2)),
            st.tuples(st.just("leave"), st.integers(0, 30)),
            st.tuples(st.just("limit"), st.integers(1, 4)),
        )
    )
)
@settings(deadline=None)
def test_whatever_comes_and_goes_the_gate_keeps_its_bounds(steps: list[tuple[str, int]]) -> None:
    """Against a model of it: lists of who waits and who runs, in order of arrival."""
    slots = (1, 2, 5)

    async def run() -> None:
        gate = gate_of(5, 2)
        waiting: list[tuple[int, Place]] = []
        running: list[tuple[int, Place]] = []
        limit = 2

        def free(line: int) -> bool:
            return len(running) < limit and sum(number == line for number, _ in running) < slots[line]

        def settle() -> None:
            for item in list(waiting):
                if free(item[0]):
                    waiting.remove(item)
                    running.append(item)

        for step, number in steps:
            if step == "enter":
                line = gate.line(str(number), slots[number])
                if len(waiting) >= 5 and not free(number):
                    with pytest.raises(Overloaded):
                        line.enter()
                else:
                    waiting.append((number, line.enter()))
            elif step == "limit":
                limit = number
                gate.adjust(number, "")
            elif inside := [*waiting, *running]:
                item = inside[number % len(inside)]
                item[1].leave()
                (waiting if item in waiting else running).remove(item)
            settle()
            assert all(place.admitted for _, place in running)
            assert not any(place.admitted for _, place in waiting)
            assert (gate.running, gate.waiting) == (len(running), len(waiting))

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
        events = daemon.service.prompt(ask_for(model="other"))
        stage = await anext(events)
        assert isinstance(stage, StageEvent)
        assert stage.detail.startswith("1 request before this one; ")
        assert "1 at once instead of 2" in stage.detail
        source.flags[FIRST] = frozenset()
        await until(lambda: admission(daemon).limit == 2)
        engine.held[FIRST].set()
        assert any(isinstance(event, TokenEvent) for event in [event async for event in events])
        await first


async def test_one_model_s_queue_holds_no_other_model_up() -> None:
    """One worker runs one request: three more for it wait, and another model's worker is idle."""
    engine = HeldEngine(FIRST)
    async with living(gpus(1), engine) as daemon:
        asking = [asyncio.create_task(answer(daemon)) for _ in range(4)]
        await until(lambda: admission(daemon).waiting == 3)
        assert (admission(daemon).running, admission(daemon).limit) == (1, 8)
        ranking = await daemon.service.rank(Requirements(model="echo"))
        assert any("1 running and 3 waiting, 1 at once" in why for why in ranking.ranked[0].why)
        other = asyncio.create_task(answer(daemon, ask_for(model="other")))
        await until(lambda: len(engine.asked) == 2)
        assert (admission(daemon).running, admission(daemon).waiting) == (2, 3)
        engine.held[FIRST].set()
        await asyncio.gather(other, *asking)


async def test_a_server_takes_as_many_as_it_says_whatever_its_models() -> None:
    engine = HeldEngine(FIRST)
    engine.standings[FIRST] = Standing(loaded=True, server="rack", slots=6)
    async with living(gpus(1), engine) as daemon:
        asking = [asyncio.create_task(answer(daemon, ask_for(model=f"m{n % 2}"))) for n in range(7)]
        await until(lambda: admission(daemon).waiting == 1)
        assert (admission(daemon).running, admission(daemon).limit) == (6, 6)
        engine.held[FIRST].set()
        await asyncio.gather(*asking)


async def test_a_full_queue_for_long_prompts_refuses_no_short_one_that_fits_elsewhere() -> None:
    source, engine = gpus(2), HeldEngine(FIRST)
    source.readings[SECOND] = fake_readings(memory_used_bytes=70.0 * GIB)
    engine.shapes["echo"] = ModelShape(1000, 1, 2**20)
    engine.standings = {FIRST: Standing(loaded=True), SECOND: Standing(loaded=True)}
    config = Config(engine=EngineConfig(max_concurrent=1, max_queue=1))
    async with living(source, engine, config=config, interval_s=5) as daemon:
        await daemon.service.snapshot()
        long = ask_for(max_tokens=45_000)
        asking = [asyncio.create_task(answer(daemon, long)) for _ in range(2)]
        await until(lambda: admission(daemon).waiting == 1)
        with pytest.raises(Overloaded):
            await answer(daemon, long)
        _, record = await answer(daemon, ask_for(max_tokens=16))
        assert record.device == "gpu1"
        engine.held[FIRST].set()
        await asyncio.gather(*asking)


async def test_a_crowd_is_let_in_as_soon_as_one_of_the_devices_has_room() -> None:
    engine = HeldEngine(FIRST, SECOND)
    async with living(gpus(2), engine, config=ONE, interval_s=5) as daemon:
        asking = [asyncio.create_task(answer(daemon)) for _ in range(6)]
        await until(lambda: sum(item.waiting + item.running for item in daemon.service.status().admission) == 6)
        with pytest.raises(Overloaded):
            await answer(daemon)
        engine.held[SECOND].set()
        await until(lambda: admission(daemon, "gpu1").running == 0)
        _, record = await answer(daemon)
        assert record.device == "gpu1"
        engine.held[FIRST].set()
        await asyncio.gather(*asking)
