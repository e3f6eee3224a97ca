"""The file itself: made private, checked, migrated, put aside when it is broken. All of this blocks."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hwdash.store.migration import check, migrate
from hwdash.store.schema import CONNECTION_PRAGMAS, CREATION_PRAGMAS
from hwdash.store.stamp import to_ms
from hwdash.store.trouble import is_broken

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file ready for its writer: the id of the run that begins, and a sentence when a broken file was put aside."""

    run: int
    problem: str = ""


def prepare(path: Path, now: datetime, *, broken: bool = False) -> Prepared:
    """Create *path* where it is missing, for its owner only, bring it to this version and begin a run at *now*.

    A file that is damaged, or known to be *broken*, is renamed out of the way and a fresh one begun. Raises
    ``sqlite3.Error`` and ``OSError`` when it cannot be written, and `hwdash.store.migration.DatabaseRefused` when it
    must not be.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not broken or not path.exists():
        try:
            return Prepared(_open_and_begin(path, now))
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise
            _log.error("%s: %s", path, error)
    aside = _put_aside(path, now)
    problem = f"the history in {path} was damaged and is kept as {aside.name}; a new one was begun"
    _log.error("%s", problem)
    return Prepared(_open_and_begin(path, now), problem)


@contextlib.contextmanager
def opened(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """A plain connection in autocommit mode, closed at the end. Raises ``sqlite3.Error``."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def _open_and_begin(path: Path, now: datetime) -> int:
    # A file that is there is never opened here: closing it would drop the locks of other connections of this process.
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with opened(path) as connection:
        check(connection, str(path))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        for pragma in (*CONNECTION_PRAGMAS, *CREATION_PRAGMAS):
            connection.execute(pragma).fetchall()
        migrate(connection, str(path))
        return _begin_run(connection, to_ms(now))


def _begin_run(connection: sqlite3.Connection, now_ms: int) -> int:
    """End a run that was left open at the last moment it wrote about, and begin the next."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            """UPDATE run SET end_ts=max(start_ts, coalesce((SELECT max(ts) FROM sample), 0),
                                         coalesce((SELECT max(ts) FROM event WHERE event.run=run.id), 0))
               WHERE end_ts IS NULL"""
        )
        run = connection.execute("INSERT INTO run(start_ts) VALUES(?)", (now_ms,)).lastrowid
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    assert run is not None
    return run


def _put_aside(path: Path, now: datetime) -> Path:
    """Rename the file with its log and index; under its new name SQLite still finds all three together."""
    base = f"{path.name}.corrupt-{now:%Y%m%dT%H%M%SZ}"
    aside, number = path.with_name(base), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{base}-{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
