"""What a request is charged: what the device used for it, and nothing that came before its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import HwdashError, WorkerDied
from hwdash.core.inference import (
    Conditions,
    Energy,
    EngineEvent,
    FinishReason,
    Generation,
    InferenceRecord,
    PromptRequest,
    Stage,
    StageEvent,
)
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.daemon.living import KEY, Living, ask_for, living, until
from tests.daemon.test_dispatch import HeldEngine, admission, answer

ONE_AT_ONCE = Config(engine=EngineConfig(max_concurrent=1))


def counting(joules: float, temperature_c: float = 50.0) -> FakeSource:
    return FakeSource([fake_gpu(0)], {KEY: fake_readings(energy_j=joules, temperature_c=temperature_c)})


async def two_requests(
    daemon: Living,
) -> tuple[asyncio.Task[InferenceRecord], asyncio.Task[InferenceRecord]]:
    """One that runs and one that waits behind it."""

    async def record() -> InferenceRecord:
        return (await answer(daemon, ask_for()))[1]

    await daemon.service.snapshot()
    first = asyncio.create_task(record())
    await until(lambda: admission(daemon).running == 1)
    second = asyncio.create_task(record())
    await until(lambda: admission(daemon).waiting == 1)
    return first, second


async def read_again(daemon: Living) -> None:
    """Until a snapshot was made of what was read after this."""
    snapshot = await daemon.service.snapshot()
    await until(lambda: (daemon.service.snapshots.latest or snapshot).sequence > snapshot.sequence + 1)


async def test_a_request_cancelled_in_the_queue_has_used_nothing() -> None:
    source, engine = counting(1000.0), HeldEngine(KEY)
    seen: list[InferenceRecord] = []
    async with living(source, engine, config=ONE_AT_ONCE, interval_s=0.1) as daemon:
        daemon.service.observers.append(seen.append)
        first, second = await two_requests(daemon)
        await read_again(daemon)
        source.readings[KEY] = fake_readings(energy_j=19_000.0, temperature_c=88.0)
        await read_again(daemon)
        second.cancel()
        await until(lambda: len(seen) == 1)
        assert seen[0].finish_reason is FinishReason.CANCELLED
        assert (seen[0].energy, seen[0].conditions) == (None, Conditions())
        engine.held[KEY].set()
        charged = (await first).energy
        assert charged is not None
        assert (charged.joules, charged.scope) == (18_000.0, "device")


async def test_what_the_device_used_while_a_request_waited_is_not_its_own() -> None:
    source, engine = counting(1000.0), HeldEngine(KEY)
    async with living(source, engine, config=ONE_AT_ONCE, interval_s=0.1) as daemon:
        first, second = await two_requests(daemon)
        await read_again(daemon)
        source.readings[KEY] = fake_readings(energy_j=19_000.0, temperature_c=88.0)
        await read_again(daemon)
        source.readings[KEY] = fake_readings(energy_j=20_000.0, temperature_c=40.0)
        engine.held[KEY].set()
        await first
        record = await second
        assert record.energy is None  # its own part of the counter did not move
        assert record.conditions.temperature_max_c == 40.0


async def test_who_never_came_to_the_device_has_no_part_in_its_energy() -> None:
    source = counting(1000.0)
    async with living(source, HeldEngine()) as daemon:
        status = (await daemon.service.snapshot()).devices[0]
        async with daemon.service.ledger.gate(status).hold("a soak is running"):
            asked = [asyncio.create_task(answer(daemon, ask_for(device="gpu0"))) for _ in range(3)]
            await until(lambda: admission(daemon).waiting == 3)
            parties = daemon.service._dispatcher._meters.of(KEY)._parties
            assert len(parties) == 3
            source.lost.add(KEY)
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(error, HwdashError) for error in ended)
        assert parties == set()


class LoadingEngine(FakeEngine):
    """Loads until ``loaded`` is set, then answers, or dies where ``dies``."""

    def __init__(self, *, dies: bool = False) -> None:
        super().__init__()
        self.loaded = asyncio.Event()
        self.dies = dies

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        yield StageEvent(Stage.LOADING, device.id)
        await self.loaded.wait()
        if self.dies:
            raise WorkerDied("the worker died while it loaded")
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield event


@pytest.mark.parametrize("dies", [False, True])
async def test_loading_is_nobodys_energy(dies: bool) -> None:
    source, engine = counting(1000.0), LoadingEngine(dies=dies)
    seen: list[InferenceRecord] = []
    async with living(source, engine, interval_s=0.1) as daemon:
        daemon.service.observers.append(seen.append)
        await daemon.service.snapshot()
        task = asyncio.create_task(answer(daemon, ask_for()))
        await until(lambda: admission(daemon).running == 1)
        source.readings[KEY] = fake_readings(energy_j=19_000.0, temperature_c=88.0)
        await read_again(daemon)
        source.readings[KEY] = fake_readings(energy_j=19_000.0, temperature_c=41.0)
        await read_again(daemon)
        engine.loaded.set()
        if dies:
            with pytest.raises(HwdashError, match="died while it loaded"):
                await task
        else:
            await task
        assert seen[0].energy is None
        assert seen[0].conditions.temperature_max_c == (None if dies else 41.0)


class SharingEngine(HeldEngine):
    """Tells ``shares`` of its requests, in the order in which they end."""

    def __init__(self, key: str, *shares: float | None) -> None:
        super().__init__(key)
        self.shares = list(shares)

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield replace(event, share=self.shares.pop(0)) if isinstance(event, Generation) else event


async def at_once(*shares: float | None) -> list[InferenceRecord]:
    """Two requests at once while the counter moved by 600 J."""
    source, engine = counting(1000.0), SharingEngine(KEY, *shares)
    engine.standings[KEY] = Standing(slots=2)
    async with living(source, engine, interval_s=0.1) as daemon:
        await daemon.service.snapshot()
        tasks = []
        for number in (1, 2):
            tasks.append(asyncio.create_task(answer(daemon, ask_for())))
            async with asyncio.timeout(20.0):
                while len(engine.asked) < number:
                    await asyncio.sleep(0.005)
        await read_again(daemon)
        source.readings[KEY] = fake_readings(energy_j=1600.0)
        await read_again(daemon)
        engine.held[KEY].set()
        return [(await task)[1] for task in tasks]


async def test_requests_at_once_share_what_the_device_took() -> None:
    records = await at_once(0.25, 0.75)
    energies = [record.energy for record in records]
    assert all(energy is not None and energy.scope == "device" for energy in energies)
    parts = sorted(
        (energy.joules, energy.share or 0.0, energy.joules_per_token or 0.0) for energy in energies if energy
    )
    assert sum(joules for joules, _, _ in parts) == pytest.approx(600.0)
    joules, share, each = parts[0]  # they did not begin at the same moment
    assert joules == pytest.approx(150.0, rel=0.3)
    assert (share, each) == pytest.approx((joules / 600.0, joules / 3))


async def test_an_engine_that_does_not_tell_shares_has_the_devices_energy_and_says_so() -> None:
    records = await at_once(None, None)
    assert [record.energy for record in records] == [Energy(600.0, "device, shared")] * 2
