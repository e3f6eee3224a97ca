"""Bringing a file to the version of this code."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from hwdash.core.errors import HwdashError
from hwdash.store.schema import APPLICATION_ID, MIGRATIONS

_log = logging.getLogger(__name__)


class DatabaseRefused(HwdashError):
    """The file is whole, but not one that this version may write to."""


def migrate(
    connection: sqlite3.Connection, origin: str, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> tuple[int, int]:
    """Run what is missing, each version in a transaction of its own; gives the versions before and after.

    *connection* must be in autocommit mode; *origin* names the file in messages. A process killed half way leaves a
    whole file of one version or the next. Raises `DatabaseRefused` for a file of a newer version or another
    program, and ``sqlite3.Error`` as it comes.
    """
    check(connection, origin, migrations)
    first = current = _version(connection)
    while current < len(migrations):
        current = _step(connection, migrations)
    if first != current:
        _log.info("%s: schema %d, was %d", origin, current, first)
    return first, current


def check(connection: sqlite3.Connection, origin: str, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Raise `DatabaseRefused` for a file of a newer version or another program; writes nothing."""
    current = _version(connection)
    if current == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise DatabaseRefused(f"{origin} is a database of another program; move it away")
    if current > 0 and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise DatabaseRefused(f"{origin} is a database of another program; move it away")
    if current > len(migrations):
        raise DatabaseRefused(
            f"{origin} was written by a newer hwdash (schema {current}, this one knows {len(migrations)}); "
            "update hwdash, or move the file away to start a new history"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _step(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> int:
    """One version on. The version is read again inside the transaction: another process may have been faster."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        current = _version(connection)
        if current < len(migrations):
            for statement in migrations[current]:
                connection.execute(statement)
            current += 1
            connection.execute(f"PRAGMA user_version={current}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return current
