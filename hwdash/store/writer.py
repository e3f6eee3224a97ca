"""The one task that writes.

Samples wait until a second has passed since the commit before, so that a fast tick costs no more commits than a slow
one; records and events are committed at once, with all that waits. When the disk fails, samples are dropped and
counted, records and events wait in bounded lists, and writing is tried again every half minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hwdash.core.clock import Clock
from hwdash.core.config import StoreConfig
from hwdash.core.event import Event
from hwdash.core.inference import InferenceRecord
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.trial import DeviceTrial
from hwdash.store.batch import MAX_SAMPLES, Batch
from hwdash.store.bench import StoredReport
from hwdash.store.database import prepare
from hwdash.store.probe import StoredProbe
from hwdash.store.register import Statement
from hwdash.store.retention import trim
from hwdash.store.row import deletions, statements
from hwdash.store.session import Session, connect
from hwdash.store.stamp import to_ms
from hwdash.store.trouble import explain, is_broken, is_passing, is_trouble

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in seconds: commits of samples at most, new tries on a failing disk, house-keeping.

    A daemon that is killed loses the samples of the last ``commit_s``, never a record or an event: those are
    committed at once.
    """

    commit_s: float = 5.0
    retry_s: float = 30.0
    maintain_s: float = 60.0


class Writer:
    """Owns the writing connection from `start` to `stop`. All methods belong to one event loop."""

    def __init__(self, path: Path, config: StoreConfig, clock: Clock, pace: Pace) -> None:
        self._path = path
        self._config = config
        self._clock = clock
        self._pace = pace
        self._batch = Batch()
        self._session: Session | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._dropped = 0
        self._put_aside = ""
        self._broken = False
        self._commit_at = self._retry_at = self._maintain_at = 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a sentence each."""
        found: tuple[str, ...] = (self._put_aside,) if self._put_aside else ()
        if self._failure:
            tail = f"; {self._dropped} samples were dropped" if self._dropped else ""
            found += (f"history is not written: {self._failure}{tail}",)
        return found

    async def start(self) -> None:
        """Open the file and start writing; a file that cannot be written is a problem, not an error.

        Raises `hwdash.store.migration.DatabaseRefused` for a file that must not be written to.
        """
        try:
            await self._open()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def stop(self) -> None:
        """Write what waits, end the run, close the file. May be called again."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def add_samples(self, statuses: list[DeviceStatus]) -> None:
        """Have *statuses*, each with its ``sampled_at``, written within a second."""
        if self._stopping or not statuses:
            return
        if self._failure:
            self._dropped += len(self._batch.samples)
            self._batch.samples.clear()
        if not self._batch.samples:
            self._wake.set()
        self._dropped += max(0, len(self._batch.samples) + len(statuses) - MAX_SAMPLES)
        self._batch.samples.extend(statuses)

    def add_event(self, event: Event) -> None:
        """Have *event* written now."""
        if not self._stopping:
            self._batch.events.append(event)
            self._wake.set()

    def wind_back(self, moment: datetime) -> None:
        """Have all samples and events of *moment* and later deleted now."""
        if not self._stopping:
            self._batch.wind_back(moment)
            self._wake.set()

    async def add_record(self, record: InferenceRecord) -> None:
        """Have *record* written now; returns when it is committed, or when it is clear that it cannot be."""
        if self._stopping:
            return
        self._batch.records.append(record)
        await self._committed()

    async def add_probe(self, probe: StoredProbe) -> None:
        """Have *probe* written now; returns as `add_record` does."""
        if self._stopping:
            return
        self._batch.probes.append(probe)
        await self._committed()

    async def add_report(self, report: StoredReport) -> None:
        """Have *report* written now; returns as `add_record` does."""
        if self._stopping:
            return
        self._batch.reports.append(report)
        await self._committed()

    async def add_trial(self, trial: DeviceTrial) -> None:
        """Have *trial* written now; returns as `add_record` does."""
        if self._stopping:
            return
        self._batch.trials.append(trial)
        await self._committed()

    async def _committed(self) -> None:
        if self._failure:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._batch.waiters.append(waiter)
        self._wake.set()
        await waiter

    async def _run(self) -> None:
        try:
            while not self._stopping:
                await self._pause()
                await self._attempt_due()
            if not self._failure:
                await self._attempt_flush()
                await self._end_run()
        except Exception as error:  # noqa: BLE001 - the daemon lives on without its history
            _log.exception("the writer of the history ended")
            self._fail(error)
        finally:
            self._batch.release()
            self._stopping = True
            await self._disconnect()

    async def _pause(self) -> None:
        """Until something is due or has come in."""
        loop = asyncio.get_running_loop()
        self._wake.clear()
        due = self._maintain_at
        if self._failure:
            due = self._retry_at
        elif self._batch.urgent:
            return
        elif self._batch.samples:
            due = min(due, self._commit_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - loop.time())):
                await self._wake.wait()

    async def _attempt_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._failure and now < self._retry_at:
            return
        # House-keeping first: on a full disk it is what makes room.
        if self._session is not None and now >= self._maintain_at:
            await self._attempt_maintenance()
        if self._failure or self._batch.urgent or (self._batch.samples and now >= self._commit_at):
            await self._attempt_flush()

    async def _attempt_flush(self) -> None:
        """Write the batch. On failure samples are dropped and records kept, and nobody is left waiting."""
        batch, self._batch = self._batch, Batch()
        self._commit_at = asyncio.get_running_loop().time() + self._pace.commit_s
        try:
            session = self._session or await self._open()
            rows = statements(
                session.register,
                session.run,
                batch.samples,
                batch.events,
                batch.records,
                batch.probes,
                batch.reports,
                batch.trials,
            )
            if batch.back_to is not None:
                rows = [*deletions(batch.back_to), *rows]
            if self._failure:
                # An empty transaction would succeed on any disk.
                rows.append(("UPDATE run SET end_ts=NULL WHERE id=?", [(session.run,)]))
            await session.commit(rows)
            session.register.confirm()
        except Exception as error:  # noqa: BLE001 - a batch that cannot be written must not end the writer
            self._dropped += len(batch.samples)
            if is_trouble(error):
                self._batch.take_back(batch)
            else:
                # What cannot even be put into rows would fail for ever: it goes.
                _log.exception("a batch of history could not be written and was dropped")
            await self._recover(error)
        else:
            self._succeed()
        finally:
            batch.release()

    async def _attempt_maintenance(self) -> None:
        assert self._session is not None
        session = self._session
        self._maintain_at = asyncio.get_running_loop().time() + self._pace.maintain_s
        try:
            if not await asyncio.to_thread(self._path.exists):
                raise FileNotFoundError("it was deleted")
            await session.commit([session.register.last_seen()])
            more = await trim(session.connection, self._config, to_ms(self._clock.now()))
        except (sqlite3.Error, OSError) as error:
            await self._recover(error)
        else:
            if more:
                self._maintain_at = 0.0

    async def _end_run(self) -> None:
        if self._session is None:
            return
        end: Statement = (
            "UPDATE run SET end_ts=max(?, start_ts) WHERE id=?",
            [(to_ms(self._clock.now()), self._session.run)],
        )
        try:
            await self._session.commit([end, self._session.register.last_seen()])
        except sqlite3.Error as error:
            self._fail(error)

    async def _open(self) -> Session:
        """Prepare the file and connect to it. Raises as `prepare` and `connect` do."""
        prepared = await asyncio.to_thread(prepare, self._path, self._clock.now(), broken=self._broken)
        self._broken = False
        self._put_aside = prepared.problem or self._put_aside
        self._session = await connect(self._path, prepared.run)
        return self._session

    async def _disconnect(self) -> None:
        """End the connection's thread, which would otherwise keep the process alive."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _recover(self, error: Exception) -> None:
        """After a failed write: where the connection may have suffered, the next try opens the file afresh."""
        self._fail(error)
        if is_broken(error):
            self._broken = True
            # At once, but not again and again: it is the disk then that breaks every file.
            self._retry_at = self._retry_at if self._put_aside else 0.0
        elif not is_trouble(error):
            self._retry_at = self._commit_at
        if is_trouble(error) and not is_passing(error):
            await self._disconnect()

    def _fail(self, error: BaseException) -> None:
        """Go on without a disk until the next try; nobody is left waiting for it."""
        failure = explain(error, self._path)
        if failure != self._failure:
            _log.error("history is not written: %s", failure)
        self._failure = failure
        self._retry_at = asyncio.get_running_loop().time() + self._pace.retry_s
        self._batch.release()

    def _succeed(self) -> None:
        if self._failure:
            _log.warning("history is written again; %d samples were dropped", self._dropped)
        self._failure, self._dropped = "", 0
