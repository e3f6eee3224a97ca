"""Probes in the file: what comes back, what uptime is made of, and how long they stay."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.errors import UsageError
from hwdash.core.percentile import nearest_rank
from hwdash.core.probe import ProbeOutcome, ProbeResult
from hwdash.store.database import prepare
from hwdash.store.probe import MOST_TOLD, PROBE_SQL, StoredProbe, probe_row, read_uptime
from hwdash.store.register import Register
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, gpu, rows, until

DAY = 86_400.0
FULL = ProbeResult(
    at(1), "gpu0", gpu(0).key, "tiny", ProbeOutcome.WRONG, 0.024, 0.009, 0.2, 16, "bf16", "ab12", "cd34", 0.125, None
)  # fmt: skip


def probe(seconds: float, outcome: ProbeOutcome = ProbeOutcome.OK, index: int = 0, **changes: Any) -> ProbeResult:
    facts: dict[str, Any] = {"ttft_s": 0.02, "itl_s": 0.01, "total_s": 0.2, "tokens": 16, "digest": "ab"}
    return ProbeResult(
        at(seconds), f"gpu{index}", gpu(index).key, **({"model": "tiny", "outcome": outcome} | facts | changes)
    )


async def test_a_probe_comes_back_as_it_was(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), ManualClock(at(10)), pace=FAST)
    bare = ProbeResult(at(2), "gpu1", gpu(1).key, "tiny", ProbeOutcome.FAILED, error="no token within 30 s")
    await store.add_probe(FULL, "driver 570")
    await store.add_probe(bare, "")
    ids = {gpu(0).key: "gpu0", gpu(1).key: "gpu1"}
    assert await store.recent_probes(ids) == (StoredProbe(FULL, "driver 570"), StoredProbe(bare, ""))
    history = await store.uptime(3600, None, ids)
    assert history.probes == (FULL, bare)
    assert [item.last for item in history.uptimes] == [FULL, bare]
    await store.close()


@pytest.mark.parametrize("change", ["outcome = '{broken'", "digest = x'00ff'", "itl_us = 'soon'", "tokens = 'many'"])
async def test_a_row_that_something_else_has_written_to_is_passed_over(tmp_path: Path, change: str) -> None:
    path = tmp_path / "h.db"
    fill(path, [probe(1), probe(2)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE probe SET {change} WHERE id = 1")
    connection.close()
    store = await Store.open(path, StoreConfig(), ManualClock(at(10)), pace=FAST)
    ids = {gpu(0).key: "gpu0"}
    assert [stored.result for stored in await store.recent_probes(ids)] == [probe(2)]
    assert (await store.uptime(3600, None, ids)).probes == (probe(2),)
    await store.close()


async def test_uptime_over_an_hour_a_day_and_a_week(tmp_path: Path) -> None:
    now = 8 * DAY
    clock = ManualClock(at(now))
    store = await Store.open(tmp_path / "h.db", StoreConfig(retention_days=30), clock, pace=FAST)
    for age, outcome in (
        (60, ProbeOutcome.OK), (120, ProbeOutcome.FAILED), (5000, ProbeOutcome.OK), (6000, ProbeOutcome.WRONG),
        (2 * DAY, ProbeOutcome.OK), (7.5 * DAY, ProbeOutcome.FAILED),
    ):  # fmt: skip
        await store.add_probe(
            probe(now - age, outcome, ttft_s=None if outcome is ProbeOutcome.FAILED else age / 1e6), ""
        )
    await store.add_probe(probe(now - 3 * DAY, index=1, model="other"), "")
    history = await store.uptime(3600, None, {gpu(0).key: "gpu0"})
    assert [(item.device, item.model) for item in history.uptimes] == [("fake:gpu-1", "other"), ("gpu0", "tiny")]
    hour, day, week = history.uptimes[1].windows
    assert [(item.window_s, item.probes, item.failed, item.wrong) for item in (hour, day, week)] == [
        (3600.0, 2, 1, 0), (DAY, 4, 1, 1), (7 * DAY, 5, 1, 1),
    ]  # fmt: skip
    assert [item.up_ratio for item in (hour, day, week)] == [0.5, 0.5, 0.6]
    assert (hour.ttft_p50_s, hour.itl_p99_s) == (60e-6, 0.01)
    other = history.uptimes[0].windows
    assert (other[0].probes, other[0].up_ratio, other[0].ttft_p50_s) == (0, None, None)
    assert [result.at for result in history.probes] == [at(now - 120), at(now - 60)]
    longer = await store.uptime(8 * DAY, gpu(0).key, {})
    assert [window.window_s for window in longer.uptimes[0].windows] == [3600.0, DAY, 7 * DAY, 8 * DAY]
    assert longer.uptimes[0].windows[-1].failed == 2
    with pytest.raises(UsageError):
        await store.uptime(0, None, {})
    await store.close()


async def test_of_each_model_the_newest_are_told(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, [probe(number) for number in range(MOST_TOLD + 20)])
    with sqlite3.connect(path) as connection:
        history = read_uptime(connection, at(1000), 3600, None, {})
    connection.close()
    assert [result.at for result in history.probes] == [at(number) for number in range(20, MOST_TOLD + 20)]
    assert history.uptimes[0].windows[0].probes == MOST_TOLD + 20


async def test_probes_go_with_the_samples_of_their_time(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, [probe(number * 60) for number in range(100)])
    clock = ManualClock(START + timedelta(days=7, seconds=50 * 60))
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    await until(lambda: rows(path, "SELECT count(*) FROM probe") == [(50,)])
    await store.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=60))
def test_percentiles_are_measured_values(tmp_path_factory: pytest.TempPathFactory, gaps: list[float]) -> None:
    path = tmp_path_factory.mktemp("probe") / "h.db"
    fill(path, [probe(number, itl_s=gap) for number, gap in enumerate(gaps)])
    connection = sqlite3.connect(path)
    window = read_uptime(connection, at(1000), 3600, None, {}).uptimes[0].windows[0]
    connection.close()
    ordered = sorted(round(gap * 1e6) / 1e6 for gap in gaps)
    assert (window.itl_p50_s, window.itl_p99_s) == (nearest_rank(ordered, 50), nearest_rank(ordered, 99))


def fill(path: Path, results: list[ProbeResult]) -> None:
    """A file with these probes in it."""
    prepare(path, START, broken=False)
    register = Register((), ())
    values = [probe_row(register, StoredProbe(result, "driver 570")) for result in results]
    with sqlite3.connect(path) as connection:
        for sql, params in register.statements():
            connection.executemany(sql, params)
        connection.executemany(PROBE_SQL, values)
    connection.close()
