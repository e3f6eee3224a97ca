from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from hwdash.core.config import StoreConfig
from hwdash.store.database import prepare
from hwdash.store.migration import DatabaseRefused, migrate
from hwdash.store.schema import MIGRATIONS
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
    with pytest.raises(DatabaseRefused, match=r"written by a newer hwdash \(schema 99, this one knows 1\); update"):
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
