from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import aiosqlite

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.health import HealthState
from hwdash.store.database import prepare
from hwdash.store.retention import trim
from hwdash.store.stamp import to_ms
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, change, record, rows, snapshot, status, until, writing

DAY = 86_400
MIB = 2**20


def fill(path: Path, samples: int, records: int = 0, *, padding: int = 0) -> None:
    """Samples of one device and failed records, one a second from `START` on."""
    prepare(path, START)
    first = to_ms(START)
    with writing(path) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO sample(ts, dev, power_mw, energy_mj, health) VALUES(?, 1, 350125, 1000000000, 0)",
            ((first + 1000 * number,) for number in range(samples)),
        )
        connection.executemany(
            """INSERT INTO inference(uid, ts, dev, model, origin, requested, finish, error, tokens_prompt,
               tokens_completion, throttle) VALUES(?, ?, 1, 'tiny', 'prompt', 'auto', 'error', ?, 0, 0, 0)""",
            ((f"r{number}", first + 1000 * number, "x" * padding) for number in range(records)),
        )
        connection.execute("COMMIT")


async def steps(path: Path, config: StoreConfig, now_ms: int) -> int:
    """Trim until nothing is left to do; how many steps it took."""
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        number = 1
        while await trim(connection, config, now_ms):
            number += 1
            assert number < 1000
        return number
    finally:
        await connection.close()


def size(path: Path) -> int:
    return path.stat().st_size


async def test_expired_samples_go_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 35_000)
    now = to_ms(at(DAY + 25_000))
    assert await steps(path, StoreConfig(retention_days=1), now) >= 3
    assert rows(path, "SELECT min(ts), count(*) FROM sample") == [(to_ms(at(25_000)), 10_000)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_freed_pages_go_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 150_000)
    before = size(path)
    await steps(path, StoreConfig(retention_days=1), to_ms(at(DAY + 149_000)))
    assert size(path) < before / 2
    assert rows(path, "SELECT count(*) FROM sample") == [(1000,)]


async def test_nothing_goes_before_its_time(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 2000, 2000)
    assert await steps(path, StoreConfig(retention_days=7), to_ms(at(7 * DAY))) == 1
    assert rows(path, "SELECT (SELECT count(*) FROM sample), (SELECT count(*) FROM inference)") == [(2000, 2000)]


async def test_records_are_kept_for_90_days_or_as_long_as_samples(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 10, 3000)
    now = to_ms(at(90 * DAY + 2500))
    await steps(path, StoreConfig(retention_days=100), now)
    assert rows(path, "SELECT count(*) FROM inference") == [(3000,)]
    await steps(path, StoreConfig(retention_days=7), now)
    assert rows(path, "SELECT min(ts), count(*) FROM inference") == [(to_ms(at(2500)), 500)]
    assert rows(path, "SELECT count(*) FROM sample") == [(0,)]


async def test_above_its_size_the_oldest_samples_go_first(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 800_000, 500)
    assert size(path) > 16 * MIB
    await steps(path, StoreConfig(max_size_mb=16), to_ms(at(800_000)))
    assert 8 * MIB < size(path) <= 12 * MIB
    assert rows(path, "SELECT max(ts) FROM sample") == [(to_ms(at(799_999)),)]
    assert rows(path, "SELECT count(*) FROM inference") == [(500,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_without_samples_the_oldest_records_go(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 5, 40_000, padding=600)
    assert size(path) > 16 * MIB
    await steps(path, StoreConfig(max_size_mb=16), to_ms(at(40_000)))
    assert size(path) <= 12 * MIB
    assert rows(path, "SELECT max(ts) FROM inference") == [(to_ms(at(39_999)),)]
    assert rows(path, "SELECT count(*) FROM sample") == [(1,)]


async def test_events_go_last(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 5, 5)
    with writing(path) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            """INSERT INTO event(ts, dev, run, kind, severity, words, reasons, throttle, suspected)
               VALUES(?, 1, 1, 'alert', 'info', ?, '[]', '[]', 0)""",
            ((to_ms(at(number)), "x" * 600) for number in range(40_000)),
        )
        connection.execute("COMMIT")
    assert size(path) > 16 * MIB
    await steps(path, StoreConfig(max_size_mb=16), to_ms(at(40_000)))
    assert size(path) <= 12 * MIB
    assert rows(path, "SELECT max(ts) FROM event") == [(to_ms(at(39_999)),)]
    assert rows(path, "SELECT (SELECT count(*) FROM sample), (SELECT count(*) FROM inference)") == [(1, 0)]


async def test_the_writer_keeps_house_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    fill(path, 25_000, 10)
    clock = ManualClock(START + timedelta(days=7, seconds=24_000))
    store = await Store.open(path, StoreConfig(), clock, pace=FAST)
    await until(lambda: rows(path, "SELECT count(*) FROM sample") == [(1000,)])
    store.add_snapshot(snapshot(status(7 * DAY + 24_000)))
    store.add_event(change(0, HealthState.OK))
    await store.add_record(record(7 * DAY + 24_000))
    clock.advance(91 * DAY)
    await until(lambda: rows(path, "SELECT (SELECT count(*) FROM sample), (SELECT count(*) FROM event)") == [(0, 0)])
    await until(lambda: rows(path, "SELECT count(*) FROM inference") == [(0,)])
    assert rows(path, "SELECT last_ts FROM device") == [(to_ms(at(7 * DAY + 24_000)),)]
    assert store.problems == ()
    await store.close()
