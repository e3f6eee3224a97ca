"""Requests, benches and probes on several GPUs at once: their turns, their records, and what is refused."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.bench import BenchFinished, BenchReport, BenchRequest
from hwdash.core.clock import ManualClock
from hwdash.core.config import Config, EngineConfig
from hwdash.core.errors import EngineError, NoSuitableDevice, Overloaded, UsageError
from hwdash.core.inference import InferenceRecord, Stage, StageEvent
from hwdash.core.measurement import Load
from hwdash.core.model import ModelShape
from hwdash.core.probe import ProbeOutcome, ProbeRequest
from hwdash.core.requirement import Requirements
from hwdash.core.soak import SoakFinished, SoakRequest
from hwdash.daemon.gate import Gate
from hwdash.daemon.group_gate import GroupGate, GroupLine, GroupPlace
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import GIB, FakeSource, fake_gpu, fake_readings
from tests.daemon.fake_models import MODEL
from tests.daemon.living import Living, ask_for, living, until
from tests.daemon.test_dispatch import FIRST, SECOND, HeldEngine, admission, answer

BOTH = f"{FIRST}+{SECOND}"
PAIR = "gpu0+gpu1"


def alike(count: int = 2) -> FakeSource:
    """GPUs of one name whose counters grow by 10 J and 30 J from read to read."""
    devices = [fake_gpu(number, name="Fake GPU") for number in range(count)]
    readings = {
        device.key: (lambda n, step=step: fake_readings(energy_j=1000.0 + step * n, temperature_c=40.0 + step))
        for device, step in zip(devices, (10.0, 30.0, 50.0), strict=False)
    }
    return FakeSource(devices, readings)


def lines_of(gates: list[Gate], slots: int = 8) -> GroupLine:
    return GroupLine([gate.line("m on both", slots) for gate in gates])


def gates_of(*limits: int, max_queue: int = 8) -> list[Gate]:
    return [Gate(f"gpu{number}", max_queue, limit, ManualClock()) for number, limit in enumerate(limits)]


async def test_a_request_waits_for_every_device_of_its_group() -> None:
    gates = gates_of(1, 1)
    other = gates[1].line("m", 1).enter()
    place = lines_of(gates).enter()
    assert [place.admitted] == [False]
    assert (gates[0].running, gates[1].waiting) == (1, 1)
    assert place.words == "gpu1: 1 request before this one"
    waiting = asyncio.create_task(place.moved(place.words))
    other.leave()
    await asyncio.wait_for(waiting, 5)
    assert place.admitted
    place.leave()
    place.leave()
    assert [(gate.running, gate.waiting) for gate in gates] == [(0, 0), (0, 0)]


async def test_one_that_leaves_half_way_gives_its_places_back() -> None:
    gates = gates_of(1, 1)
    other = gates[1].line("m", 1).enter()
    place = lines_of(gates).enter()
    place.leave()
    assert [(gate.running, gate.waiting) for gate in gates] == [(0, 0), (1, 0)]
    other.leave()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([(0, 1), (1, 2), (0, 2), (0, 1, 2), (1,)]), min_size=1, max_size=10))
def test_groups_that_share_devices_never_block_each_other(wanted: list[tuple[int, ...]]) -> None:
    async def run() -> None:
        gates = gates_of(1, 1, 1, max_queue=100)
        places = [GroupLine([gates[n].line(f"m on {members}", 1) for n in members]).enter() for members in wanted]
        while places:
            admitted = [place for place in places if place.admitted]
            assert admitted, "all wait for each other"
            for place in admitted:
                place.leave()
            places = [place for place in places if place not in admitted]
        assert all(not gate.running and not gate.waiting for gate in gates)

    asyncio.run(run())


async def test_a_full_line_on_one_device_refuses() -> None:
    gates = gates_of(4, 1, max_queue=0)
    other = gates[1].line("m", 1).enter()
    line = lines_of(gates)
    assert line.full
    with pytest.raises(Overloaded, match="gpu1"):
        line.enter()
    assert gates[0].running == 0
    assert line.load[:3] == (1, 0, 1)
    other.leave()
    assert isinstance(line.enter(), GroupPlace)


async def test_a_hold_has_all_devices_or_none() -> None:
    gates = gates_of(2, 2)
    group = GroupGate(gates)
    hold = group.try_hold("a probe is running", lambda: None)
    assert hold is not None
    with hold:
        assert [gate.held for gate in gates] == ["a probe is running"] * 2
    assert (group.held, group.barred) == ("", "")
    place = gates[1].line("m", 1).enter()
    assert group.try_hold("a probe is running", lambda: None) is None
    assert gates[0].held == ""
    barred: list[str] = []

    async def bench() -> None:
        async with group.hold("a bench is running"):
            barred.extend(gate.barred for gate in gates)

    holding = asyncio.create_task(bench())
    await until(lambda: gates[1].barred != "")
    assert barred == []
    place.leave()
    await asyncio.wait_for(holding, 5)
    assert barred == ["a bench is running"] * 2
    assert group.barred == ""


async def test_a_prompt_to_a_group_is_one_record_of_all_its_devices() -> None:
    engine = FakeEngine()
    async with living(alike(), engine) as daemon:
        _, record = await answer(daemon, ask_for(device="gpu1+gpu0"))
        assert engine.asked == [BOTH]
        assert (record.device, record.device_key) == (PAIR, BOTH)
        assert record.route.why[:2] == ("asked for by name", "spread over gpu0 and gpu1")
        assert record.energy is not None
        assert record.energy.scope == "devices"
        assert record.energy.joules % 10.0 == 0.0
        assert record.energy.joules >= 40.0  # 10 J of the one and 30 J of the other at least
        assert record.conditions.temperature_max_c == 70.0
        history = await daemon.service.latency(60.0, PAIR, 1)
        assert [item.device for item in history.series] == [PAIR]
        assert not (await daemon.service.latency(60.0, "gpu0", 1)).series
        knowledge = daemon.service.ledger.knowledge(MODEL, await daemon.service.snapshot(), None, named=PAIR)
        assert knowledge.of(BOTH).pace is not None
        assert knowledge.of(FIRST).pace is None


async def test_a_prompt_to_a_group_waits_behind_one_on_one_of_its_devices() -> None:
    engine = HeldEngine(SECOND)
    config = Config(engine=EngineConfig(max_concurrent=1))
    async with living(alike(), engine, config=config) as daemon:

        async def record(device: str) -> InferenceRecord:
            return (await answer(daemon, ask_for(device=device)))[1]

        await daemon.service.snapshot()
        alone = asyncio.create_task(record("gpu1"))
        await until(lambda: admission(daemon, "gpu1").running == 1)
        together = asyncio.create_task(record(PAIR))
        await until(lambda: admission(daemon, "gpu1").waiting == 1)
        assert admission(daemon, "gpu0").running == 1
        assert engine.asked == [SECOND]
        engine.held[SECOND].set()
        assert (await alone).device == "gpu1"
        assert (await together).device == PAIR
        assert engine.asked == [SECOND, BOTH]
        assert [admission(daemon, name).running for name in ("gpu0", "gpu1")] == [0, 0]


async def test_what_cannot_be_spread_says_why_and_is_held_against_no_single_device() -> None:
    engine = FakeEngine()
    engine.failures[BOTH] = EngineError("gpt_oss cannot be spread over several devices; choose one device")
    async with living(alike(), engine) as daemon:
        for _ in range(4):
            with pytest.raises(EngineError, match="cannot be spread"):
                await answer(daemon, ask_for(device=PAIR))
        knowledge = daemon.service.ledger.knowledge(MODEL, await daemon.service.snapshot(), None)
        assert [knowledge.of(key).barred for key in (FIRST, SECOND)] == ["", ""]
        assert (await answer(daemon))[1].device == "gpu0"


@pytest.mark.parametrize(
    ("device", "words"),
    [("gpu0+gpu0", "twice"), ("gpu0+gpu2", "Other"), ("gpu0+gpu7", "no device 'gpu7'"), ("gpu0+", "no device ''")],
)
async def test_wrong_groups_are_refused_with_the_field(device: str, words: str) -> None:
    source = FakeSource([fake_gpu(0, name="Fake GPU"), fake_gpu(1, name="Fake GPU"), fake_gpu(2, name="Other")])
    async with living(source) as daemon:
        with pytest.raises(UsageError, match=words) as caught:
            async with aclosing(daemon.client.prompt(ask_for(device=device))) as events:
                _ = [event async for event in events]
        assert caught.value.param == "device"


async def test_a_model_that_fits_no_gpu_alone_is_offered_to_two() -> None:
    engine = FakeEngine()
    engine.shapes[MODEL] = ModelShape(int(75 * GIB), 80, 2 * 80 * 8 * 128, 8192)
    async with living(alike(), engine) as daemon:
        with pytest.raises(NoSuitableDevice, match=r"fits gpu0\+gpu1 together: name them with --device gpu0\+gpu1"):
            await answer(daemon)
        ranking = await daemon.service.rank(Requirements(model=MODEL))
        assert all("; fits gpu0+gpu1 together" in item.why[-1] for item in ranking.excluded)
        assert (await answer(daemon, ask_for(device=PAIR)))[1].device == PAIR


async def report_of(daemon: Living, request: BenchRequest) -> BenchReport:
    async with aclosing(daemon.client.bench(request)) as events:
        told = [event async for event in events]
    assert isinstance(told[-1], BenchFinished)
    return told[-1].report


async def test_a_bench_of_a_group_has_all_devices_alone_and_a_history_of_its_own() -> None:
    engine = FakeEngine()
    async with living(alike(), engine) as daemon:
        daemon.service.bencher.idle_s = daemon.service.bencher.energy_s = 0.05
        request = BenchRequest(model=MODEL, device=PAIR, batches=(1,), prompt_tokens=(32,), new_tokens=8)
        report = await report_of(daemon, request)
        assert (report.device, report.device_key, report.device_name) == (PAIR, BOTH, "2 x Fake GPU")
        assert report.energy_scope == "devices"
        history = daemon.service.bencher.history
        assert [item.id for item in (await history(BOTH, MODEL, 5)).reports] == [report.id]
        assert not (await history(FIRST, MODEL, 5)).reports


async def test_a_probe_and_a_prewarmed_model_of_a_group() -> None:
    engine = FakeEngine()
    config = Config(engine=EngineConfig(prewarm=(f"{MODEL}@{PAIR}",)))
    async with living(alike(), engine, config=config) as daemon:
        await until(lambda: any(worker.device == PAIR for worker in engine.workers()))
        assert list(daemon.service.prober.pairs()) == [(BOTH, MODEL)]
        result = await daemon.service.prober.probe(ProbeRequest(PAIR, MODEL))
        assert (result.device, result.outcome) == (PAIR, ProbeOutcome.OK)
        task = daemon.service.prober.turn()
        assert task is not None
        assert [gate.held for gate in daemon.service.ledger.gates.values()] == ["a probe is running"] * 2
        await asyncio.wait_for(task, 10)
        assert not any(gate.held for gate in daemon.service.ledger.gates.values())
        uptimes = (await daemon.service.uptime(60.0, PAIR)).uptimes
        assert [item.device for item in uptimes] == [PAIR]


async def test_a_soak_of_a_group_decodes() -> None:
    async with living(alike(), FakeEngine()) as daemon:
        await daemon.service.snapshot()
        with pytest.raises(UsageError, match="one device at a time") as caught:
            async with aclosing(daemon.service.soaker.soak(SoakRequest(PAIR, MODEL, load=Load.MATMUL.value))) as events:
                _ = [event async for event in events]
        assert caught.value.param == "load"
        request = SoakRequest(PAIR, MODEL, seconds=1.0, max_temperature_c=200.0)
        async with aclosing(daemon.service.soaker.soak(request)) as events:
            told = [event async for event in events]
        assert isinstance(told[-1], SoakFinished)
        report = told[-1].report
        assert report.device == PAIR
        assert report.joules is not None
        assert {sample.power_w for sample in report.samples if sample.power_w is not None} == {700.0}
        assert StageEvent(Stage.STARTING, PAIR, "") in told
