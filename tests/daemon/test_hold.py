"""A device that somebody has alone: who waits for it, who is sent elsewhere, and who gives way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.config import Config, EngineConfig
from hwdash.core.errors import Overloaded
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.ranking import Ranking
from hwdash.core.requirement import Requirements
from hwdash.daemon.gate import Gate, Place
from hwdash.daemon.hold import Hold
from tests.daemon.living import Living, ask_for, living, until
from tests.daemon.test_dispatch import FIRST, HeldEngine, admission, answer, gpus

WHY = "a bench is running"


def gate_of(max_queue: int = 8, limit: int = 4, clock: ManualClock | None = None) -> Gate:
    return Gate("gpu0", max_queue, limit, clock or ManualClock())


async def gate_in(daemon: Living, device: str = "gpu0") -> Gate:
    snapshot = await daemon.service.snapshot()
    gate = daemon.service.ledger.gate(snapshot.find(device))
    assert isinstance(gate, Gate)
    return gate


async def test_a_hold_comes_after_those_before_it_and_before_those_after_it() -> None:
    gate = gate_of(limit=1)
    line = gate.line("m", 1)
    first, second = line.enter(), line.enter()
    async with AsyncExitStack() as stack:
        holding = asyncio.create_task(stack.enter_async_context(gate.hold(WHY)))
        await asyncio.sleep(0)
        assert (gate.held, gate.barred) == (WHY, WHY)
        third = line.enter()
        first.leave()
        assert second.admitted
        await asyncio.sleep(0)
        assert not holding.done()
        second.leave()
        await holding
        assert not third.admitted
        assert third.words == WHY
        assert line.enter().words == f"{WHY}; 1 request before this one"
    assert [place.admitted for place in (first, second, third)] == [True] * 3
    assert not gate.held


async def test_a_hold_waits_for_every_line_and_a_request_of_a_free_line_waits_for_it() -> None:
    gate = gate_of()
    first, second = gate.line("a", 1).enter(), gate.line("b", 1).enter()
    async with AsyncExitStack() as stack:
        holding = asyncio.create_task(stack.enter_async_context(gate.hold(WHY)))
        await asyncio.sleep(0)
        late = gate.line("c", 1).enter()
        assert not late.admitted
        second.leave()
        await asyncio.sleep(0)
        assert not holding.done()
        first.leave()
        await holding
        late.leave()
    assert (gate.running, gate.waiting) == (0, 0)


async def test_a_second_hold_is_refused_with_the_reason_of_the_first() -> None:
    clock = ManualClock()
    gate = gate_of(clock=clock)
    async with gate.hold(WHY, lasts_s=90.0):
        clock.advance(30.0)
        with pytest.raises(Overloaded, match=f"gpu0: {WHY} and has the device for itself") as caught:
            async with gate.hold("a soak is running"):
                pass
        assert caught.value.retry_after_s == 60.0
        assert gate.try_hold("a probe is running", lambda: None) is None
    running = gate.line("m", 1).enter()
    waiting = asyncio.create_task(gate.hold(WHY).__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match=WHY):
        async with gate.hold("a soak is running"):
            pass
    waiting.cancel()
    running.leave()
    await asyncio.gather(waiting, return_exceptions=True)
    assert gate.held == ""


async def test_whoever_gives_up_waiting_for_the_device_lets_the_others_pass() -> None:
    gate = gate_of()
    line = gate.line("m", 2)
    running = line.enter()
    holding = asyncio.create_task(gate.hold(WHY).__aenter__())
    await asyncio.sleep(0)
    late = line.enter()
    assert not late.admitted
    holding.cancel()
    # The last request ends between the cancelling and the moment that the one who waited hears of it.
    running.leave()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert late.turn.done()
    assert not gate.held


async def test_the_queue_of_a_held_device_is_bounded_and_says_when_to_come_again() -> None:
    clock = ManualClock()
    gate = gate_of(max_queue=2, clock=clock)
    line = gate.line("m", 4)
    async with gate.hold(WHY, lasts_s=120.0):
        assert line.load == (0, 0, 0, WHY)
        places = [line.enter() for _ in range(2)]
        assert line.full
        with pytest.raises(Overloaded, match=f"gpu0: {WHY}, 2 requests wait already") as caught:
            line.enter()
        assert caught.value.retry_after_s >= 120.0
    assert all(place.admitted for place in places)


async def test_the_time_of_a_hold_counts_from_its_turn_and_is_never_less_than_none() -> None:
    clock = ManualClock()
    gate = gate_of(max_queue=0, limit=1, clock=clock)
    line = gate.line("m", 1)
    first = line.enter()
    clock.advance(40.0)
    async with AsyncExitStack() as stack:
        holding = asyncio.create_task(stack.enter_async_context(gate.hold(WHY, lasts_s=2.0)))
        await asyncio.sleep(0)
        clock.advance(10.0)
        assert gate.held_s == 2.0
        first.leave()
        await holding
        clock.advance(0.5)
        assert gate.held_s == 1.5
        before_s = line.retry_after_s
        clock.advance(60.0)
        assert gate.held_s == 0.0
        # An answer took 50 s: a hold that is late by more than that does not make the wait any shorter.
        gate.max_queue = 1
        line.enter()
        assert (before_s, line.retry_after_s) == (1.5, 50.0)


async def test_a_probe_holds_only_an_idle_device_and_is_told_who_wants_it() -> None:
    gate = gate_of(max_queue=0)
    wanted: list[str] = []
    line = gate.line("m", 2)
    running = line.enter()
    assert gate.try_hold("a probe is running", lambda: None) is None
    running.leave()
    probe = gate.try_hold("a probe is running", lambda: wanted.append("x"))
    assert probe is not None
    with probe:
        assert gate.held == "a probe is running"
        assert gate.barred == ""
        # As many as would run without the probe are taken, however short the queue is.
        places = [line.enter() for _ in range(2)]
        assert len(wanted) == 2
        with pytest.raises(Overloaded):
            line.enter()
        assert places[0].words == "a probe is running"
    assert all(place.admitted for place in places)


async def test_another_hold_waits_for_a_probe_that_gives_way() -> None:
    gate = gate_of()
    wanted = asyncio.Event()
    probe = gate.try_hold("a probe is running", wanted.set)
    assert probe is not None
    holding = asyncio.create_task(gate.hold(WHY).__aenter__())
    async with asyncio.timeout(5):
        await wanted.wait()
    assert gate.barred == WHY
    assert not holding.done()
    with probe:
        pass
    assert (await holding).why == WHY
    assert gate.held == WHY


steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("hold"), st.booleans()),
        st.tuples(st.just("release"), st.integers(0, 3)),
        st.tuples(st.just("limit"), st.integers(1, 4)),
    ),
    max_size=40,
)


@given(steps)
@settings(deadline=None)
def test_nobody_runs_while_the_device_is_held_and_nobody_is_forgotten(  # noqa: C901
    steps: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        gate = gate_of(5, 2)
        places: list[Place] = []
        tasks: list[tuple[asyncio.Event, asyncio.Task[None]]] = []
        inside = 0

        async def hold(leave: asyncio.Event, gives_way: bool) -> None:
            nonlocal inside
            async with gate.hold(WHY, on_wanted=leave.set if gives_way else None) as held:
                assert isinstance(held, Hold)
                inside += 1
                assert inside == 1
                assert gate.running == 0
                await leave.wait()
                assert gate.running == 0
                inside -= 1

        for step, number in steps:
            if step == "enter":
                try:
                    places.append(gate.line(str(number), number + 1).enter())
                except Overloaded:
                    assert gate.waiting >= gate.max_queue
            elif step == "leave" and places:
                places.pop(number % len(places)).leave()
            elif step == "limit":
                gate.adjust(number, "")
            elif step == "hold":
                leave = asyncio.Event()
                tasks.append((leave, asyncio.create_task(hold(leave, bool(number)))))
            elif step == "release" and tasks:
                tasks[number % len(tasks)][0].set()
            for _ in range(3):
                await asyncio.sleep(0)
            assert gate.running == sum(place.admitted for place in places)
        for leave, _ in tasks:
            leave.set()
        while places:
            places.pop(0).leave()
        ended = await asyncio.wait_for(asyncio.gather(*(task for _, task in tasks), return_exceptions=True), 10)
        assert all(result is None or isinstance(result, Overloaded) for result in ended)
        assert (gate.running, gate.waiting, gate.held) == (0, 0, "")
        assert gate.line("m", 1).enter().admitted

    asyncio.run(run())


def _why(ranking: Ranking, device: str) -> tuple[str, ...]:
    return next(item.why for item in ranking.ranked if item.device == device)


async def test_automatic_requests_go_elsewhere_and_those_that_name_it_wait() -> None:
    async with living(gpus(2), HeldEngine()) as daemon:
        gate = await gate_in(daemon)
        async with gate.hold(WHY):
            assert (admission(daemon).limit, admission(daemon).why) == (0, WHY)
            ranking = await daemon.service.rank()
            assert [item.device for item in ranking.ranked] == ["gpu1", "gpu0"]
            assert f"comes last: {WHY}" in _why(ranking, "gpu0")
            for _ in range(3):
                _, record = await answer(daemon)
                assert record.device == "gpu1"
            named = asyncio.create_task(answer(daemon, ask_for(device="gpu0")))
            await until(lambda: admission(daemon).waiting == 1)
        events, record = await named
        assert record.device == "gpu0"
        assert StageEvent(Stage.QUEUED, "gpu0", WHY) in events
        ranking = await daemon.service.rank(Requirements(model="echo"))
        assert not any("comes last" in line for item in ranking.ranked for line in item.why)


async def test_who_has_a_device_or_runs_there_is_at_work_on_it() -> None:
    async with living(gpus(2), HeldEngine()) as daemon:
        gate, ledger = await gate_in(daemon), daemon.service.ledger
        assert not ledger.at_work(FIRST)
        async with gate.hold(WHY):
            assert ledger.at_work(FIRST)
            assert not ledger.at_work("another")
        place = gate.line("m", 1).enter()
        assert ledger.at_work(FIRST)
        place.leave()
        assert not ledger.at_work(FIRST)


async def test_where_no_other_device_is_the_request_waits() -> None:
    async with living(gpus(1), HeldEngine(), config=Config(engine=EngineConfig(max_queue=1))) as daemon:
        async with (await gate_in(daemon)).hold(WHY):
            waiting = asyncio.create_task(answer(daemon))
            await until(lambda: admission(daemon).waiting == 1)
            with pytest.raises(Overloaded, match=WHY):
                await answer(daemon)
        _, record = await waiting
        assert record.device_key == FIRST
