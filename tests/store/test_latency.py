from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.health import HealthState
from hwdash.core.history import LatencyHistory, Percentiles
from hwdash.core.inference import FinishReason, Route, Timing
from hwdash.store.latency import bucket_width, percentiles
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, change, gpu, record, rows, snapshot, status, until, writing

GPU0, GPU1 = gpu(0).key, gpu(1).key
IDS = {GPU0: "gpu0"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), clock, pace=FAST)
    yield store
    await store.close()


def plain_percentile(values: list[int], share: int) -> float:
    """By the definition: the smallest value with at least *share* % of all values at or below it."""
    return min(v for v in values if 100 * sum(other <= v for other in values) >= share * len(values)) / 1e6


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=250))
def test_percentiles_are_the_nearest_rank(values: list[int]) -> None:
    assert percentiles(values) == Percentiles(*(plain_percentile(values, share) for share in (50, 95, 99)))


def test_percentiles_of_nothing_are_unknown() -> None:
    assert percentiles([]) is None


@given(st.floats(1, 1e7), st.integers(1, 500))
def test_buckets_are_round_and_about_as_many_as_asked_for(since_s: float, buckets: int) -> None:
    width = bucket_width(since_s, buckets)
    assert 86400 % width == 0
    if since_s / buckets <= 86400:
        assert since_s / width <= buckets
    assert width == 1 or since_s / width >= buckets / 3.0 or width == 86400


@pytest.mark.parametrize(
    ("since_s", "width"), [(300, 5), (3600, 30), (86400, 900), (7 * 86400, 7200), (0.5, 1), (1e9, 86400)]
)
def test_the_widths_of_the_dashboard(since_s: float, width: int) -> None:
    assert bucket_width(since_s, 120) == width


async def test_each_device_and_model_has_its_series(store: Store, clock: ManualClock) -> None:
    for second, ttft, index, model in (
        (1, 0.1, 0, "a"),
        (2, 0.2, 0, "a"),
        (11, 0.4, 0, "a"),
        (3, 0.3, 1, "a"),
        (4, 0.5, 0, "b"),
    ):
        await store.add_record(record(second, ttft_s=ttft, index=index, model=model))
    clock.advance(60)
    history = await store.latency(60, None, 10, IDS)
    assert (history.since, history.until, history.bucket_s) == (START, at(60), 10.0)
    assert [(s.device, s.device_key, s.model) for s in history.series] == [
        (GPU1, GPU1, "a"),
        ("gpu0", GPU0, "a"),
        ("gpu0", GPU0, "b"),
    ]
    series = history.series[1]
    assert [(bucket.start, bucket.requests, bucket.ttft) for bucket in series.buckets] == [
        (at(0), 2, Percentiles(0.1, 0.2, 0.2)),
        (at(10), 1, Percentiles(0.4, 0.4, 0.4)),
    ]
    assert series.summary.requests == 3
    assert series.summary.start == START
    assert series.summary.ttft == Percentiles(0.2, 0.4, 0.4)
    assert series.summary.itl == Percentiles(0.0101, 0.0101, 0.0101)
    only = await store.latency(60, GPU1, 10, IDS)
    assert [item.device_key for item in only.series] == [GPU1]
    assert (await store.latency(60, "nobody", 10, IDS)).series == ()


async def test_buckets_stand_where_they_stood(store: Store, clock: ManualClock) -> None:
    await store.add_record(record(17))
    starts = set()
    for _ in range(5):
        clock.advance(17.3)
        history = await store.latency(100, None, 10, {})
        starts |= {bucket.start for item in history.series for bucket in item.buckets}
    assert starts == {at(10)}


async def test_what_lies_outside_the_window_does_not_count(store: Store, clock: ManualClock) -> None:
    for second in (0, 39.999, 40, 100, 100.001):
        await store.add_record(record(second))
    clock.advance(100)
    assert (await store.latency(60, None, 10, {})).series[0].summary.requests == 2


async def test_a_cold_start_is_not_latency(store: Store, clock: ManualClock) -> None:
    await store.add_record(record(1, timing=Timing(cold_start_s=12.0, ttft_s=12.25, total_s=13.0), route=Route("auto")))
    clock.advance(10)
    (series,) = (await store.latency(60, None, 1, {})).series
    assert series.summary.ttft == Percentiles(0.25, 0.25, 0.25)
    assert series.summary.total == Percentiles(1.0, 1.0, 1.0)
    assert (await store.last_requests())[series.device_key].ttft_s == 0.25


async def test_a_queue_says_nothing_of_the_device(store: Store) -> None:
    timing = Timing(queue_s=2.0, cold_start_s=12.0, ttft_s=14.25, total_s=15.0)
    await store.add_record(record(1, timing=timing, route=Route("auto")))
    (last,) = (await store.last_requests()).values()
    assert last.ttft_s == 0.25


async def test_failed_requests_are_errors_and_cancelled_ones_nothing(store: Store, clock: ManualClock) -> None:
    await store.add_record(record(1, ttft_s=0.1))
    await store.add_record(record(2, ttft_s=0.2, finish=FinishReason.LENGTH))
    await store.add_record(record(3, ttft_s=9.0, finish=FinishReason.ERROR))
    await store.add_record(record(4, ttft_s=9.0, finish=FinishReason.CANCELLED))
    await store.add_record(record(5, timing=Timing()))
    await store.add_record(record(6, model="broken", finish=FinishReason.ERROR))
    await store.add_record(record(7, model="impatient", finish=FinishReason.CANCELLED))
    clock.advance(10)
    answered, broken = sorted((await store.latency(60, None, 1, {})).series, key=lambda item: -item.summary.requests)
    assert (answered.summary.requests, answered.summary.errors) == (3, 1)
    assert answered.summary.ttft == Percentiles(0.1, 0.2, 0.2)
    assert (broken.model, broken.summary.requests, broken.summary.errors, broken.summary.ttft) == ("broken", 0, 1, None)


@pytest.mark.parametrize("since_s", [0.0, -1.0, math.nan, math.inf])
async def test_a_window_that_is_none_is_refused(store: Store, since_s: float) -> None:
    with pytest.raises(UsageError, match="window"):
        await store.latency(since_s, None, 10, {})


async def test_no_buckets_are_refused_and_a_window_since_ever_is_not(store: Store) -> None:
    with pytest.raises(UsageError, match="buckets"):
        await store.latency(60, None, 0, {})
    assert (await store.latency(1e300, None, 1, {})).series == ()


async def periods(store: Store, since_s: float = 100) -> list[tuple[object, ...]]:
    history: LatencyHistory = await store.latency(since_s, GPU0, 10, IDS)
    return [(item.device, item.start, item.end, item.reasons) for item in history.throttled]


async def note(store: Store, path: Path, *changes: tuple[float, HealthState]) -> None:
    """Add changes and wait until they are on the disk."""
    before = len(rows(path, "SELECT 1 FROM event"))
    for second, state in changes:
        store.add_event(change(second, state, ["hot"]))
    await until(lambda: len(rows(path, "SELECT 1 FROM event")) >= before + len(changes))


async def test_throttled_periods_are_cut_to_the_window(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    slow, fine = HealthState.THROTTLED, HealthState.OK
    await note(
        store, tmp_path / "h.db", (1, slow), (20, fine), (30, slow), (55, fine), (60, slow), (70, HealthState.STALE)
    )
    store.add_event(change(62, slow, index=1))
    await until(lambda: len(rows(tmp_path / "h.db", "SELECT 1 FROM event")) == 7)
    await note(store, tmp_path / "h.db", (80, slow))
    clock.advance(100)
    assert await periods(store, 60) == [
        ("gpu0", at(40), at(55), ("hot",)),
        ("gpu0", at(60), at(70), ("hot",)),
        ("gpu0", at(80), None, ("hot",)),
    ]
    assert await periods(store, 25) == [("gpu0", at(80), None, ("hot",))]
    assert (await store.latency(25, GPU0, 10, IDS)).throttled[0].throttle == ("power_cap",)
    assert await periods(store, 5) == [("gpu0", at(95), None, ("hot",))]
    assert len((await store.latency(60, None, 10, IDS)).throttled) == 4


async def test_a_period_that_was_only_suspected_says_so(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    store.add_event(replace(change(1, HealthState.THROTTLED), suspected=True))
    await until(lambda: rows(tmp_path / "h.db", "SELECT 1 FROM event"))
    await note(store, tmp_path / "h.db", (5, HealthState.OK), (9, HealthState.THROTTLED))
    clock.advance(30)
    assert [item.suspected for item in (await store.latency(60, None, 10, IDS)).throttled] == [True, False]


async def test_a_period_ends_with_the_run_that_saw_it(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "h.db"
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    await note(store, path, (10, HealthState.THROTTLED))
    clock.advance(20)
    await store.close()
    clock.advance(20)
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    await note(store, path, (41, HealthState.THROTTLED))
    clock.advance(10)
    assert await periods(store) == [("gpu0", at(10), at(20), ("hot",)), ("gpu0", at(41), None, ("hot",))]
    await store.close()


async def test_a_run_that_was_killed_ends_with_its_last_sample(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "h.db"
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    await note(store, path, (10, HealthState.THROTTLED))
    store.add_snapshot(snapshot(status(15)))
    await store.close()
    with writing(path) as connection:
        connection.execute("UPDATE run SET end_ts=NULL")
    clock.advance(40)
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    assert await periods(store) == [("gpu0", at(10), at(15), ("hot",))]
    await store.close()


async def test_reading_beside_writing(store: Store, clock: ManualClock) -> None:
    clock.advance(1000)
    done = asyncio.Event()

    async def write() -> None:
        for second in range(200):
            store.add_snapshot(snapshot(*(status(second, index) for index in range(4))))
            await store.add_record(record(second))
        done.set()

    async def read() -> list[int]:
        counts = []
        while not done.is_set():
            history = await store.latency(2000, None, 10, IDS)
            counts.append(sum(item.summary.requests for item in history.series))
        return counts

    _, *counted = await asyncio.gather(write(), read(), read(), read())
    assert all(counts == sorted(counts) for counts in counted)
    assert (await store.latency(2000, None, 10, IDS)).series[0].summary.requests == 200
    assert store.problems == ()


async def test_a_cancelled_question_does_no_harm(store: Store, clock: ManualClock) -> None:
    await store.add_record(record(1))
    clock.advance(10)
    for _ in range(5):
        task = asyncio.create_task(store.latency(60, None, 10, {}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await store.latency(60, None, 10, {})).series[0].summary.requests == 1


async def test_a_closed_history_says_so(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig())
    await store.close()
    with pytest.raises(HwdashError, match="closed"):
        await store.device_keys()
