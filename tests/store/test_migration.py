from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.store.database import prepare
from hwdash.store.migration import DatabaseRefused, migrate
from hwdash.store.schema import MIGRATIONS
from hwdash.store.stamp import from_ms
from hwdash.store.store import Store
from tests.store.material import START, record, rows, writing

# What version 1 wrote, by hand: must open for ever.
VERSION_1 = """
PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA journal_mode=WAL;
PRAGMA application_id=1752654963;
CREATE TABLE device(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,
    first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL);
CREATE TABLE run(id INTEGER PRIMARY KEY, start_ts INTEGER NOT NULL, end_ts INTEGER);
CREATE TABLE absent_set(id INTEGER PRIMARY KEY, reasons TEXT NOT NULL UNIQUE);
CREATE TABLE sample(ts INTEGER NOT NULL, dev INTEGER NOT NULL,
    utilization_permille INTEGER, memory_bandwidth_utilization_permille INTEGER, tensor_utilization_permille INTEGER,
    memory_used_kib INTEGER, memory_total_kib INTEGER, temperature_mc INTEGER, hotspot_temperature_mc INTEGER,
    memory_temperature_mc INTEGER, temperature_margin_mc INTEGER, power_mw INTEGER, energy_mj INTEGER,
    clock_khz INTEGER, memory_clock_khz INTEGER, fan_permille INTEGER, fan_rpm INTEGER, pcie_rx_kib_per_s INTEGER,
    pcie_tx_kib_per_s INTEGER, pcie_link_generation INTEGER, pcie_link_width INTEGER, ecc_uncorrected_total INTEGER,
    remapped_rows_total INTEGER, load_1m_milli INTEGER, throttle INTEGER, throttle_permille INTEGER,
    health INTEGER NOT NULL, absent INTEGER, PRIMARY KEY(ts, dev)) WITHOUT ROWID;
CREATE TABLE event(id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, dev INTEGER NOT NULL, run INTEGER NOT NULL,
    before TEXT, after TEXT NOT NULL, reasons TEXT NOT NULL, throttle TEXT NOT NULL);
CREATE INDEX event_ix ON event(dev, ts);
CREATE TABLE inference(id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, ts INTEGER NOT NULL, dev INTEGER NOT NULL,
    model TEXT NOT NULL, dtype TEXT, origin TEXT NOT NULL, requested TEXT NOT NULL, fallback_from TEXT,
    finish TEXT NOT NULL, error TEXT, tokens_prompt INTEGER, tokens_completion INTEGER NOT NULL,
    queue_us INTEGER, cold_start_us INTEGER, ttft_us INTEGER, itl_p50_us INTEGER, itl_p99_us INTEGER,
    total_us INTEGER, tokens_per_ks INTEGER, energy_mj INTEGER, energy_per_token_uj INTEGER, energy_scope TEXT,
    throttle INTEGER NOT NULL, temperature_max_mc INTEGER, clock_min_khz INTEGER);
CREATE INDEX inference_ix ON inference(dev, ts);
INSERT INTO device VALUES(7, 'fake:gpu-0', 'Old GPU', 'gpu', 1000, 2000);
INSERT INTO inference(uid, ts, dev, model, origin, requested, finish, tokens_prompt, tokens_completion, ttft_us, total_us, throttle)
    VALUES('old', 1795348800000, 7, 'tiny', 'prompt', 'auto', 'stop', 1, 2, 250000, 500000, 0);
INSERT INTO run VALUES(3, 1795348700000, NULL);
INSERT INTO event VALUES(5, 1795348750000, 7, 3, NULL, 'ok', '[]', '[]');
INSERT INTO event VALUES(9, 1795348760000, 7, 3, 'ok', 'throttled', '["power cap for 3 s", "2 °C to slowdown"]', '["power_cap"]');
INSERT INTO event VALUES(11, 1795348790000, 7, 3, 'throttled', 'lost', '["lost: it''s gone"]', '[]');
INSERT INTO sample(ts, dev, power_mw, throttle, health, absent) VALUES(1795348750000, 7, 350125, 8, 2, NULL);
PRAGMA user_version=1;
"""


def tables(path: Path) -> dict[str, str]:
    """Name and definition of everything in the schema, without regard to blanks."""
    return {
        name: "".join(sql.split()) for name, sql in rows(path, "SELECT name, sql FROM sqlite_master WHERE sql != ''")
    }


def test_a_new_file_is_private_and_has_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state" / "h.db"
    prepare(path, START)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    wanted = {"user_version": len(MIGRATIONS), "page_size": 4096, "auto_vacuum": 2, "journal_mode": "wal"}
    assert {name: rows(path, f"PRAGMA {name}")[0][0] for name in wanted} == wanted


def test_a_file_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    path.touch(0o644)
    prepare(path, START)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_broken_file_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    assert prepare(tmp_path / "h.db", START, broken=True).problem == ""
    assert "kept as h.db.corrupt-20261122T120000Z;" in prepare(tmp_path / "h.db", START, broken=True).problem
    assert "kept as h.db.corrupt-20261122T120000Z-2;" in prepare(tmp_path / "h.db", START, broken=True).problem


async def test_a_file_of_version_1_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with writing(path) as connection:
        connection.executescript(VERSION_1)
    store = await Store.open(path, StoreConfig())
    await store.add_record(record(uid="new", index=1))
    assert await store.device_keys() == {"fake:gpu-0", "fake:gpu-1"}
    assert (await store.last_requests())["fake:gpu-0"].ttft_s == 0.25
    await store.close()
    assert rows(path, "SELECT uid, dev FROM inference ORDER BY uid") == [("new", 8), ("old", 7)]


def test_a_file_of_version_1_ends_as_a_new_one_does(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with writing(old) as connection:
        connection.executescript(VERSION_1)
    prepare(old, START)
    prepare(new, START)
    assert tables(old) == tables(new)


async def test_changes_of_version_1_are_events_with_words(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with writing(path) as connection:
        connection.executescript(VERSION_1)
    store = await Store.open(path, StoreConfig(), ManualClock(START))
    history = await store.events(3600, None, None, 10, {"fake:gpu-0": "gpu0"})
    latency = await store.latency(3600, None, 10, {"fake:gpu-0": "gpu0"})
    await store.close()
    assert [(event.words, event.severity.value, event.kind.value, event.suspected) for event in history.events] == [
        ("ok", "info", "health", False),
        ("throttled: power cap for 3 s, 2 °C to slowdown", "warning", "health", False),
        ("lost: lost: it's gone", "critical", "health", False),
    ]
    assert history.events[1].reasons == ("power cap for 3 s", "2 °C to slowdown")
    assert history.events[1].device == "gpu0"
    assert [(period.start, period.end) for period in latency.throttled] == [
        (from_ms(1795348760000), from_ms(1795348790000))
    ]
    assert rows(path, "SELECT id, ts, dev, run, before, after, throttle, rule, active FROM event ORDER BY id") == [
        (5, 1795348750000, 7, 3, None, "ok", "[]", None, None),
        (9, 1795348760000, 7, 3, "ok", "throttled", '["power_cap"]', None, None),
        (11, 1795348790000, 7, 3, "throttled", "lost", "[]", None, None),
    ]
    assert rows(path, "SELECT power_mw, voltage_mv, health FROM sample") == [(350125, None, 2)]


KILLED = """
import os, signal, sys
from pathlib import Path
from hwdash.store.database import opened
from hwdash.store.migration import migrate

with opened(Path(sys.argv[1])) as connection:
    connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), int(sys.argv[2]))
    migrate(connection, "h.db")
"""


def test_a_migration_killed_anywhere_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with writing(path) as connection:
        connection.executescript(VERSION_1)
        connection.executemany(
            "INSERT INTO event VALUES(?, ?, 7, 3, 'ok', 'warm', '[\"hot\"]', '[]')",
            [(number, 1795348790000 + number) for number in range(100, 2100)],
        )
    for steps in (500, 5_000, 20_000, 50_000, 80_000):
        child = subprocess.run([sys.executable, "-c", KILLED, str(path), str(steps)], check=False)
        assert child.returncode == -signal.SIGKILL
        assert rows(path, "PRAGMA user_version") == [(1,)]
        assert rows(path, "SELECT count(*) FROM event") == [(2003,)]
        assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'event_2'") == []
    prepare(path, START)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT count(*), min(words) FROM event WHERE id >= 100") == [(2000, "warm: hot")]


def test_every_step_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    prepare(path, START)
    before = tables(path)
    broken = (*MIGRATIONS, ("CREATE TABLE extra(a)", "CREATE TABLE device(a)"))
    with writing(path) as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, "h.db", broken)
        assert not connection.in_transaction
    assert tables(path) == before
    fixed = (*MIGRATIONS, ("CREATE TABLE extra(a)",), ("ALTER TABLE extra ADD COLUMN b",))
    with writing(path) as connection:
        assert migrate(connection, "h.db", fixed) == (len(MIGRATIONS), len(MIGRATIONS) + 2)
        assert migrate(connection, "h.db", fixed) == (len(MIGRATIONS) + 2, len(MIGRATIONS) + 2)
    assert tables(path)["extra"] == "CREATETABLEextra(a,b)"


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    prepare(path, START)
    with writing(path) as connection:
        connection.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused, match=r"written by a newer hwdash \(schema 99, this one knows 3\); update"):
        await Store.open(path, StoreConfig())
    assert path.read_bytes() == before


@pytest.mark.parametrize("script", ["CREATE TABLE a(b)", "CREATE TABLE a(b); PRAGMA user_version=1"])
async def test_a_database_of_another_program_is_refused(tmp_path: Path, script: str) -> None:
    path = tmp_path / "h.db"
    with writing(path) as connection:
        connection.executescript(script)
    with pytest.raises(DatabaseRefused, match="another program"):
        await Store.open(path, StoreConfig())
    assert rows(path, "SELECT name FROM sqlite_master") == [("a",)]
