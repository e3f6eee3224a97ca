"""A bench through socket, service and engine: its events, its figures, what it is compared with, and how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hwdash.core.bench import BenchEvent, BenchFinished, BenchReport, BenchRequest, BenchStep
from hwdash.core.config import Config
from hwdash.core.device import Device
from hwdash.core.errors import (
    DeviceFull,
    HwdashError,
    NoSuitableDevice,
    Overloaded,
    UnknownDevice,
    UnknownModel,
    UsageError,
    WorkerDied,
)
from hwdash.core.inference import StageEvent
from hwdash.core.measurement import Load, LoadedModel, Measured, MeasurePlan, MeasureReport, TaskReport
from hwdash.core.reading import Reading
from hwdash.core.throttle import ThrottleReason
from hwdash.daemon.gate import Gate
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, Living, living, until

SHORT: dict[str, Any] = {"model": MODEL, "device": "gpu0", "batches": (1, 4), "prompt_tokens": (32,), "new_tokens": 8}


def asking(**changes: Any) -> BenchRequest:
    return BenchRequest(**(SHORT | changes))


class StubbornEngine(FakeEngine):
    """Fails to load in the precisions of ``refused``, tells ``problems`` of batches, and can be made to hang or to die.

    Batches of ``uncounted`` have no tokens where they are measured (False) or where their energy is (True).
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str | None, HwdashError] = {}
        self.problems: dict[tuple[Load, int], str] = {}
        self.dies_after: tuple[Load, int] | None = None
        self.uncounted: set[tuple[int, bool]] = set()
        self.hangs = False
        self.begun = 0
        self.ended = 0

    async def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        self.begun += 1
        try:
            if (error := self.refused.get(plan.dtype)) is not None:
                raise error
            async with aclosing(super().measure(plan, device)) as reports:
                async for report in reports:
                    if isinstance(report, TaskReport):
                        task = plan.tasks[report.task]
                        if problem := self.problems.get((task.load, task.batch)):
                            now = report.measured.began_s
                            report = TaskReport(report.task, Measured(now, now, last=True, problem=problem))
                        if task.load is Load.DECODE and (task.batch, task.seconds is not None) in self.uncounted:
                            report = replace(report, measured=replace(report.measured, tokens=0))
                    yield report
                    if isinstance(report, TaskReport) and self.dies_after == (task.load, task.batch):
                        raise WorkerDied(f"{device.id}: the worker was killed")
                    if self.hangs and isinstance(report, LoadedModel):
                        await asyncio.Event().wait()
        finally:
            self.ended += 1


@asynccontextmanager
async def bench_daemon(
    engine: FakeEngine | None = None, source: FakeSource | None = None, config: Config | None = None
) -> AsyncIterator[Living]:
    async with living(source, engine, interval_s=0.05, config=config) as daemon:
        daemon.service.bencher.idle_s = 0.05
        daemon.service.bencher.energy_s = 0.3
        await daemon.service.snapshot()
        yield daemon


async def events_of(daemon: Living, request: BenchRequest) -> list[BenchEvent]:
    async with aclosing(daemon.client.bench(request)) as events:
        return [event async for event in events]


async def report_of(daemon: Living, request: BenchRequest) -> BenchReport:
    last = (await events_of(daemon, request))[-1]
    assert isinstance(last, BenchFinished)
    return last.report


async def test_a_bench_tells_its_steps_and_keeps_its_report() -> None:
    engine = FakeEngine()
    engine.measured[Load.COPY] = Measured(0.0, 1.0, (0.1, 0.2, 0.3), bytes=600, last=True)
    async with bench_daemon(engine) as daemon:
        *told, last = await events_of(daemon, asking(device=KEY))
        assert isinstance(last, BenchFinished)
        report = last.report
        steps = [event for event in told if isinstance(event, BenchStep)]
        shares = [step.progress for step in steps if step.progress is not None]
        assert shares == sorted(shares)
        assert shares[0] == 0.0
        assert shares[-1] < 1.0
        assert "decoding 4 sequences at once" in steps[-2].words
        assert any(isinstance(event, StageEvent) and event.progress == 0.5 for event in told)
        assert report.copy_bytes_per_s == 1000.0
        (figures,) = report.dtypes
        assert (figures.dtype, figures.problem, figures.loaded and figures.loaded.decoder) == ("fp32", "", "eager")
        (prefill,) = figures.prefill
        assert (prefill.prompt_tokens, prefill.ttft_s, prefill.tokens_per_s) == (32, 0.001, 32_000.0)
        one, four = figures.decode
        assert (one.batch, one.itl_p50_s, one.itl_p99_s) == (1, 0.001, 0.001)
        assert one.tokens_per_s == pytest.approx(1000.0)
        assert four.tokens_per_s == pytest.approx(4000.0)
        assert one.bandwidth_ratio == pytest.approx(1e9 / 1000.0)
        assert (report.device, report.device_key, report.model) == ("gpu0", KEY, MODEL)
        assert dict(report.versions)["driver"] == "1.0"
        assert {"torch", "transformers", "hwdash"} <= {name for name, _ in report.versions}
        assert (await daemon.client.benches("gpu0", MODEL)).reports == (report,)
        assert (await daemon.client.benches(model="other")).reports == ()


async def test_energy_of_a_token_comes_from_the_counter() -> None:
    def counting(watts: Callable[[], float]) -> Callable[[int], Mapping[str, Reading]]:
        def read(_: int) -> Mapping[str, Reading]:
            now = asyncio_time()
            joules[0] += watts() * (now - read_at[0])
            read_at[0] = now
            return fake_readings(energy_j=joules[0], utilization=0.0)

        return read

    asyncio_time = time.monotonic
    joules, read_at = [0.0], [asyncio_time()]
    engine = FakeEngine()
    source = FakeSource([fake_gpu(0)], {KEY: counting(lambda: 200.0 if engine.plans else 50.0)})
    async with bench_daemon(engine, source) as daemon:
        daemon.service.bencher.idle_s = 0.3
        report = await report_of(daemon, asking(batches=(1,)))
        (decode,) = report.dtypes[0].decode
        assert report.energy_scope == "device"
        assert decode.joules_per_token is not None
        assert decode.idle_joules_per_token is not None
        # The fake tells of 10 tokens in every report; what they cost together is 200 W for that long, a quarter of it idle.
        assert decode.idle_joules_per_token / decode.joules_per_token == pytest.approx(0.25, rel=0.2)


async def test_without_a_counter_there_is_no_energy() -> None:
    readings = {name: value for name, value in fake_readings().items() if name != "energy_j"}
    engine = FakeEngine()
    async with bench_daemon(engine, FakeSource([fake_gpu(0)], {KEY: readings})) as daemon:
        report = await report_of(daemon, asking())
        assert report.energy_scope is None
        assert report.dtypes[0].decode[0].joules_per_token is None
        assert all(task.seconds is None for task in engine.plans[0].tasks)


async def test_what_the_device_went_through_is_in_the_report() -> None:
    source = FakeSource([fake_gpu(0)])
    source.flags[KEY] = frozenset({ThrottleReason.POWER_CAP})
    async with bench_daemon(source=source) as daemon:
        conditions = (await report_of(daemon, asking())).dtypes[0].conditions
        assert conditions.throttle == ("power_cap",)
        assert (conditions.temperature_max_c, conditions.clock_min_hz) == (50.0, 1.755e9)


async def test_what_it_went_through_before_it_failed_is_kept() -> None:
    source, engine = FakeSource([fake_gpu(0)]), StubbornEngine()
    source.flags[KEY] = frozenset({ThrottleReason.POWER_CAP})
    engine.dies_after = (Load.DECODE, 1)
    async with bench_daemon(engine, source) as daemon:
        (figures,) = (await report_of(daemon, asking())).dtypes
        assert figures.problem == "gpu0: the worker was killed"
        assert figures.conditions.throttle == ("power_cap",)
        assert figures.conditions.temperature_max_c == 50.0
        assert figures.decode[0].new_tokens == 8
        assert figures.decode[0].prompt_tokens == 64


async def test_energy_goes_to_the_figure_of_its_own_batch() -> None:
    source, engine = FakeSource([fake_gpu(0)]), StubbornEngine()
    source.readings[KEY] = lambda _: fake_readings(energy_j=100.0 * time.monotonic(), utilization=0.0)
    engine.uncounted = {(1, True), (4, False)}
    async with bench_daemon(engine, source) as daemon:
        (figures,) = (await report_of(daemon, asking())).dtypes
        assert [(item.batch, item.joules_per_token) for item in figures.decode] == [(1, None)]


async def test_a_hold_tells_how_long_the_bench_before_took() -> None:
    engine = StubbornEngine()
    async with bench_daemon(engine) as daemon:
        first = await report_of(daemon, asking())
        engine.hangs = True
        bench = asyncio.create_task(events_of(daemon, asking(dtypes=("fp32", "bf16"))))
        await until(lambda: engine.begun == 2)
        snapshot = await daemon.service.snapshot()
        gate = daemon.service.bencher._ledger.gate(snapshot.find(KEY))
        assert isinstance(gate, Gate)
        assert 0.0 < gate.held_s <= 2 * first.total_s
        bench.cancel()
        await asyncio.wait({bench})


async def test_all_precisions_and_one_that_fails() -> None:
    engine = StubbornEngine()
    engine.refused["fp16"] = DeviceFull("gpu0: 12 GiB are free and 16 GiB are needed")
    async with bench_daemon(engine) as daemon:
        report = await report_of(daemon, asking(dtypes=("all",)))
        # The fake's own choice is fp32, which is not measured twice.
        assert [(item.dtype, item.problem) for item in report.dtypes] == [
            ("fp32", ""), ("bf16", ""), ("fp16", "gpu0: 12 GiB are free and 16 GiB are needed"),
        ]  # fmt: skip
        assert report.dtypes[2].loaded is None
        report = await report_of(daemon, asking(dtypes=("bf16", "fp16", "bf16")))
        assert [item.dtype for item in report.dtypes] == ["bf16", "fp16"]


async def test_nothing_that_works_is_an_error() -> None:
    engine = StubbornEngine()
    engine.refused["fp16"] = DeviceFull("no room for fp16")
    engine.problems = {(Load.PREFILL, 1): "no kernels", (Load.DECODE, 1): "no kernels"}
    async with bench_daemon(engine) as daemon:
        with pytest.raises(DeviceFull, match="no room for fp16"):
            await report_of(daemon, asking(dtypes=("fp16", "bf16")))
        with pytest.raises(HwdashError, match=r"gpu0: nothing could be measured: .*32 tokens: no kernels"):
            await report_of(daemon, asking())
        assert (await daemon.client.benches()).reports == ()


async def test_after_a_batch_without_room_no_larger_one_is_tried() -> None:
    engine = StubbornEngine()
    engine.problems[Load.DECODE, 4] = "out of memory"
    async with bench_daemon(engine) as daemon:
        (figures,) = (await report_of(daemon, asking(batches=(16, 4, 1)))).dtypes
        assert [item.batch for item in figures.decode] == [1]
        assert figures.problem == "batch 4: out of memory; larger ones were not tried"
        assert engine.ended == 1
        (figures,) = (await report_of(daemon, asking(batches=(1, 4)))).dtypes
        assert figures.problem == "batch 4: out of memory"


async def test_what_cannot_be_measured() -> None:
    engine = FakeEngine()
    engine.unknown.add("none")
    engine.standings[fake_gpu(1).key] = Standing(server="vllm")
    source = FakeSource([fake_gpu(0), fake_gpu(1)])
    async with bench_daemon(engine, source) as daemon:
        with pytest.raises(UnknownDevice, match="gpu0, gpu1"):
            await report_of(daemon, asking(device="gpu7"))
        with pytest.raises(UnknownModel):
            await report_of(daemon, asking(model="none"))
        with pytest.raises(UsageError, match="the server vllm answers there"):
            await report_of(daemon, asking(device="gpu1"))
        with pytest.raises(UsageError, match="does not compute in fp64; there are: bf16, fp32, fp16, and all"):
            await report_of(daemon, asking(dtypes=("fp64",)))
        assert (await report_of(daemon, asking(device="auto"))).device == "gpu0"
        engine.standings[fake_gpu(0).key] = Standing(server="vllm")
        with pytest.raises(NoSuitableDevice, match="only external servers answer for echo"):
            await report_of(daemon, asking(device="auto"))
        assert len(engine.plans) == 1


async def test_who_leaves_ends_it_and_the_device_is_free_again() -> None:
    engine = StubbornEngine()
    engine.hangs = True
    async with bench_daemon(engine) as daemon:
        async with aclosing(daemon.client.bench(asking())) as events:
            async for event in events:
                if isinstance(event, BenchStep) and "copying" in event.words:
                    break
            with pytest.raises(Overloaded, match="gpu0: a bench is running and has the device for itself"):
                await report_of(daemon, asking())
            assert engine.ended == 0
        await until(lambda: engine.ended == 1)
        await until(lambda: not daemon.service.ledger.gates[KEY].held)
        engine.hangs = False
        assert (await report_of(daemon, asking())).dtypes[0].decode
        assert len((await daemon.client.benches()).reports) == 1


async def test_a_device_that_is_lost_ends_it() -> None:
    engine = StubbornEngine()
    engine.hangs = True
    source = FakeSource([fake_gpu(0)])
    async with bench_daemon(engine, source) as daemon:
        bench = asyncio.create_task(report_of(daemon, asking(dtypes=("fp32", "bf16"))))
        await until(lambda: engine.begun == 1)
        source.lost.add(KEY)
        with pytest.raises(HwdashError, match="gpu0 was lost during the bench"):
            await bench
        assert (engine.begun, engine.ended) == (1, 1)


async def test_a_slower_device_is_told_so() -> None:
    engine = FakeEngine()
    async with bench_daemon(engine) as daemon:
        for _ in range(3):
            assert all(not item.words for item in (await report_of(daemon, asking())).comparisons)
        engine.measured[Load.PREFILL] = Measured(0.0, 1.0, (0.0012,) * 5, 160, last=True)
        report = await report_of(daemon, asking())
        (slow,) = [item for item in report.comparisons if item.words]
        assert slow.figure == "TTFT of 32 tokens"
        assert slow.words.startswith("fp32, TTFT of 32 tokens: 20% slower than its baseline of the last day (3 runs)")
        assert slow.ratio == pytest.approx(1.2)
        assert slow.runs == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"batches": []}, "batches: "),
        ({"batches": [0]}, "batches.0: "),
        ({"batches": [1.5]}, "batches.0: "),
        ({"prompt_tokens": [10**9]}, "prompt_tokens.0: "),
        ({"new_tokens": 1}, "new_tokens: "),
        ({"dtypes": ["b f"]}, "dtypes.0: "),
        ({"device": ""}, "device: must not be empty"),
        ({"dtype": "bf16"}, "dtype: "),
        ({"batches": [1] * 99}, "batches: at most 16 are taken"),
    ],
)
async def test_a_body_at_fault_names_the_field(body: dict[str, Any], words: str) -> None:
    async with bench_daemon() as daemon:
        status, _, answer = await daemon.ask("POST", "/api/v1/bench", json.dumps(body).encode())
        assert status == 400
        assert json.loads(answer)["error"]["message"].startswith(words)


async def test_history_of_a_device_that_nobody_knows() -> None:
    async with bench_daemon() as daemon:
        with pytest.raises(UnknownDevice):
            await daemon.client.benches("gpu7")
        status, _, answer = await daemon.ask("GET", "/api/v1/bench?limit=0")
        assert (status, json.loads(answer)["error"]["param"]) == (400, "limit")
