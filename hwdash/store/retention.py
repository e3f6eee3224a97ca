"""Keeping the file within its time and its size, a small piece at a time."""

from __future__ import annotations

import logging
from datetime import timedelta

import aiosqlite

from hwdash.core.config import StoreConfig
from hwdash.store.bench import SURPLUS_SQL

_log = logging.getLogger(__name__)

KEEP_RECORDS = timedelta(days=90)
"""How long inference records and events are kept, or as long as samples where that is longer."""

_SAMPLES_A_STEP = 10_000
_RECORDS_A_STEP = 1_000
_PAGES_A_STEP = 1_000
_SPARE_PAGES = 256
_LOG_ALLOWANCE = 4 * 2**20  # the write-ahead log of 1000 pages that stands beside the file


async def trim(connection: aiosqlite.Connection, config: StoreConfig, now_ms: int) -> bool:
    """One step of work: some expired rows go, or some of the oldest while the file is too large, or freed pages.

    True when more of the same is left to do. Each statement is a transaction of its own, of some milliseconds.
    Raises ``sqlite3.Error``.
    """
    samples_before = now_ms - _ms(timedelta(days=config.retention_days))
    records_before = now_ms - _ms(max(KEEP_RECORDS, timedelta(days=config.retention_days)))
    deleted = await _delete_samples(connection, samples_before)
    for table, before in (("inference", records_before), ("event", records_before), ("probe", samples_before)):
        deleted = max(deleted, await _delete_records(connection, table, before))
    await connection.execute_fetchall(SURPLUS_SQL)
    await connection.execute_fetchall("DELETE FROM run WHERE end_ts < ?", (records_before,))
    if deleted:
        return True
    return await _shrink(connection, config.max_size_mb * 2**20 - _LOG_ALLOWANCE)


async def _shrink(connection: aiosqlite.Connection, allowed_bytes: int) -> bool:
    """Give freed pages back to the file system; delete the oldest rows where that does not bring the file below its size."""
    pages, spare = await _number(connection, "PRAGMA page_count"), await _number(connection, "PRAGMA freelist_count")
    too_large = pages * await _number(connection, "PRAGMA page_size") > allowed_bytes
    if too_large and spare < pages // 20:
        deleted = await _delete_samples(connection, None)
        for table in ("inference", "event", "probe", "bench"):
            deleted = deleted or await _delete_records(connection, table, None)
        _log.info("the history is larger than store.max_size_mb: the oldest %d rows were deleted", deleted)
        return deleted > 0
    if spare <= _SPARE_PAGES and not too_large:
        return False
    if not too_large and spare < pages // 10:
        return False
    # executescript steps the pragma to its end; execute would free a single page.
    await connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})")
    return await _number(connection, "PRAGMA freelist_count") < spare


async def _delete_samples(connection: aiosqlite.Connection, before: int | None) -> int:
    """Delete the oldest samples, of those older than *before* if given; the number of rows that went."""
    sql = "SELECT ts FROM sample ORDER BY ts LIMIT 1 OFFSET ?"
    oldest = list(await connection.execute_fetchall(sql, (0,)))
    if not oldest or (before is not None and oldest[0][0] >= before):
        return 0
    step = list(await connection.execute_fetchall(sql, (_SAMPLES_A_STEP,)))
    edges = [row[0] for row in step] + ([] if before is None else [before])
    # With fewer rows than a step and no time limit, all but the newest moment may go.
    edge = max(min(edges), oldest[0][0] + 1) if edges else await _number(connection, "SELECT max(ts) FROM sample")
    return await _changed(connection, "DELETE FROM sample WHERE ts < ?", (edge,))


async def _delete_records(connection: aiosqlite.Connection, table: str, before: int | None) -> int:
    """Delete from the oldest records of *table* those older than *before*, or all of that step; the number that went."""
    condition = "" if before is None else "WHERE ts < ?"
    oldest = f"SELECT id, ts FROM {table} ORDER BY id LIMIT {_RECORDS_A_STEP}"  # noqa: S608 - our own names
    sql = f"DELETE FROM {table} WHERE id IN (SELECT id FROM ({oldest}) {condition})"  # noqa: S608
    return await _changed(connection, sql, () if before is None else (before,))


async def _changed(connection: aiosqlite.Connection, sql: str, parameters: tuple[int, ...]) -> int:
    cursor = await connection.execute(sql, parameters)
    count = cursor.rowcount
    await cursor.close()
    return count


async def _number(connection: aiosqlite.Connection, sql: str) -> int:
    rows = list(await connection.execute_fetchall(sql))
    return int(rows[0][0])


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
