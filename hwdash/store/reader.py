"""Questions to the file, each on a read-only connection of its own and on a thread, beside the writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hwdash.core.errors import HwdashError
from hwdash.core.text import sanitise_line
from hwdash.store.database import opened

T = TypeVar("T")
_AT_ONCE = 2


class Reader:
    """Runs queries on the database at *path*, two at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._running: set[_Running] = set()
        self._closed = False

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What *query* makes of the database, on a thread; it must end what it reads before it returns.

        Cancelling stops a query that runs. Raises `HwdashError` when the history cannot be read.
        """
        async with self._gate:
            if self._closed:
                raise HwdashError("the history is closed: the daemon is ending; start it again")
            running = _Running()
            self._running.add(running)
            try:
                return await asyncio.to_thread(running.run, self._path, query)
            except sqlite3.Error as error:
                reason = sanitise_line(str(error))
                raise HwdashError(
                    f"the history in {self._path} cannot be read ({reason}); see: hwdash status"
                ) from None
            finally:
                self._running.discard(running)
                running.stop()

    def close(self) -> None:
        """Stop all queries that run, and take no more."""
        self._closed = True
        for running in self._running:
            running.stop()


class _Running:
    """One query under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._stopped = False

    def run(self, path: Path, query: Callable[[sqlite3.Connection], T]) -> T:
        with opened(path, read_only=True) as connection:
            connection.execute("PRAGMA busy_timeout=5000")
            with self._lock:
                self._connection = connection
                if self._stopped:
                    raise sqlite3.OperationalError("interrupted")
            try:
                return query(connection)
            finally:
                with self._lock:
                    self._connection = None

    def stop(self) -> None:
        """Interrupt the query from any thread; one that has ended is not touched."""
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()
