from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.errors import UsageError
from hwdash.core.history import MetricBucket
from hwdash.core.reading import Absent, Reading
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, gpu, rows, snapshot, status, until

IDS = {gpu(0).key: "gpu0", gpu(1).key: "gpu1"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    clock = ManualClock(START)
    clock.advance(100)
    store = await Store.open(tmp_path / "h.db", StoreConfig(), clock, pace=FAST)
    yield store
    await store.close()


async def keep(store: Store, path: Path, *samples: tuple[float, int, Reading | None]) -> None:
    for seconds, index, reading in samples:
        readings = {} if reading is None else {"power_w": reading}
        store.add_snapshot(snapshot(status(seconds, index, readings)))
    await until(lambda: rows(path / "h.db", "SELECT count(*) FROM sample") == [(len(samples),)])


async def test_buckets_with_gaps(store: Store, tmp_path: Path) -> None:
    late: list[tuple[float, int, Reading | None]] = [
        (60.0, 0, 500.0),
        (61.0, 0, Absent.TIMED_OUT),
        (99.5, 0, 80.25),
        (70.0, 1, 70.0),
    ]
    await keep(store, tmp_path, (-5.0, 0, 999.0), (1.0, 0, 100.0), (2.0, 0, 300.0), (9.999, 0, 200.0), *late)
    history = await store.metric("power_w", 100, None, 10, IDS)
    first, second = history.series
    assert (history.metric, history.since, history.until, history.bucket_s) == ("power_w", START, at(100), 10.0)
    assert first.buckets == (
        MetricBucket(START, 3, 100.0, 200.0, 300.0),
        MetricBucket(at(60), 1, 500.0, 500.0, 500.0),
        MetricBucket(at(90), 1, 80.25, 80.25, 80.25),
    )
    assert first.summary == MetricBucket(START, 5, 80.25, 236.05, 500.0)
    assert (second.device, second.buckets) == ("gpu1", (MetricBucket(at(70), 1, 70.0, 70.0, 70.0),))
    only = await store.metric("power_w", 100, gpu(1).key, 10, {})
    assert [(item.device, item.device_key) for item in only.series] == [(gpu(1).key, gpu(1).key)]
    assert (await store.metric("power_w", 100, "no:such", 10, IDS)).series == ()


async def test_a_device_without_a_number_has_its_newest_reason(store: Store, tmp_path: Path) -> None:
    await keep(
        store, tmp_path, (1.0, 0, Absent.FIRST_SAMPLE), (2.0, 0, Absent.NO_PERMISSION), (2.0, 1, None), (3.0, 2, 5.0)
    )
    history = await store.metric("power_w", 100, None, 10, IDS)
    found = {item.device: (item.summary is None, item.buckets == (), item.absent) for item in history.series}
    assert found == {"gpu0": (True, True, Absent.NO_PERMISSION), gpu(2).key: (False, False, None)}


@pytest.mark.parametrize(
    ("metric", "since_s", "buckets", "param"),
    [("pover_w", 1, 1, "metric"), ("power_w", 0, 1, "since"), ("power_w", 1, 0, "buckets"), ("ts; --", 1, 1, "metric")],
)
async def test_a_question_without_sense_is_refused(
    store: Store, metric: str, since_s: float, buckets: int, param: str
) -> None:
    with pytest.raises(UsageError) as caught:
        await store.metric(metric, since_s, None, buckets, IDS)
    assert caught.value.param == param
    if metric == "pover_w":
        assert "did you mean power_w" in caught.value.message
