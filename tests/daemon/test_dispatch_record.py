"""What a prompt leaves behind: its records, in order, and what is learned from its times."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import (
    Overloaded,
    WorkerDied,
)
from hwdash.core.inference import (
    EngineEvent,
    FinishReason,
    Generation,
    InferenceRecord,
    PromptRequest,
    TokenEvent,
)
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.daemon.account import Arrival
from hwdash.daemon.dispatch import _Wish
from hwdash.daemon.gate import Gate
from hwdash.daemon.journey import Journey
from hwdash.daemon.loss import LossWatch
from hwdash.engine.fake import FakeEngine
from hwdash.monitor.broadcast import Broadcast
from hwdash.routing.choose import Choice, choose
from hwdash.routing.knowledge import Knowledge
from hwdash.sources.fake import fake_gpu
from hwdash.store.pace import StoredAnswer
from hwdash.store.store import Store
from tests.daemon.living import ask_for, living, until
from tests.daemon.test_dispatch import FIRST, HeldEngine, admission, answer, gpus


async def test_the_next_device_does_not_wait_for_the_record_of_the_one_that_failed() -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = WorkerDied("gpu0: dead")
    async with living(gpus(), engine) as daemon:
        store, held, seen = daemon.store.add_record, asyncio.Event(), []
        daemon.service.observers.append(lambda record: seen.append(record.device))

        async def add_record(record: InferenceRecord) -> None:
            if record.device == "gpu0":
                await held.wait()
            await store(record)

        daemon.store.add_record = add_record  # type: ignore[method-assign]
        async with aclosing(daemon.service.prompt(ask_for())) as events:
            async for event in events:
                if isinstance(event, TokenEvent):
                    assert seen == []
                    held.set()
        # The end is told when both are stored, in their order.
        assert seen == ["gpu0", "gpu1"]


async def test_all_records_are_stored_before_the_last_error_is_told() -> None:
    engine = FakeEngine(failure=WorkerDied("dead"))
    async with living(gpus(), engine) as daemon:
        seen: list[str] = []
        daemon.service.observers.append(lambda record: seen.append(record.device))
        with pytest.raises(WorkerDied):
            await answer(daemon)
        assert seen == ["gpu0", "gpu1"]


async def test_only_answers_that_came_to_their_end_are_learned_from() -> None:
    class Breaking(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
            async with aclosing(super().generate(request, device)) as events:
                async for event in events:
                    yield replace(event, finish_reason=self.finish) if isinstance(event, Generation) else event

        finish = FinishReason.CANCELLED

    engine = Breaking()
    async with living(gpus(1), engine) as daemon:
        for finish, samples in ((FinishReason.CANCELLED, 0), (FinishReason.STOP, 1)):
            engine.finish = finish
            await answer(daemon)
            expected = (await daemon.service.rank(Requirements(model="echo"))).ranked[0].expected
            assert expected is not None
            assert expected.samples == samples


async def test_waiting_at_several_devices_adds_up() -> None:
    clock = ManualClock()
    journey = Journey(ask_for(), Arrival(clock.now(), clock.monotonic()))
    async with living(gpus()) as daemon:
        await daemon.service.snapshot()
        dispatcher, device = daemon.service._dispatcher, fake_gpu(0)
        dispatcher._clock = clock
        for seconds in (2.0, 3.0):
            place = Gate("gpu0", 8, 1, clock).line("m", 1).enter()
            watch = LossWatch(daemon.service.snapshots, device)
            journey.refuse("gpu9", None, Overloaded("full"))
            async for _ in dispatcher._wait(journey, device, place, watch):
                clock.advance(seconds)
            watch.close()
        assert journey.queued_s == 5.0


def test_when_all_are_full_the_first_to_have_room_says_when_to_come_again() -> None:
    clock = ManualClock()
    journey = Journey(ask_for(), Arrival(clock.now(), clock.monotonic()))
    for device, wait_s in (("gpu0", 9.0), ("gpu1", 4.0), ("gpu2", 7.0)):
        journey.refuse(device, None, Overloaded(f"{device}: {wait_s:g} wait already", retry_after_s=wait_s))
    error = journey.end()
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 4.0


@pytest.mark.parametrize(
    ("text", "max_tokens", "tokens"), [("abcd" * 30, 100, 130), ("文" * 40, 100, 130), ("", 1, 2), ("\ud800abc", 5, 6)]
)
async def test_the_context_is_the_prompt_s_own_length_and_that_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, text: str, max_tokens: int, tokens: int
) -> None:
    asked: list[Requirements] = []

    def noted(snapshot: Snapshot, device: str, requirements: Requirements, knowledge: Knowledge) -> Choice:
        asked.append(requirements)
        return choose(snapshot, device, requirements, knowledge)

    monkeypatch.setattr("hwdash.daemon.dispatch.choose", noted)
    async with living(gpus(1)) as daemon:
        request = ask_for(text, max_tokens=max_tokens)
        candidates = await daemon.service._dispatcher._candidates(
            _Wish.of(request, await daemon.service.snapshot()), await daemon.service.snapshot()
        )
        assert len(candidates) == 1
    assert [(item.model, item.context_tokens) for item in asked] == [("echo", tokens)]


async def test_times_count_from_the_arrival_and_paces_only_what_the_device_took() -> None:
    engine = HeldEngine(FIRST)
    async with living(gpus(1), engine, config=Config(engine=EngineConfig(max_concurrent=1))) as daemon:
        await daemon.service.snapshot()
        first, second = (asyncio.create_task(answer(daemon)) for _ in range(2))
        await until(lambda: admission(daemon).waiting == 1)
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(0.2)
        engine.held[FIRST].set()
        await first
        events, record = await second
        waited = asyncio.get_running_loop().time() - started
        timing = record.timing
        assert timing.queue_s is not None
        assert timing.ttft_s is not None
        assert timing.total_s is not None
        assert 0.2 <= timing.queue_s <= timing.ttft_s <= timing.total_s
        assert next(event for event in events if isinstance(event, TokenEvent)).elapsed_s == pytest.approx(
            timing.ttft_s
        )
        ranking = await daemon.service.rank(Requirements(model="echo"))
        expected = ranking.ranked[0].expected
        assert expected is not None
        assert expected.samples == 2
        # One of the two was held for all of the time, the other one only waited.
        assert expected.ttft_s is not None
        assert expected.ttft_s < waited + 0.2


async def test_an_observer_that_fails_keeps_nobody_from_the_answer() -> None:
    seen: list[InferenceRecord] = []
    async with living() as daemon:
        daemon.service.observers += [lambda record: 1 / 0, seen.append]  # type: ignore[list-item]
        _, record = await answer(daemon)
        assert seen == [record]


async def test_a_fresh_daemon_knows_the_paces_of_earlier_days(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(_: Store) -> tuple[StoredAnswer, ...]:
        return (StoredAnswer(FIRST, "echo", 0.5, 0.01), StoredAnswer(FIRST, "echo", 0.5, 0.01))

    monkeypatch.setattr(Store, "recent_answers", answers)
    async with living(gpus(1)) as daemon:
        async with asyncio.timeout(10):
            while True:
                (ranked,) = (await daemon.service.rank(Requirements(model="echo"))).ranked
                if ranked.expected is not None and ranked.expected.measured:
                    break
                await asyncio.sleep(0.01)
        assert ranked.expected.samples == 2
        assert ranked.expected.ttft_s == pytest.approx(0.5)


async def test_work_that_fails_in_the_moment_in_which_its_waiter_leaves_is_no_lost_error() -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

    async def fail() -> None:
        raise WorkerDied("dead")

    watch = LossWatch(Broadcast(), fake_gpu(0))
    waiting = asyncio.create_task(watch.wait(fail()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    watch.close()
    gc.collect()
    assert lost == []
