"""The writing connection."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from hwdash.store.register import Register, Statement
from hwdash.store.schema import CONNECTION_PRAGMAS


@dataclass(frozen=True, slots=True)
class Session:
    """An open file: its one writing connection, the ids it knows, the run it writes. For one task at a time."""

    connection: aiosqlite.Connection
    register: Register
    run: int

    async def commit(self, rows: list[Statement]) -> None:
        """Run all statements in one transaction. Raises ``sqlite3.Error``; nothing is written then."""
        done = False
        await self.connection.execute_fetchall("BEGIN IMMEDIATE")
        try:
            for sql, parameters in rows:
                if parameters:
                    cursor = await self.connection.executemany(sql, parameters)
                    await cursor.close()
            await self.connection.execute_fetchall("COMMIT")
            done = True
        finally:
            if not done:
                # SQLite has rolled back by itself after some errors, and then says so.
                with contextlib.suppress(sqlite3.Error):
                    await self.connection.execute_fetchall("ROLLBACK")

    async def close(self) -> None:
        """Close the file and end the connection's thread, which would otherwise keep the process alive."""
        with contextlib.suppress(sqlite3.Error):
            await self.connection.close()


async def connect(path: Path, run: int) -> Session:
    """A session on the prepared file *path*. Raises ``sqlite3.Error``, and leaves no thread behind then."""
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        for pragma in CONNECTION_PRAGMAS:
            await connection.execute_fetchall(pragma)
        devices = await connection.execute_fetchall("SELECT id, key FROM device")
        absent_sets = await connection.execute_fetchall("SELECT id, reasons FROM absent_set")
        register = Register(((row[0], row[1]) for row in devices), ((row[0], row[1]) for row in absent_sets))
    except BaseException:
        await connection.close()
        raise
    return Session(connection, register, run)
