"""Precisions tried by the daemon: when, what is kept, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.config import Config, EngineConfig, ProbesConfig, StoreConfig
from hwdash.core.device import Device
from hwdash.core.errors import WorkerDied
from hwdash.core.event import EventKind
from hwdash.core.precision import choose_dtype
from hwdash.core.trial import DeviceTrial, DtypeSpeed, DtypeTrial
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.trial import Trier, installed_torch
from hwdash.engine.fake import FakeEngine
from hwdash.monitor.monitor import Monitor
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.store.store import Store
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, Living, ask_for, living, until

BY_HAND = Config(engine=EngineConfig(model=MODEL), probes=ProbesConfig(interval_s=0.0))
TRIAL = DeviceTrial(
    KEY,
    "570",
    installed_torch(),
    datetime(2026, 1, 1, tzinfo=UTC),
    (
        DtypeTrial("fp32", 1.0, 4.0, 1.0),
        DtypeTrial("bf16", 1.0, 1.4, 0.7, emulated=True),
        DtypeTrial("fp16", 1.0, 4.0, 2.0),
    ),
)


@asynccontextmanager
async def loaded(engine: FakeEngine, busy: float = 0.0) -> AsyncIterator[Living]:
    """A daemon with one device that has `MODEL` loaded, and looks for trials by hand."""
    source = FakeSource([fake_gpu(0, driver="570")])
    source.readings = {KEY: fake_readings(utilization=busy)}
    async with living(source, engine, config=BY_HAND) as daemon:
        await engine.prewarm(MODEL, (await device_of(daemon)))
        yield daemon


async def device_of(daemon: Living) -> Device:
    return (await daemon.service.snapshot()).devices[0].device


async def look(daemon: Living, times: int = 2) -> None:
    for _ in range(times):
        await daemon.service.trier.turn()


async def test_a_calm_device_is_tried_once_and_its_emulated_precision_is_not_chosen() -> None:
    engine = FakeEngine()
    engine.trials[KEY] = TRIAL
    async with loaded(engine) as daemon:
        assert choose_dtype(await device_of(daemon)) == "bf16"
        await look(daemon, 1)
        assert engine.tried == []  # it may have been calm for a moment only
        await look(daemon, 3)
        assert engine.tried == [KEY]
        async with asyncio.timeout(20):
            while not (await device_of(daemon)).capabilities.tried:
                await asyncio.sleep(0.01)
        device = await device_of(daemon)
        assert device.capabilities.tried[1] == DtypeSpeed("bf16", 0.7, emulated=True)
        assert choose_dtype(device) == "fp16"
        (told,) = (await daemon.client.snapshot()).devices
        assert told.device.capabilities.tried == device.capabilities.tried
        assert await daemon.store.trials() == (TRIAL,)
        events = await daemon.client.events(3600, kind=EventKind.DEVICE)
        words = [event.words for event in events.events if "emulated" in event.words]
        assert words == [
            "bf16 is emulated on gpu0: 0.7 of fp32's speed; it is not chosen any more when a model is loaded there"
        ]


async def test_nothing_is_tried_where_nothing_is_loaded_or_the_device_is_busy() -> None:
    engine = FakeEngine()
    async with living(FakeSource([fake_gpu(0)]), engine, config=BY_HAND) as daemon:
        await daemon.service.snapshot()
        await look(daemon, 3)
    async with loaded(engine, busy=0.5) as daemon:
        await look(daemon, 3)
    assert engine.tried == []


async def test_a_request_under_way_or_meanwhile_makes_a_trial_worthless() -> None:
    engine = FakeEngine(delay_s=0.01)
    engine.trials[KEY] = TRIAL
    engine.trial_s = 60.0
    async with loaded(engine) as daemon:
        answer = asyncio.create_task(anext(daemon.client.prompt(ask_for("word " * 1000, max_tokens=1000))))
        await until(lambda: bool(engine.requests))
        await look(daemon, 3)
        assert engine.tried == []
        answer.cancel()
        await asyncio.wait({answer})
        await until(lambda: not daemon.service.ledger.gates[KEY].running)
        trying = asyncio.create_task(look(daemon))
        await until(lambda: bool(engine.tried))
        async with asyncio.timeout(20):  # far less than the trial lasts
            assert [event async for event in daemon.client.prompt(ask_for("one two"))]
            await trying
        assert await daemon.store.trials() == ()
        engine.trial_s = 0.0
        await look(daemon)
        assert engine.tried == [KEY, KEY]
        assert await daemon.store.trials() == (TRIAL,)


@pytest.mark.parametrize("error", [WorkerDied("the worker ended"), RuntimeError("odd")])
async def test_a_device_that_cannot_be_tried_is_not_tried_again(error: Exception) -> None:
    class Failing(FakeEngine):
        async def trial(self, model: str, device: Device) -> DeviceTrial | None:
            await super().trial(model, device)
            raise error

    engine = Failing()
    async with loaded(engine) as daemon:
        await look(daemon, 6)
        assert engine.tried == [KEY]


@pytest.mark.parametrize(
    ("driver", "torch", "known"), [("570", "2.11", True), ("571", "2.11", False), ("570", "2.12", False)]
)
async def test_earlier_trials_hold_for_the_same_driver_and_torch(
    tmp_path: Path, driver: str, torch: str, known: bool
) -> None:
    store = await Store.open(tmp_path / "hwdash.db", StoreConfig())
    await store.add_trial(replace(TRIAL, torch="2.11"))
    monitor, engine = Monitor([FakeSource([fake_gpu(0, driver=driver)])], 0.1), FakeEngine()
    ledger = Ledger(engine, 4, lambda _: None, SYSTEM_CLOCK)
    trier = Trier(engine, store, monitor, ledger, dict, lambda _: None, SYSTEM_CLOCK, lambda: torch)
    try:
        await trier.seed()
        await monitor.start()
        await monitor.ready()
        latest = monitor.snapshots.latest
        assert latest is not None
        assert latest.devices[0].device.capabilities.tried == (TRIAL.speeds if known else ())
    finally:
        await monitor.stop()
        await store.close()
