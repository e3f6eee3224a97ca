"""What failures are held against: a model on a device, the device, or nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import (
    DeviceFull,
    HwdashError,
    NoKernels,
    NoSuitableDevice,
    Overloaded,
    ServerDown,
    WorkerDied,
)
from hwdash.core.inference import (
    EngineEvent,
    InferenceRecord,
    PromptRequest,
)
from hwdash.core.requirement import Requirements
from hwdash.core.status import BreakerState
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import GIB, fake_readings
from tests.daemon.living import ask_for, living, until
from tests.daemon.test_dispatch import FIRST, SECOND, HeldEngine, admission, answer, by_name, gpus, told_of


async def test_a_device_that_fails_again_and_again_is_left_alone_but_for_who_names_it() -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = WorkerDied("gpu0: dead")
    async with living(gpus(), engine) as daemon:
        # A model that was answered by the other device is better off there.
        for number in range(3):
            await answer(daemon, ask_for(model=f"model {number}"))
        state = admission(daemon)
        assert state.breaker is BreakerState.OPEN
        assert "3 different models failed in a row, last: gpu0: dead" in state.problem
        engine.asked.clear()
        _, record = await answer(daemon)
        assert engine.asked == [SECOND]
        assert record.route.fallback_from is None
        ranking = await daemon.service.rank()
        assert [(item.device, "failed in a row" in item.why[0]) for item in ranking.excluded] == [("gpu0", True)]

        del engine.failures[FIRST]
        await answer(daemon, ask_for(device="gpu0"))
        assert admission(daemon).breaker is BreakerState.CLOSED
        await told_of(daemon, "no prompts go to it for now: 3 different models")
        await told_of(daemon, "it answers again")


class BadModel(FakeEngine):
    """Fails whoever asks for the model ``bad`` by ``error``."""

    def __init__(self, error: HwdashError) -> None:
        super().__init__()
        self.error = error

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        self.failure = self.error if request.model == "bad" else None
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield event


async def test_a_model_that_kills_every_worker_closes_no_device_to_the_others() -> None:
    async with living(gpus(), BadModel(WorkerDied("the worker died"))) as daemon:
        for _ in range(3):
            with pytest.raises(WorkerDied):
                await answer(daemon, ask_for(model="bad"))
        with pytest.raises(
            Overloaded, match=r"for now \(gpu0: 3 failures in a row.*gpu1: 3.*try again in about 10"
        ) as caught:
            await answer(daemon, ask_for(model="bad"))
        assert 8.0 < caught.value.retry_after_s <= 10.0
        await answer(daemon)
        assert [admission(daemon, name).breaker for name in ("gpu0", "gpu1")] == [BreakerState.OPEN] * 2


async def test_missing_kernels_of_one_model_keep_no_other_away() -> None:
    engine = BadModel(NoKernels("this torch build has no kernels for this device"))
    async with living(gpus(1), engine) as daemon:
        with pytest.raises(NoKernels):
            await answer(daemon, ask_for(model="bad"))
        await answer(daemon)
        with pytest.raises(NoSuitableDevice, match="no kernels"):
            await answer(daemon, ask_for(model="bad"))
        engine.error = None  # type: ignore[assignment]
        await answer(daemon, ask_for(model="bad", device="gpu0"))
        await answer(daemon, ask_for(model="bad"))
        assert admission(daemon).verdicts == ()


async def test_a_prompt_too_long_for_the_memory_keeps_no_shorter_one_away() -> None:
    class Small(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
            self.failure = DeviceFull("out of memory") if len(request.messages[0].content) > 1000 else None
            async with aclosing(super().generate(request, device)) as events:
                async for event in events:
                    yield event

    async with living(gpus(1), Small()) as daemon:
        await answer(daemon)
        with pytest.raises(DeviceFull):
            await answer(daemon, ask_for("w " * 2000))
        await answer(daemon)


async def test_a_verdict_on_memory_goes_by_what_was_free_when_it_was_the_request_s_turn() -> None:
    class Big(HeldEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
            self.failure = DeviceFull("out of memory") if request.model == "big" else None
            async with aclosing(super().generate(request, device)) as events:
                async for event in events:
                    yield event

    source, engine = gpus(1), Big(FIRST)
    source.readings[FIRST] = fake_readings(memory_used_bytes=130.0 * GIB)
    async with living(source, engine, config=Config(engine=EngineConfig(max_concurrent=1))) as daemon:
        first = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).running == 1)
        big = asyncio.create_task(answer(daemon, ask_for(model="big")))
        await until(lambda: admission(daemon).waiting == 1)
        source.readings[FIRST] = fake_readings(memory_used_bytes=100.0 * GIB)

        def free() -> float | None:
            pool = (await_snapshot := daemon.service.snapshots.latest) and await_snapshot.devices[0].largest_pool
            return pool.free_bytes if pool else None

        before = free()
        await until(lambda: free() != before)
        engine.held[FIRST].set()
        await first
        with pytest.raises(DeviceFull):
            await big
        sequence = (await daemon.service.snapshot()).sequence
        await until(lambda: (latest := daemon.service.snapshots.latest) is not None and latest.sequence > sequence + 2)
        assert admission(daemon).verdicts == ("big: out of memory",)


async def test_half_open_one_of_a_burst_is_let_through_and_the_others_are_told_when_to_come_again() -> None:
    class Slow(HeldEngine):
        async def check(self, model: str, device: Device) -> None:
            await asyncio.sleep(0.01)

    engine = Slow()
    engine.failures[FIRST] = WorkerDied("dead")
    engine.standings[FIRST] = Standing(slots=8)
    async with living(gpus(1), engine, config=Config(engine=EngineConfig(max_concurrent=8))) as daemon:
        for _ in range(3):
            with pytest.raises(WorkerDied):
                await answer(daemon)
        del engine.failures[FIRST]
        engine.held[FIRST] = asyncio.Event()
        engine.asked.clear()
        circuits = daemon.service.ledger._circuits
        circuits._models[FIRST, "echo"] = replace(circuits._models[FIRST, "echo"], opens_s=0.0)
        burst = [asyncio.create_task(answer(daemon)) for _ in range(5)]
        await until(lambda: sum(task.done() for task in burst) == 4)
        for task in burst:
            if task.done():
                with pytest.raises(Overloaded, match="one request is trying it now"):
                    await task
        engine.held[FIRST].set()
        await asyncio.gather(*burst, return_exceptions=True)
        assert engine.asked == [FIRST]
        assert admission(daemon).breaker is BreakerState.CLOSED


async def test_what_fails_while_the_daemon_ends_is_not_held_against_the_device() -> None:
    engine = HeldEngine(FIRST)
    engine.failures[FIRST] = WorkerDied("dead")
    async with living(gpus(), engine) as daemon:
        engine.standings[FIRST] = Standing(slots=3)
        asking = [asyncio.create_task(answer(daemon, ask_for(model=f"m{n}", device="gpu0"))) for n in range(3)]
        await until(lambda: admission(daemon).running == 3)
        daemon.service.stopping.set()
        engine.held[FIRST].set()
        for task in asking:
            with pytest.raises(WorkerDied):
                await task
        assert admission(daemon).breaker is BreakerState.CLOSED


async def test_a_full_device_comes_back_when_it_has_memory() -> None:
    source, engine = gpus(), FakeEngine()
    engine.failures[FIRST] = DeviceFull("gpu0: out of memory")
    async with living(source, engine) as daemon:
        await answer(daemon)
        assert admission(daemon).verdicts == ("echo: gpu0: out of memory",)
        del engine.failures[FIRST]
        engine.asked.clear()
        await answer(daemon)
        await answer(daemon, ask_for(model="other"))
        assert engine.asked == [SECOND, FIRST]
        ranking = await daemon.service.rank(Requirements(model="echo"))
        assert [(item.device, item.why) for item in ranking.excluded] == [("gpu0", ("gpu0: out of memory",))]

        source.readings[FIRST] = fake_readings(memory_used_bytes=10.0 * GIB)
        await until(lambda: admission(daemon).verdicts == ())
        assert [item.device for item in (await daemon.service.rank(Requirements(model="echo"))).excluded] == []
        await told_of(daemon, "memory is free again")


async def test_a_device_without_kernels_is_remembered_for_every_model() -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = NoKernels("this torch build has no kernels for sm_12", param="device")
    async with living(gpus(), engine) as daemon:
        await answer(daemon)
        _, record = await answer(daemon, ask_for(model="other"))
        assert record.device == "gpu1"
        assert engine.asked == [FIRST, SECOND, SECOND]
        assert admission(daemon).verdicts == ("this torch build has no kernels for sm_12",)
        with pytest.raises(NoKernels):
            await answer(daemon, ask_for(device="gpu0"))


async def test_who_waits_for_a_device_that_fails_the_others_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwdash.daemon.dispatch.choose", by_name)
    engine = HeldEngine(FIRST)
    engine.failures[FIRST] = WorkerDied("gpu0: dead")
    async with living(gpus(), engine, config=Config(engine=EngineConfig(max_concurrent=1))) as daemon:
        await daemon.service.snapshot()
        named = [asyncio.create_task(answer(daemon, ask_for(device="gpu0"))) for _ in range(3)]
        await until(lambda: admission(daemon).waiting == 2)
        free = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).waiting == 3)
        engine.held[FIRST].set()
        _, record = await free
        assert record.device == "gpu1"
        assert "3 failures in a row" in record.route.why[0]
        for task in named:
            with pytest.raises(WorkerDied):
                await task
        assert engine.asked == [FIRST, FIRST, FIRST, SECOND]


async def test_a_server_that_is_down_is_found_so_before_anything_is_sent() -> None:
    class Down(FakeEngine):
        async def check(self, model: str, device: Device) -> None:
            if device.key == FIRST:
                raise ServerDown("rack does not answer")

    engine = Down()
    seen: list[InferenceRecord] = []
    async with living(gpus(), engine) as daemon:
        daemon.service.observers.append(seen.append)
        for number in range(4):
            _, record = await answer(daemon, ask_for(model=f"m{number}"))
            assert record.route.fallback_from == ("gpu0" if number < 3 else None)
        assert admission(daemon).breaker is BreakerState.OPEN
        assert [item.device for item in seen] == ["gpu1"] * 4
