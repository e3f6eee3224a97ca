from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.event import EventKind
from hwdash.core.health import HealthState
from hwdash.store.session import Session
from hwdash.store.store import Store
from hwdash.store.writer import Pace, Writer
from tests.store.material import FAST, START, at, change, gpu, record, rows, snapshot, status, until, writing

SLOW = Pace(commit_s=3600, retry_s=3600, maintain_s=3600)


def only_loop_thread() -> bool:
    """True when no connection's thread is alive."""
    return not any("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def opened(path: Path, pace: Pace = FAST) -> Store:
    return await Store.open(path, StoreConfig(), ManualClock(START), pace=pace)


def has_rows(path: Path, table: str, number: int) -> bool:
    return len(rows(path, f"SELECT 1 FROM {table}")) == number


def session_of(store: Store) -> Session:
    session = store._writer._session
    assert session is not None
    return session


async def fill(store: Store, path: Path) -> None:
    """Let the file grow no further, from the writing connection itself."""
    pages = rows(path, "PRAGMA page_count")[0][0]
    await session_of(store).connection.execute_fetchall(f"PRAGMA max_page_count={pages}")


async def fill_until_it_fails(store: Store) -> int:
    """Add samples until the disk is full; how many were added."""
    added = 0
    async with asyncio.timeout(20):
        while not store.problems:
            store.add_snapshot(snapshot(*(status(added + 1, index) for index in range(200))))
            added += 200
            await asyncio.sleep(0.005)
    return added


async def test_fast_ticks_share_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path, SLOW)
    store.add_snapshot(snapshot(status(0.1)))
    await until(lambda: rows(path, "SELECT 1 FROM sample"))
    for second in (0.2, 0.3, 0.4):
        store.add_snapshot(snapshot(status(second)))
        await until(lambda: not store._writer._wake.is_set())  # it has seen to it
    assert len(rows(path, "SELECT 1 FROM sample")) == 1
    await store.add_record(record(0.5))
    assert len(rows(path, "SELECT 1 FROM sample")) == 4
    await store.close()


async def test_samples_need_no_record_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for second in range(1, 6):
        store.add_snapshot(snapshot(status(second)))
        await until(partial(has_rows, path, "sample", second))
    await store.close()


async def test_close_writes_what_waits_and_ends_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path, SLOW)
    store.add_snapshot(snapshot(status(1)))
    await until(lambda: rows(path, "SELECT 1 FROM sample"))
    store.add_snapshot(snapshot(status(2)))
    store.add_event(change(2, HealthState.WARM))
    tasks = [asyncio.create_task(store.add_record(record(second))) for second in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close(), *tasks)
    assert [file.name for file in tmp_path.iterdir()] == ["h.db"]
    await store.add_record(record(99))
    store.add_snapshot(snapshot(status(99)))
    assert [len(rows(path, f"SELECT 1 FROM {table}")) for table in ("sample", "event", "inference")] == [2, 1, 50]
    assert rows(path, "SELECT count(*) FROM run WHERE end_ts IS NULL") == [(0,)]
    await until(only_loop_thread)


async def test_callers_that_are_cancelled_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for round_ in range(20):
        tasks = [asyncio.create_task(store.add_record(record(number))) for number in range(5)]
        for _ in range(round_ % 4):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
    begun = len(rows(path, "SELECT 1 FROM inference"))
    # In the first of every four rounds the cancelled calls had not begun.
    assert begun == 20 * 5 - 5 * 3
    assert store.problems == ()


async def test_a_writer_that_is_cancelled_leaves_a_whole_file_and_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    for hops in range(1, 12):
        store = await opened(path)
        task = store._writer._task
        assert task is not None
        waiting = asyncio.create_task(store.add_record(record(hops)))
        for _ in range(hops):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task, waiting])
        await until(only_loop_thread)
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        await store.add_record(record(99))
        await store.close()
    with writing(path) as connection:
        connection.execute("BEGIN IMMEDIATE")


def test_a_loop_that_ends_without_close_does_not_hang(tmp_path: Path) -> None:
    async def forget() -> None:
        store = await opened(tmp_path / "h.db")
        await store.add_record(record(1))

    asyncio.run(forget())
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            thread.join(5)
    assert only_loop_thread()
    assert rows(tmp_path / "h.db", "SELECT count(*) FROM inference") == [(1,)]


async def test_a_full_disk_degrades_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    store.add_snapshot(snapshot(status(0)))
    await until(lambda: rows(path, "SELECT 1 FROM sample"))
    await fill(store, path)
    added = await fill_until_it_fails(store)
    await until(lambda: "samples were dropped" in "".join(store.problems))
    (problem,) = store.problems
    assert problem.startswith(f"history is not written: the disk of {tmp_path} is full; free some space there; ")
    await asyncio.wait_for(store.add_record(record(1, uid="late", error="x" * 9000)), 5)
    store.add_event(change(1, HealthState.WARM, ["y" * 9000]))
    await session_of(store).connection.execute_fetchall("PRAGMA max_page_count=1000000")
    await until(lambda: not store.problems)
    assert rows(path, "SELECT uid FROM inference") == [("late",)]
    assert len(rows(path, "SELECT 1 FROM event")) == 1
    assert len(rows(path, "SELECT 1 FROM sample")) < added + 1
    store.add_snapshot(snapshot(status(9999)))
    await store.close()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT max(ts) - (SELECT min(ts) FROM sample) FROM sample") == [(9999_000,)]


async def test_a_locked_file_is_a_problem_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    await session_of(store).connection.execute_fetchall("PRAGMA busy_timeout=10")
    with writing(path) as connection:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        await asyncio.wait_for(store.add_record(record(1, uid="late")), 5)
        assert store.problems == (f"history is not written: {path} is locked by another program; close it",)
        connection.execute("ROLLBACK")
    await until(lambda: not store.problems)
    assert rows(path, "SELECT uid FROM inference") == [("late",)]
    await store.close()


async def test_a_place_that_cannot_be_written_is_a_problem_until_it_can(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("in the way")
    store = await opened(place / "h.db")
    assert "cannot be written" in store.problems[0]
    await asyncio.wait_for(store.add_record(record(1, uid="late")), 5)
    for second in range(10):
        store.add_snapshot(snapshot(status(second)))
    assert "; 9 samples were dropped" in store.problems[0]
    place.unlink()
    await until(lambda: not store.problems)
    assert rows(place / "h.db", "SELECT uid FROM inference") == [("late",)]
    await store.close()
    await until(only_loop_thread)


async def test_close_while_the_disk_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    store = await opened(tmp_path / "state" / "h.db", SLOW)
    await store.add_record(record(1))
    await asyncio.wait_for(store.close(), 5)
    await until(only_loop_thread)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
async def test_a_read_only_directory_is_a_problem(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.mkdir(0o500)
    store = await opened(place / "h.db")
    assert f"check that {place} belongs to you and is writable" in store.problems[0]
    place.chmod(0o700)
    store.add_snapshot(snapshot(status(1)))
    await until(lambda: not store.problems)
    await store.close()


@pytest.mark.parametrize("damage", ["text", "truncated", "header", "first page"])
async def test_a_broken_file_is_put_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for number in range(50):
        await store.add_record(record(number, error="z" * 500))
    await store.close()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "text": b"this is no database, but it is long enough to look at. " * 40,
            "truncated": whole[: len(whole) // 2 // 4096 * 4096],
            "header": b"\0" * 100 + whole[100:],
            "first page": whole[:100] + b"\xff" * 3996 + whole[4096:],
        }[damage]
    )
    broken = path.read_bytes()
    store = await opened(path)
    aside = tmp_path / "h.db.corrupt-20261122T120000Z"
    assert store.problems == (f"the history in {path} was damaged and is kept as {aside.name}; a new one was begun",)
    await store.add_record(record(1))
    assert await store.device_keys() == {gpu().key}
    await store.close()
    assert rows(path, "SELECT count(*) FROM inference") == [(1,)]
    if damage != "truncated":
        assert aside.read_bytes() == broken


async def test_a_file_that_breaks_while_it_is_used_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for number in range(200):
        store.add_snapshot(snapshot(*(status(number, index) for index in range(20))))
    await until(lambda: len(rows(path, "SELECT 1 FROM sample")) == 4000)
    await store.close()
    with path.open("r+b") as file:
        root = rows(path, "SELECT rootpage FROM sqlite_master WHERE name = 'sample'")[0][0]
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    store = await opened(path)
    store.add_snapshot(snapshot(status(99999)))
    await until(lambda: any("kept as h.db.corrupt-" in problem for problem in store.problems))
    await store.add_record(record(1))
    await until(lambda: len(store.problems) == 1)
    await store.close()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT count(*) FROM inference") == [(1,)]


async def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    await store.add_record(record(1))
    for file in list(tmp_path.iterdir()):
        file.unlink()
    await until(path.exists)
    await until(lambda: not store.problems)
    await store.add_record(record(2, uid="second"))
    assert rows(path, "SELECT uid FROM inference") == [("second",)]
    await store.close()


async def test_what_cannot_be_written_at_all_does_not_stop_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    await asyncio.wait_for(store.add_record(record(1, dtype=b"not text")), 5)
    await until(lambda: not store.problems)
    await store.add_record(record(2, uid="good"))
    assert rows(path, "SELECT uid FROM inference") == [("good",)]
    await store.close()


async def test_samples_wait_in_a_bounded_list(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "h.db", StoreConfig(), ManualClock(START), SLOW)
    for second in range(100):
        writer.add_samples([status(second, index) for index in range(100)])
    assert len(writer._batch.samples) == 4096
    assert writer._dropped == 10_000 - 4096


async def test_errors_of_sqlite_are_told_apart(tmp_path: Path) -> None:
    from hwdash.store.trouble import explain, is_broken, is_passing, is_trouble

    with sqlite3.connect(":memory:") as connection, pytest.raises(sqlite3.Error) as caught:
        connection.execute("SELECT missing")
    connection.close()
    assert is_trouble(caught.value)
    assert not is_passing(caught.value)
    assert not is_broken(caught.value)
    assert explain(caught.value, tmp_path / "h.db").endswith("(no such column: missing); the daemon's log tells more")
    assert not is_trouble(ValueError())
    assert explain(OSError(28, "No space left on device"), tmp_path / "h.db").startswith("the disk of")


async def test_a_replay_that_is_wound_back_forgets_what_comes_after(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path, SLOW)
    for second in range(5):
        store.add_snapshot(snapshot(status(float(second))))
        store.add_event(change(float(second), HealthState.WARM))
        store.add_event(replace(change(float(second), HealthState.WARM), kind=EventKind.DEVICE))
    await until(lambda: has_rows(path, "event", 10))
    for kind in (EventKind.ALERT, EventKind.HEALTH):
        store.add_event(replace(change(2.0, HealthState.OK), kind=kind))
    store.add_snapshot(snapshot(status(5.0)))
    store.wind_back(at(2.0))
    store.add_snapshot(snapshot(status(2.0)))
    store.wind_back(at(3.0))
    await until(lambda: has_rows(path, "event", 6))
    await store.close()
    told = rows(path, "SELECT ts - (SELECT min(ts) FROM sample), kind, words FROM event ORDER BY ts, id")
    before = [(second, kind, "warm") for second in (0, 1000) for kind in ("health", "device")]
    assert told == [*before, (2000, "health", "warm"), (2000, "health", "ok")]
    assert [row[0] for row in rows(path, "SELECT ts - (SELECT min(ts) FROM sample) FROM sample ORDER BY ts")] == [
        0,
        1000,
        2000,
    ]
