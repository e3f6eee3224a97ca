"""A device under load through the whole daemon: what ends a soak, what is told of it, and that nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import Device, Limits
from hwdash.core.errors import EngineError, Overloaded, UnknownDevice, UsageError, WorkerDied
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.measurement import Load, Measured, MeasurePlan, MeasureReport, TaskReport
from hwdash.core.reading import Absent, Reading
from hwdash.core.soak import (
    SoakEnd,
    SoakEvent,
    SoakFinished,
    SoakHistory,
    SoakReport,
    SoakRequest,
    SoakSample,
    SoakStarted,
)
from hwdash.core.throttle import ThrottleReason
from hwdash.core.wire import dumps, from_wire, loads
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.store.bench import SOAK, StoredReport
from tests.daemon.living import Living, ask_for, living, until
from tests.daemon.test_dispatch import FIRST, admission, answer, gpus


class LoadedEngine(FakeEngine):
    """Measures 100 tokens/s, told ten times a second; dies after ``dies_after`` reports; tells whether it runs."""

    def __init__(self, dies_after: int | None = None) -> None:
        super().__init__()
        self.dies_after = dies_after
        self.loads = 0
        self.began, self.dying = asyncio.Event(), asyncio.Event()
        self.dying_s = 0.0

    async def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[Any, None]:
        told = 0
        self.loads += 1
        plan = replace(plan, tasks=tuple(replace(task, report_s=0.02) for task in plan.tasks))
        try:
            async with aclosing(super().measure(plan, device)) as reports:
                async for report in reports:
                    yield _paced(report)
                    self.began.set()
                    told += isinstance(report, TaskReport)
                    if told == self.dies_after:
                        raise WorkerDied(f"{device.id}: the worker was killed by signal 9")
            self.dying.set()
            await asyncio.sleep(self.dying_s)
        finally:
            self.loads -= 1


def _paced(report: StageEvent | MeasureReport) -> StageEvent | MeasureReport:
    if not isinstance(report, TaskReport) or report.measured.last:
        return report
    measured = report.measured
    return replace(report, measured=replace(measured, ended_s=measured.began_s + 1.0, tokens=100, flops=5e12))


def asked(device: str = "gpu0", **changes: Any) -> SoakRequest:
    facts: dict[str, Any] = {"device": device, "model": "echo", "seconds": 60.0}
    return SoakRequest(**(facts | changes))


async def soak(daemon: Living, request: SoakRequest) -> tuple[list[SoakEvent], SoakReport]:
    async with asyncio.timeout(30), aclosing(daemon.client.soak(request)) as events:
        told = [event async for event in events]
    assert isinstance(told[-1], SoakFinished)
    return told, told[-1].report


def kept(history: SoakHistory) -> list[SoakEnd]:
    return [report.end for report in history.reports]


async def test_a_soak_tells_what_runs_then_samples_then_its_report_and_keeps_it() -> None:
    source = gpus(1)
    joules = iter(range(1000, 10_000_000, 50))
    source.readings[FIRST] = lambda _: fake_readings(energy_j=float(next(joules)))
    engine = LoadedEngine()
    async with living(source, engine) as daemon:
        told, report = await soak(daemon, asked(seconds=1.2, batch=4, dtype="bf16"))
        assert isinstance(told[0], StageEvent)
        started = next(event for event in told if isinstance(event, SoakStarted))
        samples = [event for event in told if isinstance(event, SoakSample)]
        assert told.index(started) < told.index(samples[0])
        assert (started.device, started.device_key, started.unit, started.max_temperature_c) == (
            "gpu0",
            FIRST,
            "tok/s",
            89.0,
        )
        assert report.id == started.id
        assert report.samples[: len(samples)] == tuple(samples)
        assert any(item.rate == pytest.approx(100.0) for item in samples)
        assert samples[-1].temperature_c == 50.0
        assert report.end is SoakEnd.TIME
        assert "no throttling" in report.verdict
        assert report.joules is not None
        assert report.joules >= 50
        task = engine.plans[0].tasks[0]
        assert (task.load, task.batch, task.seconds, engine.plans[0].dtype) == (Load.DECODE, 4, 1.2, "bf16")
        assert engine.loads == 0
        assert (await daemon.client.soaks()).reports == (report,)
        assert (await daemon.client.soaks("gpu0", 1)).reports == (report,)
        assert (admission(daemon).limit, admission(daemon).why) == (8, "")


async def test_a_matmul_soak_counts_floating_point_operations() -> None:
    engine = LoadedEngine()
    async with living(gpus(1), engine) as daemon:
        _, report = await soak(daemon, asked(load="matmul", seconds=1.0, dtype="fp8"))
        assert report.unit == "FLOP/s"
        assert report.dtype == "fp8"
        assert max(item.rate or 0.0 for item in report.samples) == pytest.approx(5e12)
        assert engine.plans[0].tasks[0].load is Load.MATMUL


async def test_until_throttled_goes_on_for_a_while_and_tells_before_and_after() -> None:
    source, engine = gpus(1), LoadedEngine()
    async with living(source, engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked(seconds=3.0, until_throttled=True)))
        await engine.began.wait()
        await asyncio.sleep(0.5)
        source.readings[FIRST] = fake_readings(clock_hz=1.2e9, temperature_c=84.0)
        source.flags[FIRST] = frozenset({ThrottleReason.POWER_CAP})
        _, report = await running
        assert report.end is SoakEnd.THROTTLED
        assert report.onset is not None
        assert report.onset.reasons == ("power_cap",)
        assert report.onset.before.clock_hz == 1.755e9
        assert report.samples[-1].at_s >= report.onset.at_s + 1.0
        assert report.total_s < 2.9
        assert "throttled" in report.verdict
        assert dict(report.duty)["power_cap"] > 0.1
        assert engine.loads == 0


@pytest.mark.parametrize(
    ("limits", "request_c", "told"),
    [
        (Limits(temperature_slowdown_c=89.0), None, 89.0),
        (Limits(temperature_slowdown_c=89.0), 70.0, 70.0),
        (Limits(), None, None),
    ],
)
async def test_the_temperature_limit_ends_it_at_once(
    limits: Limits, request_c: float | None, told: float | None
) -> None:
    source, engine = FakeSource([fake_gpu(0, limits=limits)]), LoadedEngine()
    async with living(source, engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked(max_temperature_c=request_c)))
        await engine.began.wait()
        hot = told if told is not None else 80.0
        source.readings[FIRST] = fake_readings(temperature_c=hot, temperature_margin_c=0.0 if told is None else 20.0)
        _, report = await running
        assert report.end is SoakEnd.TEMPERATURE
        assert report.max_temperature_c == told
        assert report.samples[-1].temperature_c == hot
        assert engine.loads == 0


async def test_the_margin_counts_also_where_a_limit_is_known() -> None:
    source, engine = FakeSource([fake_gpu(0)]), LoadedEngine()
    async with living(source, engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked(max_temperature_c=95.0)))
        await engine.began.wait()
        source.readings[FIRST] = fake_readings(temperature_c=80.0, temperature_margin_c=0.0)
        _, report = await running
        assert (report.end, report.samples[-1].temperature_c) == (SoakEnd.TEMPERATURE, 80.0)


async def test_a_limit_that_the_device_cannot_keep_is_refused() -> None:
    readings = {name: value for name, value in fake_readings().items() if name != "temperature_c"}
    source = FakeSource([fake_gpu(0), fake_gpu(1)], {FIRST: readings})
    source.readings[fake_gpu(1).key] = readings | {"temperature_c": Absent.SUSPENDED}
    engine = LoadedEngine()
    async with living(source, engine) as daemon:
        with pytest.raises(UsageError, match="gpu0 tells no temperature") as caught:
            await soak(daemon, asked(max_temperature_c=70.0))
        assert caught.value.param == "max_temperature_c"
        assert not engine.plans
        # One that sleeps will tell, once it is loaded.
        await soak(daemon, asked("gpu1", max_temperature_c=70.0, seconds=1.0))


async def test_a_device_that_is_not_seen_any_more_is_not_loaded_any_more() -> None:
    source, engine = gpus(1), LoadedEngine()
    async with living(source, engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked(seconds=30.0)))
        await engine.began.wait()
        await asyncio.sleep(0.5)
        source.hanging.add(FIRST)
        _, report = await running
        assert report.end is SoakEnd.FAILED
        assert report.problem.startswith("gpu0: no readings for ")
        assert 2.0 < report.total_s < 10.0
        assert "no throttling," not in report.verdict
        assert engine.loads == 0


async def test_the_end_is_that_of_the_load_and_not_of_its_worker() -> None:
    engine = LoadedEngine()
    engine.dying_s = 3.0
    async with living(gpus(1), engine) as daemon:
        _, report = await soak(daemon, asked(seconds=1.0))
        assert report.end is SoakEnd.TIME
        assert 1.0 <= report.total_s < 2.5
        assert report.samples[-1].at_s <= report.total_s


async def test_a_soak_that_is_left_while_its_worker_ends_is_kept() -> None:
    engine = LoadedEngine()
    engine.dying_s = 30.0
    async with living(gpus(1), engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked(seconds=1.0)))
        await engine.dying.wait()
        running.cancel()
        await asyncio.wait({running})
        async with asyncio.timeout(10):
            while not (history := await daemon.client.soaks()).reports:
                await asyncio.sleep(0.01)
        (report,) = history.reports
        assert 1.0 <= report.total_s < 2.5


async def test_200_reports_are_told_with_a_bounded_number_of_samples() -> None:
    async with living(gpus(1), LoadedEngine()) as daemon:
        _, report = await soak(daemon, asked(seconds=1.0))
        many = tuple(SoakSample(float(second), 100.0) for second in range(400))
        for number in range(200):
            made = replace(
                report, id=f"r{number}", samples=many, started_at=report.started_at + timedelta(hours=number)
            )
            stored = StoredReport.of(SOAK, made.id, made.started_at, made.device_key, made.model, made)
            await daemon.store.add_report(stored)
        history = await daemon.client.soaks("gpu0", 200)
        assert [item.id for item in history.reports] == [f"r{number}" for number in range(200)]
        assert sum(len(item.samples) for item in history.reports) <= 36_000
        assert all(item.samples[-1] == many[-1] for item in history.reports)
        assert len((await daemon.client.soaks("gpu0", 3)).reports[0].samples) == 400


async def test_without_any_limit_it_goes_on_and_the_report_says_so() -> None:
    readings: dict[str, Reading] = dict(fake_readings(temperature_c=120.0))
    del readings["temperature_margin_c"]
    source = FakeSource([fake_gpu(0, limits=Limits())], {FIRST: readings})
    async with living(source, LoadedEngine()) as daemon:
        _, report = await soak(daemon, asked(seconds=1.0))
        assert (report.end, report.max_temperature_c) == (SoakEnd.TIME, None)


async def test_a_lost_device_ends_it_at_once() -> None:
    source, engine = gpus(1), LoadedEngine()
    async with living(source, engine) as daemon:
        running = asyncio.create_task(soak(daemon, asked()))
        await engine.began.wait()
        await until(lambda: engine.loads == 1 and source.reads[FIRST] > 3)
        await asyncio.sleep(0.3)
        source.lost.add(FIRST)
        _, report = await running
        assert report.end is SoakEnd.LOST
        assert report.verdict.startswith("the device was lost after")
        assert engine.loads == 0


async def test_a_client_that_leaves_ends_the_load_and_what_was_seen_is_kept() -> None:
    engine = LoadedEngine()
    async with living(gpus(1), engine) as daemon:
        async with aclosing(daemon.client.soak(asked())) as events:
            async for event in events:
                if isinstance(event, SoakSample) and event.rate is not None:
                    break
            assert engine.loads == 1
        await until(lambda: engine.loads == 0)
        await until(lambda: admission(daemon).limit == 8)
        async with asyncio.timeout(10):
            while not (history := await daemon.client.soaks()).reports:
                await asyncio.sleep(0.01)
        assert kept(history) == [SoakEnd.CANCELLED]
        await answer(daemon)


async def test_a_worker_that_dies_midway_leaves_a_report_and_one_that_never_began_an_error() -> None:
    async with living(gpus(1), LoadedEngine(dies_after=8)) as daemon:
        _, report = await soak(daemon, asked())
        assert (report.end, report.problem) == (SoakEnd.FAILED, "gpu0: the worker was killed by signal 9")
        assert kept(await daemon.client.soaks()) == [SoakEnd.FAILED]
    engine = LoadedEngine()
    engine.measure_failure = EngineError("gpu0: out of memory, 200 GiB wanted")
    async with living(gpus(1), engine) as daemon:
        with pytest.raises(EngineError, match="200 GiB wanted"):
            await soak(daemon, asked())
        assert not (await daemon.client.soaks()).reports
        assert admission(daemon).limit == 8


async def test_a_load_that_cannot_run_is_the_error_itself() -> None:
    engine = FakeEngine()
    engine.measured[Load.DECODE] = Measured(0.0, 0.0, last=True, problem="no memory for a batch of 64")
    async with living(gpus(1), engine) as daemon:
        with pytest.raises(EngineError, match="gpu0: no memory for a batch of 64"):
            await soak(daemon, asked(batch=64, seconds=1.0))


async def test_requests_wait_for_a_soak_and_a_soak_for_requests() -> None:
    engine = LoadedEngine()
    engine.delay_s = 0.1
    async with living(gpus(1), engine) as daemon:
        first = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).running == 1)
        running = asyncio.create_task(soak(daemon, asked(seconds=1.0)))
        await until(lambda: admission(daemon).why == "a soak is running")
        with pytest.raises(Overloaded, match="gpu0: a soak is running"):
            await soak(daemon, asked())
        second = asyncio.create_task(answer(daemon, ask_for(device="gpu0")))
        (await first)
        told, _ = await running
        assert told[0] == StageEvent(Stage.QUEUED, "gpu0", "1 request before the soak")
        events, _ = await second
        assert StageEvent(Stage.QUEUED, "gpu0", "a soak is running") in events


async def test_what_cannot_be_soaked_is_refused_by_name() -> None:
    unable = replace(fake_gpu(1).capabilities, inference=False)
    source = FakeSource([fake_gpu(0), fake_gpu(1, capabilities=unable), fake_gpu(2)])
    engine = LoadedEngine()
    engine.standings[FIRST] = Standing(server="ra\x1bck")
    async with living(source, engine) as daemon:
        with pytest.raises(UsageError, match=r"the server ra[^\x1b]?ck answers there"):
            await soak(daemon, asked())
        with pytest.raises(UsageError, match="gpu1: hwdash cannot run models on it"):
            await soak(daemon, asked("gpu1"))
        with pytest.raises(UsageError, match=r"dtype: gpu2 does not compute in fp64; there are: .*fp32"):
            await soak(daemon, asked("gpu2", dtype="fp64"))
        with pytest.raises(UnknownDevice):
            await soak(daemon, asked("gpu7"))
        with pytest.raises(UnknownDevice):
            await daemon.client.soaks("gpu7")
        for field, value in (("seconds", 0), ("load", "bake"), ("batch", 0), ("max_temperature_c", 1e9), ("x", 1)):
            status, _, body = await daemon.ask("POST", "/api/v1/soak", dumps({"device": "gpu0", field: value}))
            assert (status, loads(body)["error"]["param"]) == (400, field)
        assert engine.loads == 0


async def test_the_api_gives_reports_as_the_vocabulary_says() -> None:
    async with living(gpus(1), LoadedEngine()) as daemon:
        status, head, body = await daemon.ask("POST", "/api/v1/soak", dumps({"device": "gpu0", "seconds": 1}))
        assert status == 200
        assert "application/x-ndjson" in head
        lines = [loads(line) for line in body.split(b"\r\n") if line.startswith(b"{")]
        kinds = list(dict.fromkeys(line["type"] for line in lines))
        assert kinds == ["stage", "started", "sample", "finished"]
        status, _, body = await daemon.ask("GET", "/api/v1/soak?device=gpu0&limit=1")
        assert status == 200
        assert from_wire(loads(body), SoakHistory).reports[0].id == lines[-1]["report"]["id"]


async def test_without_a_model_it_takes_one_that_needs_no_download() -> None:
    engine = LoadedEngine()
    async with living(gpus(1), engine, config=Config(engine=EngineConfig(model="echo"))) as daemon:
        _, report = await soak(daemon, asked(model="", seconds=1.0))
        assert report.model == "echo"
        daemon.models.names = []
        _, report = await soak(daemon, asked(model="", seconds=1.0))
        assert report.model == "synthetic:smollm2-135m"
        assert [plan.model for plan in engine.plans] == ["echo", "synthetic:smollm2-135m"]
