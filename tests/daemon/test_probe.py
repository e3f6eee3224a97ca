"""Probes: when they are sent and when not, what comes of them, and what follows from that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hwdash.core.config import Config, EngineConfig, ProbesConfig, StoreConfig
from hwdash.core.device import Device
from hwdash.core.errors import NoSuitableDevice, Overloaded, PromptTooLong, ServerDown, WorkerDied
from hwdash.core.event import EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.core.inference import PROBE, EngineEvent, FinishedEvent, Generation, PromptRequest, Stage, StageEvent
from hwdash.core.probe import ProbeOutcome, ProbeRequest, ProbeResult
from hwdash.core.reading import Absent, Reading
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.daemon import probe as probe_module
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.probe import Prober
from hwdash.daemon.probe_book import ProbeBook
from hwdash.daemon.probe_setting import QUESTION
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.monitor.broadcast import Broadcast
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.store.store import Store
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, Living, ask_for, living, until

BY_HAND = Config(engine=EngineConfig(model=MODEL), probes=ProbesConfig(interval_s=0.0, max_tokens=8))


class GatedEngine(FakeEngine):
    """Answers probes once ``open`` is set; ``waits`` is set when one waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.waits = asyncio.Event()

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield event
                if isinstance(event, StageEvent) and not self.open.is_set() and request.origin == PROBE:
                    self.waits.set()
                    await self.open.wait()


@asynccontextmanager
async def loaded(engine: FakeEngine | None = None, devices: int = 1, busy: Reading = 0.0) -> AsyncIterator[Living]:
    """A daemon whose devices have `MODEL` loaded and are probed by hand."""
    engine = engine or FakeEngine()
    source = FakeSource([fake_gpu(number, driver="570") for number in range(devices)])
    source.readings = {fake_gpu(number).key: fake_readings(utilization=busy) for number in range(devices)}
    async with living(source, engine, config=BY_HAND) as daemon:
        snapshot = await daemon.service.snapshot()
        for status in snapshot.devices:
            await engine.prewarm(MODEL, status.device)
        yield daemon


async def turn(daemon: Living) -> ProbeResult | None:
    """The probe whose turn it is; None where none was sent or counted."""
    before = daemon.service.prober.newest()
    task = daemon.service.prober.turn()
    if task is None:
        return None
    await asyncio.wait({task})
    after = daemon.service.prober.newest()
    return None if after == before else max((result for result, _ in after), key=lambda result: result.at)


def ask(daemon: Living, **changes: str | bool) -> asyncio.Task[ProbeResult]:
    return asyncio.ensure_future(daemon.client.probe(ProbeRequest(**changes)))  # type: ignore[arg-type]


# When


async def test_a_loaded_model_is_probed_with_a_short_greedy_question() -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        result = await turn(daemon)
        assert result is not None
        assert (result.outcome, result.device, result.device_key, result.model) == (ProbeOutcome.OK, "gpu0", KEY, MODEL)
        assert (result.tokens, result.dtype, result.expected) == (8, "fp32", "")
        (request,) = engine.requests
        assert (request.origin, request.temperature, request.max_tokens, request.stop) == (PROBE, 0.0, 8, ())
        assert (request.messages[0].content, request.template) == (QUESTION, False)
        assert (await daemon.client.latency(3600)).series == ()


async def test_what_is_not_loaded_is_not_probed() -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        engine.standings[KEY] = Standing(loaded=False)
        assert daemon.service.prober.turn() is None
        assert engine.requests == []


async def test_a_model_that_goes_meanwhile_is_not_loaded_again() -> None:
    class Leaving(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
            self.requests.append(request)
            yield StageEvent(Stage.LOADING, device.id)
            raise AssertionError("it was loaded")

    async with loaded(Leaving()) as daemon:
        assert await turn(daemon) is None
        assert daemon.service.prober.newest() == ()


@pytest.mark.parametrize("standing", [Standing(loaded=True, running=1), Standing(loaded=True, waiting=1)])
async def test_a_busy_device_is_left_alone(standing: Standing) -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        engine.standings[KEY] = standing
        assert daemon.service.prober.turn() is None
        engine.standings.clear()
        assert await turn(daemon) is not None


async def test_no_probe_while_a_request_runs_or_somebody_holds_the_device() -> None:
    engine = FakeEngine(delay_s=0.01)
    async with loaded(engine) as daemon:
        snapshot = await daemon.service.snapshot()
        async with aclosing(daemon.service.prompt(ask_for("one " * 500))) as events:
            async for event in events:
                if not isinstance(event, StageEvent):
                    break
            assert daemon.service.prober.turn() is None
        gate = daemon.service.ledger.line(snapshot.devices[0], MODEL, 8).gate
        async with gate.hold("a soak is running"):
            assert daemon.service.prober.turn() is None
        assert [request.origin for request in engine.requests] == ["prompt"]


async def test_a_user_s_request_has_the_device_at_once_and_the_probe_was_none() -> None:
    engine = GatedEngine()
    async with loaded(engine) as daemon:
        engine.open.clear()
        task = daemon.service.prober.turn()
        assert task is not None
        await engine.waits.wait()
        async with aclosing(daemon.service.prompt(ask_for("one two"))) as events:
            told = [event async for event in events]
        assert isinstance(told[-1], FinishedEvent)
        assert not any(isinstance(event, StageEvent) and event.stage is Stage.QUEUED for event in told)
        assert task.cancelled()
        assert engine.cancelled == 1
        assert daemon.service.prober.newest() == ()
        engine.open.set()
        assert await turn(daemon) is not None


async def test_pairs_have_their_turns_evenly_and_a_stuck_one_holds_nobody_up() -> None:
    engine = GatedEngine()
    async with loaded(engine, devices=3) as daemon:
        keys = [result.device_key for _ in range(6) if (result := await turn(daemon)) is not None]
        assert sorted(keys) == sorted([fake_gpu(number).key for number in range(3)] * 2)
        assert keys[:3] == keys[3:]
        engine.open.clear()
        stuck = daemon.service.prober.turn()
        await engine.waits.wait()
        engine.open = asyncio.Event()
        engine.open.set()
        assert await turn(daemon) is not None
        assert await turn(daemon) is not None
        assert daemon.service.prober.turn() is None
        assert stuck is not None
        assert not stuck.done()


async def test_the_schedule_spreads_the_pairs_over_the_interval(tmp_path: Path) -> None:
    engine, waits = FakeEngine(), []
    async with loaded(engine, devices=4) as daemon:
        enough = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 9:
                enough.set()
                await asyncio.Event().wait()
            await until(lambda: not prober._running)

        service = daemon.service
        prober = Prober(
            engine, daemon.store, service._monitor, daemon.models, service.snapshots, service.ledger,
            service._dispatcher.best, Config(probes=ProbesConfig(interval_s=60.0)), lambda _: None, service._clock, sleep,
        )  # fmt: skip
        running = asyncio.create_task(prober.run())
        await enough.wait()
        await until(lambda: not prober._running)
        running.cancel()
        assert set(waits) == {15.0}
        assert len(engine.asked) == 8
        assert all(engine.asked.count(fake_gpu(number).key) == 2 for number in range(4))


async def test_an_interval_of_zero_sends_none() -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        await asyncio.wait_for(daemon.service.prober.run(), 20)
        assert engine.requests == []


# What comes of them


async def test_an_answer_with_other_tokens_is_asked_for_again_before_it_is_wrong() -> None:
    engine = FakeEngine()
    engine.digest = "good"
    async with loaded(engine) as daemon:
        first = await turn(daemon)
        assert first is not None
        assert first.digest == "good"
        engine.digests = ["tie"]
        tie = await turn(daemon)
        assert tie is not None
        assert (tie.outcome, tie.digest, tie.expected, len(engine.requests)) == (ProbeOutcome.OK, "good", "good", 3)
        engine.digests = ["bad", "bad"]
        wrong = await turn(daemon)
        assert wrong is not None
        assert (wrong.outcome, wrong.digest, wrong.expected) == (ProbeOutcome.WRONG, "bad", "good")
        again = await turn(daemon)
        assert again is not None
        assert again.outcome is ProbeOutcome.OK
        events = (await daemon.client.events(3600, kind=EventKind.DEVICE)).events
        assert [(event.severity, "probe" in event.words) for event in events] == [
            (Severity.CRITICAL, True),
            (Severity.INFO, True),
        ]


async def test_without_a_digest_the_text_counts() -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        first, second = await turn(daemon), await turn(daemon)
        assert first is not None
        assert second is not None
        assert len(first.digest) == 32
        assert second.expected == first.digest == second.digest


async def test_another_precision_or_driver_starts_a_new_expectation() -> None:
    engine = FakeEngine()
    engine.digest = "a"
    async with loaded(engine) as daemon:
        await turn(daemon)
        engine.dtype, engine.digest = "bf16", "b"
        other = await turn(daemon)
        assert other is not None
        assert (other.outcome, other.expected) == (ProbeOutcome.OK, "")
        engine.dtype = "fp32"
        wrong = await turn(daemon)
        assert wrong is not None
        assert (wrong.outcome, wrong.expected) == (ProbeOutcome.WRONG, "a")


async def test_a_probe_without_a_token_in_time_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "TOKEN_S", 0.05)
    engine = GatedEngine()
    async with loaded(engine) as daemon:
        engine.open.clear()
        result = await turn(daemon)
        assert result is not None
        assert (result.outcome, result.error, result.itl_s) == (
            ProbeOutcome.FAILED, "gpu0: no token within 0.05 s", None,
        )  # fmt: skip
        assert engine.cancelled == 1


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (WorkerDied("killed"), True),
        (ServerDown("refused"), True),
        (Overloaded("full"), False),
        (PromptTooLong("x"), False),
    ],
)
async def test_what_says_nothing_of_the_device_does_not_count(error: WorkerDied, counts: bool) -> None:
    engine = FakeEngine(failure=error)
    async with loaded(engine) as daemon:
        assert (await turn(daemon) is not None) is counts
        assert bool((await daemon.client.status()).problems) is counts


async def test_a_lost_device_is_down_without_being_asked() -> None:
    engine = FakeEngine()
    source = FakeSource([fake_gpu(0)])
    async with living(source, engine, config=BY_HAND) as daemon:
        await engine.prewarm(MODEL, (await daemon.service.snapshot()).devices[0].device)
        source.lost.add(KEY)
        await until(lambda: _state(daemon) is HealthState.LOST)
        result = await turn(daemon)
        assert result is not None
        assert result.outcome is ProbeOutcome.FAILED
        assert "lost" in (result.error or "")
        assert engine.requests == []


def _state(daemon: Living) -> HealthState:
    latest = daemon.service.snapshots.latest
    assert latest is not None
    return latest.devices[0].health.state


# What follows


async def test_two_wrong_answers_keep_prompts_away_until_a_good_one() -> None:
    engine = FakeEngine()
    engine.digest = "good"
    async with loaded(engine) as daemon:
        await turn(daemon)
        engine.digest = "bad"
        await turn(daemon)
        ranked = (await daemon.client.rank(Requirements(model=MODEL))).ranked
        assert any("its score ×0.5: its probe at" in words for words in ranked[0].why)
        assert any("50.0 % of its probes of 24 h were well" in words for words in ranked[0].why)
        await turn(daemon)
        excluded = (await daemon.client.rank(Requirements(model=MODEL))).excluded
        assert "wrong tokens in its last 2 probes" in excluded[0].why[0]
        with pytest.raises(NoSuitableDevice, match="wrong tokens"):
            [event async for event in daemon.service.prompt(ask_for())]
        assert [event async for event in daemon.service.prompt(ask_for(device="gpu0"))]
        assert "the last 2 probes of echo went wrong" in (await daemon.client.status()).problems[0]
        engine.digest = "good"
        await turn(daemon)
        assert (await daemon.client.rank(Requirements(model=MODEL))).ranked
        assert (await daemon.client.status()).problems == ()


class Paced(FakeEngine):
    """Takes ``itl_s`` from token to token."""

    itl_s = 0.010

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield _at_pace(event, self.itl_s)


async def test_slow_probes_in_a_row_make_a_healthy_device_suspected() -> None:
    engine = Paced()
    async with loaded(engine) as daemon:
        for _ in range(5):
            result = await turn(daemon)
        assert result is not None
        assert result.drift is None
        engine.itl_s = 0.013
        for _ in range(3):
            result = await turn(daemon)
        assert result is not None
        assert result.drift == pytest.approx(0.3)
        await until(lambda: _state(daemon) is HealthState.THROTTLED)
        latest = daemon.service.snapshots.latest
        assert latest is not None
        assert latest.devices[0].health.suspected
        uptime = (await daemon.client.uptime(3600)).uptimes[0]
        assert uptime.baseline_itl_s == pytest.approx(0.010)
        assert uptime.drift == pytest.approx(0.3)
        events = (await daemon.client.events(3600, kind=EventKind.HEALTH)).events
        assert any("a probe of echo takes 13.0 ms a token" in event.words for event in events)


def _at_pace(event: EngineEvent, itl_s: float) -> EngineEvent:
    return replace(event, timing=replace(event.timing, itl_p50_s=itl_s)) if isinstance(event, Generation) else event


@pytest.mark.parametrize("busy", [0.6, Absent.NOT_SUPPORTED])
async def test_beside_other_work_a_slow_probe_says_nothing_of_the_device(busy: Reading) -> None:
    engine = Paced()
    async with loaded(engine, busy=busy) as daemon:
        for itl_s in (0.010, 0.010, 0.010, 0.010, 0.010, 0.013, 0.013, 0.013):
            engine.itl_s = itl_s
            result = await turn(daemon)
            assert result is not None
            assert result.drift is None
        assert (await daemon.client.uptime(3600)).uptimes[0].drift is None


async def test_a_wrong_answer_says_nothing_of_the_pace() -> None:
    engine = Paced()
    engine.digest = "good"
    async with loaded(engine) as daemon:
        for _ in range(5):
            await turn(daemon)
        engine.digest, engine.itl_s = "bad", 0.013
        for _ in range(3):
            result = await turn(daemon)
            assert result is not None
            assert (result.outcome, result.drift) == (ProbeOutcome.WRONG, None)
        uptime = (await daemon.client.uptime(3600)).uptimes[0]
        assert uptime.baseline_itl_s == pytest.approx(0.010)
        assert uptime.drift == pytest.approx(0.0)


def test_uptime_is_that_of_the_last_24_hours() -> None:
    book, now = ProbeBook(), datetime(2026, 11, 22, 12, tzinfo=UTC)
    for hours, outcome in ((49, "failed"), (24.5, "failed"), (23.5, "ok"), (2, "failed"), (1, "ok"), (0, "ok")):
        at = now - timedelta(hours=hours)
        book.add(ProbeResult(at, "gpu0", KEY, MODEL, ProbeOutcome(outcome)), "")
    assert book.up_ratio(KEY, MODEL, now) == 0.75
    assert book.up_ratio(KEY, MODEL, now + timedelta(hours=23.5)) == 1.0
    assert book.up_ratio(KEY, MODEL, now + timedelta(hours=25)) is None


async def test_earlier_probes_are_told_with_the_id_of_today() -> None:
    engine = FakeEngine()
    async with loaded(engine) as daemon:
        failed = ProbeResult(datetime.now(UTC), "gpu9", KEY, MODEL, ProbeOutcome.FAILED, error="dead")
        await daemon.store.add_probe(failed, "")
        service, snapshots = daemon.service, Broadcast[Snapshot]()
        prober = Prober(
            engine, daemon.store, service._monitor, daemon.models, snapshots, Ledger(engine, 1, print, service._clock),
            service._dispatcher.best, BY_HAND, print, service._clock,
        )  # fmt: skip
        running = asyncio.create_task(prober.run())
        await until(lambda: bool(snapshots.waiting) or running.done())
        snapshots.publish(await service.snapshot())
        await asyncio.wait_for(running, 20)
        assert prober.problems[0].startswith("gpu0: the last probe of echo went wrong")


async def test_a_restart_knows_the_answer_and_the_pace_of_before(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.digest = "good"
    path = tmp_path / "h.db"
    async with loaded(engine) as daemon:
        first = await turn(daemon)
        assert first is not None
        driver = (await daemon.store.recent_probes({}))[0].driver
        assert driver.startswith("driver 570; ")
    store = await Store.open(path, StoreConfig())
    for number in range(6):
        await store.add_probe(replace(first, itl_s=0.01 + number / 1e4), driver)
    await store.close()
    store = await Store.open(path, StoreConfig())
    book = ProbeBook()
    book.seed(await store.recent_probes({}))
    await store.close()
    assert book.expected(KEY, MODEL, ("fp32", driver)) == "good"
    assert book.expected(KEY, MODEL, ("fp32", "another driver")) == ""
    assert book.pace(KEY, MODEL)[0] == pytest.approx(0.0101)


# On request


async def test_a_probe_that_is_asked_for_loads_the_model_and_is_recorded() -> None:
    engine = FakeEngine()
    async with living(engine=engine, config=BY_HAND) as daemon:
        result = await ask(daemon)
        assert (result.outcome, result.model, result.device) == (ProbeOutcome.OK, MODEL, "gpu0")
        history = await daemon.client.uptime(86_400.0, "gpu0")
        assert [(probe.at, probe.digest) for probe in history.probes] == [(result.at, result.digest)]
        assert history.uptimes[0].windows[0].up_ratio == 1.0


async def test_an_asked_for_probe_waits_for_what_runs_and_takes_the_place_of_a_scheduled_one() -> None:
    engine = GatedEngine()
    async with loaded(engine) as daemon:
        engine.open.clear()
        scheduled = daemon.service.prober.turn()
        await engine.waits.wait()
        asked = ask(daemon, device="gpu0")
        await until(lambda: scheduled is not None and scheduled.done())
        engine.open.set()
        assert (await asked).outcome is ProbeOutcome.OK


class Loads(FakeEngine):
    """Notes what it loads, which takes until ``may_end`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def prewarm(self, model: str, device: Device) -> None:
        self.loads.append(device.id)
        await self.may_end.wait()
        await super().prewarm(model, device)


async def test_nothing_is_loaded_onto_a_device_that_somebody_holds() -> None:
    engine = Loads()
    async with living(engine=engine, config=BY_HAND) as daemon:
        gate = daemon.service.ledger.gate((await daemon.service.snapshot()).devices[0])
        async with gate.hold("a soak is running"):
            with pytest.raises(Overloaded, match="a soak is running"):
                await daemon.service.prober.probe(ProbeRequest())
            assert engine.loads == []
        engine.may_end.clear()
        asked = asyncio.ensure_future(daemon.service.prober.probe(ProbeRequest()))
        await until(lambda: bool(engine.loads))
        assert gate.held == "a probe is running"
        engine.may_end.set()
        assert (await asked).outcome is ProbeOutcome.OK
        assert not gate.held


@pytest.mark.parametrize("loads", [True, False])
async def test_a_device_that_is_lost_while_a_probe_waits_or_loads_is_down(loads: bool) -> None:
    engine, source = Loads(), FakeSource([fake_gpu(0)])
    async with living(source, engine, config=BY_HAND) as daemon:
        status = (await daemon.service.snapshot()).devices[0]
        place, gate = daemon.service.ledger.line(status, MODEL, 8).enter(), daemon.service.ledger.gate(status)
        engine.may_end.clear()
        asked = asyncio.ensure_future(daemon.service.prober.probe(ProbeRequest()))
        await until(lambda: bool(gate.held))
        assert engine.loads == []
        if loads:
            place.leave()
            await until(lambda: bool(engine.loads))
        source.lost.add(KEY)
        await until(lambda: _state(daemon) is HealthState.LOST)
        place.leave()
        engine.may_end.set()
        result = await asked
        assert (result.outcome, engine.requests) == (ProbeOutcome.FAILED, [])
        assert "lost" in (result.error or "")
        assert engine.loads == (["gpu0"] if loads else [])


async def test_a_model_of_the_configuration_is_not_loaded_onto_a_device_that_somebody_holds() -> None:
    engine = Loads()
    async with living(engine=engine, config=BY_HAND) as daemon:
        gate = daemon.service.ledger.gate((await daemon.service.snapshot()).devices[0])
        async with gate.hold("a soak is running"):
            loading = asyncio.ensure_future(daemon.service._dispatcher.prewarm(MODEL, "gpu0"))
            await until(lambda: gate.waiting == 1)
            assert engine.loads == []
        await loading
        assert engine.loads == ["gpu0"]
        assert gate.running == 0


async def test_an_answer_can_be_accepted() -> None:
    engine = FakeEngine()
    engine.digest = "old"
    async with loaded(engine) as daemon:
        await ask(daemon)
        engine.digest = "new"
        assert (await ask(daemon)).outcome is ProbeOutcome.WRONG
        assert (await ask(daemon, accept=True)).outcome is ProbeOutcome.OK
        assert (await ask(daemon)).outcome is ProbeOutcome.OK


async def test_a_load_that_fails_is_a_probe_that_failed() -> None:
    class Broken(FakeEngine):
        async def prewarm(self, model: str, device: Device) -> None:
            raise WorkerDied("the worker was killed")

    async with living(engine=Broken(), config=BY_HAND) as daemon:
        result = await ask(daemon)
        assert (result.outcome, result.error) == (ProbeOutcome.FAILED, "the worker was killed")


async def test_the_page_of_metrics_has_what_is_loaded_and_was_probed() -> None:
    engine = FakeEngine()
    engine.digest = "good"
    async with loaded(engine) as daemon:
        assert "hwdash_probe" not in await _metrics(daemon)
        await turn(daemon)
        labels = f'{{device="{KEY}",model="{MODEL}"}}'
        assert f"hwdash_probe_up{labels} 1" in await _metrics(daemon)
        engine.digest = "bad"
        await turn(daemon)
        page = await _metrics(daemon)
        assert f"hwdash_probe_up{labels} 0" in page
        assert f"hwdash_probe_wrong{labels} 1" in page
        engine.standings[KEY] = Standing(loaded=False)
        assert "hwdash_probe" not in await _metrics(daemon)


async def _metrics(daemon: Living) -> str:
    return (await daemon.ask("GET", "/metrics"))[2].decode()
