"""The facade of the room: what the daemon keeps and asks for."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.config import StoreConfig
from hwdash.core.errors import UsageError
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import InferenceRecord
from hwdash.core.metric import METRICS, metric_hint
from hwdash.core.probe import ProbeResult, UptimeHistory
from hwdash.core.snapshot import LastRequest, Snapshot
from hwdash.core.text import sanitise_line
from hwdash.core.trial import DeviceTrial
from hwdash.store.bench import StoredReport, read_reports
from hwdash.store.event import read_events
from hwdash.store.latency import read_latency
from hwdash.store.metric import read_metric
from hwdash.store.pace import StoredAnswer, read_answers
from hwdash.store.probe import StoredProbe, read_probes, read_uptime
from hwdash.store.reader import Reader
from hwdash.store.stamp import from_ms
from hwdash.store.trial import read_trials
from hwdash.store.writer import Pace, Writer

_PACE = Pace()


class Store:
    """History in one SQLite file: one writing connection in a task of its own, questions beside it.

    Opened by `open`, ended by `close`, both on the event loop that all other methods belong to. A disk that fails
    never raises here: it stands in `problems` until it works again.
    """

    def __init__(self, writer: Writer, reader: Reader, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._seen: dict[str, datetime] = {}

    @classmethod
    async def open(cls, path: Path, config: StoreConfig, clock: Clock = SYSTEM_CLOCK, *, pace: Pace = _PACE) -> Store:
        """The store in the file *path*, made when it is missing.

        Raises `hwdash.store.migration.DatabaseRefused` when a newer hwdash or another program wrote the file.
        """
        writer = Writer(path, config, clock, pace)
        await writer.start()
        return cls(writer, Reader(path), clock)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty while all is well."""
        return self._writer.problems

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Queue one sample of each device that has a new one with a number in it. Never blocks, never raises.

        Also of a device that calls itself failed and is still read.
        """
        fresh = []
        for status in snapshot.devices:
            key, sampled_at = status.device.key, status.sampled_at
            if sampled_at is None or self._seen.get(key) == sampled_at:
                continue
            if status.health.state is HealthState.LOST and not status.has_numbers:
                continue
            self._seen[key] = sampled_at
            fresh.append(status)
        self._writer.add_samples(fresh)

    def add_event(self, event: Event) -> None:
        """Queue an event. Never blocks, never raises."""
        self._writer.add_event(event)

    def wind_back(self, moment: datetime) -> None:
        """A replay goes back to *moment*: forget what was played from there on, but the health there. Never blocks, never raises."""
        self._seen.clear()
        self._writer.wind_back(moment)

    async def add_record(self, record: InferenceRecord) -> None:
        """Store *record*; returns when it is committed, or at once while the disk fails (see `problems`)."""
        await self._writer.add_record(record)

    async def add_probe(self, result: ProbeResult, driver: str) -> None:
        """Store *result*, made with *driver* and its versions; returns as `add_record` does."""
        await self._writer.add_probe(StoredProbe(result, driver))

    async def uptime(self, since_s: float, device_key: str | None, ids: Mapping[str, str]) -> UptimeHistory:
        """How each device and model stood its probes, over 1 h, 24 h, 7 d and the last *since_s* seconds.

        Of the device *device_key* or of all. *ids* and the errors are as those of `latency`.
        """
        _check_window(since_s)
        question = partial(read_uptime, now=self._clock.now(), since_s=since_s, device_key=device_key, ids=dict(ids))
        return await self._reader.ask(question)

    async def add_report(self, report: StoredReport) -> None:
        """Store *report*, that of a bench or a soak; returns as `add_record` does."""
        await self._writer.add_report(report)

    async def reports(
        self, kind: str, device_key: str | None = None, model: str | None = None, limit: int = 20
    ) -> tuple[StoredReport, ...]:
        """The newest *limit* reports of *kind*, oldest first, of one device and model or of all.

        Raises `HwdashError` when the file cannot be read.
        """
        question = partial(read_reports, kind=kind, device_key=device_key, model=model, limit=limit)
        return await self._reader.ask(question)

    async def add_trial(self, trial: DeviceTrial) -> None:
        """Store *trial* instead of the one with the same driver and torch; returns as `add_record` does."""
        await self._writer.add_trial(trial)

    async def trials(self) -> tuple[DeviceTrial, ...]:
        """All trials of precisions, oldest first. Raises `HwdashError` when the file cannot be read."""
        return await self._reader.ask(read_trials)

    async def recent_probes(self, ids: Mapping[str, str]) -> tuple[StoredProbe, ...]:
        """The probes of the last week, oldest first. Raises `HwdashError` when the file cannot be read."""
        return await self._reader.ask(partial(read_probes, now=self._clock.now(), ids=dict(ids)))

    async def latency(
        self, since_s: float, device_key: str | None, buckets: int, ids: Mapping[str, str]
    ) -> LatencyHistory:
        """Latency of the last *since_s* seconds in about *buckets* stretches, of the device *device_key* or of all.

        *ids* maps keys to today's short ids; a device of the past goes by its key. Raises `UsageError` for a window
        or a number of buckets that is not positive, and `HwdashError` when the file cannot be read.
        """
        _check_window(since_s)
        _check_buckets(buckets)
        now = self._clock.now()
        return await self._reader.ask(
            partial(read_latency, now=now, since_s=since_s, device_key=device_key, buckets=buckets, ids=dict(ids))
        )

    async def events(
        self,
        since_s: float,
        device_key: str | None,
        kind: EventKind | None,
        limit: int,
        ids: Mapping[str, str],
        least: Severity = Severity.INFO,
    ) -> EventHistory:
        """The newest *limit* events of the last *since_s* seconds, of the device *device_key* and the *kind*, or of all.

        Only those of the severity *least* or worse. *ids* and the errors are as those of `latency`.
        """
        _check_window(since_s)
        if limit < 1:
            raise UsageError(f"the limit must be at least 1, not {limit}", param="limit")
        now = self._clock.now()
        return await self._reader.ask(
            partial(
                read_events,
                now=now,
                since_s=since_s,
                device_key=device_key,
                kind=kind,
                limit=limit,
                ids=dict(ids),
                least=least,
            )
        )

    async def metric(
        self, metric: str, since_s: float, device_key: str | None, buckets: int, ids: Mapping[str, str]
    ) -> MetricHistory:
        """*metric* over the last *since_s* seconds in about *buckets* stretches, of the device *device_key* or of all.

        *ids* and the errors are as those of `latency`; a *metric* that there is not is a `UsageError`.
        """
        _check_window(since_s)
        _check_buckets(buckets)
        if metric not in METRICS:
            raise UsageError(f"metric: no metric {sanitise_line(metric, 60)!r}; {metric_hint(metric)}", param="metric")
        question = partial(
            read_metric,
            now=self._clock.now(),
            metric=metric,
            since_s=since_s,
            device_key=device_key,
            buckets=buckets,
            ids=dict(ids),
        )
        return await self._reader.ask(question)

    async def device_keys(self) -> frozenset[str]:
        """The keys of all devices that history knows. Raises `HwdashError` when the file cannot be read."""
        return await self._reader.ask(_read_device_keys)

    async def last_requests(self) -> Mapping[str, LastRequest]:
        """The newest answered request of each device, by device key. Raises `HwdashError` likewise."""
        return await self._reader.ask(_read_last_requests)

    async def recent_answers(self) -> tuple[StoredAnswer, ...]:
        """The newest finished answers of each device and model, oldest first. Raises `HwdashError` likewise."""
        return await self._reader.ask(read_answers)

    async def close(self) -> None:
        """Write what waits and close the file. May be called again; what is added afterwards is not kept."""
        self._reader.close()
        await self._writer.stop()


def _check_window(since_s: float) -> None:
    if not (math.isfinite(since_s) and since_s > 0):
        raise UsageError(f"the window must be a positive number of seconds, not {since_s:g}", param="since")


def _check_buckets(buckets: int) -> None:
    if buckets < 1:
        raise UsageError(f"the number of buckets must be at least 1, not {buckets}", param="buckets")


def _read_device_keys(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute("SELECT key FROM device"))


def _read_last_requests(connection: sqlite3.Connection) -> Mapping[str, LastRequest]:
    found = {}
    for dev, key in connection.execute("SELECT id, key FROM device").fetchall():
        row = connection.execute(
            """SELECT model, ts, total_us,
                      iif(fallback_from IS NULL,
                          max(0, ttft_us - coalesce(cold_start_us, 0) - coalesce(queue_us, 0)), NULL),
                      tokens_per_ks FROM inference
               WHERE dev = ? AND finish IN ('stop', 'length') ORDER BY ts DESC LIMIT 1""",
            (dev,),
        ).fetchone()
        if row is not None:
            model, ts, total, ttft, speed = row
            found[key] = LastRequest(
                model,
                from_ms(ts + (total or 0) // 1000),
                None if ttft is None else ttft / 1e6,
                None if speed is None else speed / 1e3,
            )
    return found
