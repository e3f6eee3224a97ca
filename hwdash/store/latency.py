"""Latency over time from the inference records, and the periods in which a device throttled.

Only answers that came to their end (``stop``, ``length``) count in the figures and in ``requests``; failed ones are
counted in ``errors``, cancelled ones nowhere: how long they took says when somebody lost patience. A cold start is not
part of ``ttft`` and ``total``: loading a model says nothing of the device's pace. ``itl`` is the
distribution, over requests, of each request's median gap between tokens.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from hwdash.core.group import id_of
from hwdash.core.health import HealthState
from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from hwdash.core.inference import FinishReason
from hwdash.core.percentile import nearest_rank
from hwdash.store.stamp import from_ms, to_ms

_S, _MIN, _H = 1, 60, 3600
_WIDTHS_S = (
    *(n * _S for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MIN for n in (1, 2, 5, 10, 15, 30)),
    *(n * _H for n in (1, 2, 3, 6, 12, 24)),
)
_ANSWERED = frozenset({FinishReason.STOP.value, FinishReason.LENGTH.value})


def bucket_width(since_s: float, buckets: int) -> int:
    """The smallest round width in seconds of which at most about *buckets* cover *since_s*; a day at most."""
    wanted = since_s / max(1, buckets)
    return next((width for width in _WIDTHS_S if width >= wanted), _WIDTHS_S[-1])


def percentiles(durations_us: Sequence[int]) -> Percentiles | None:
    """The percentiles of durations in microseconds; None of none."""
    if not durations_us:
        return None
    ordered = sorted(durations_us)
    p50, p95, p99 = (nearest_rank(ordered, percent) / 1e6 for percent in (50, 95, 99))
    return Percentiles(p50, p95, p99)


class _Group:
    """The requests of one bucket while they are collected."""

    __slots__ = ("errors", "itl", "requests", "total", "ttft")

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.ttft: list[int] = []
        self.itl: list[int] = []
        self.total: list[int] = []

    def merge(self, other: _Group) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.ttft += other.ttft
        self.itl += other.itl
        self.total += other.total

    def finish(self, start: datetime) -> LatencyBucket:
        figures = (percentiles(self.ttft), percentiles(self.itl), percentiles(self.total))
        return LatencyBucket(start, self.requests, self.errors, *figures)


def read_latency(
    connection: sqlite3.Connection,
    now: datetime,
    since_s: float,
    device_key: str | None,
    buckets: int,
    ids: Mapping[str, str],
) -> LatencyHistory:
    """The latency of the last *since_s* seconds before *now*, of one device or all, by device and model.

    Requests are placed by the time they came in. Buckets begin at multiples of their width since 1970, so that the
    same bucket is the same in every answer; empty ones are left out. *ids* gives today's short id for a key. Raises
    ``sqlite3.Error``.
    """
    until = to_ms(now)
    since = max(0, until - round(min(since_s, 1e9) * 1000))
    width = bucket_width(since_s, buckets)
    devices = connection.execute(
        "SELECT id, key FROM device WHERE ?1 IS NULL OR key = ?1 ORDER BY id", (device_key,)
    ).fetchall()
    series: list[LatencySeries] = []
    throttled: list[ThrottledPeriod] = []
    for dev, key in devices:
        name = id_of(ids, key)
        rows = connection.execute(
            """SELECT ts, model, finish, ttft_us - cold_us, itl_p50_us, total_us - cold_us
               FROM (SELECT *, coalesce(cold_start_us, 0) AS cold_us FROM inference)
               WHERE dev = ? AND ts >= ? AND ts <= ? AND finish != 'cancelled'""",
            (dev, since, until),
        )
        for model, groups in sorted(_grouped(rows, width * 1000).items()):
            series.append(_series(name, key, model, groups, width * 1000, from_ms(since)))
        throttled += _throttled(connection, dev, name, key, since, until)
    return LatencyHistory(
        from_ms(since),
        from_ms(until),
        float(width),
        tuple(sorted(series, key=lambda item: (item.device, item.model))),
        tuple(sorted(throttled, key=lambda item: (item.start, item.device))),
    )


def _grouped(
    rows: Iterable[tuple[int, str, str, int | None, int | None, int | None]], width_ms: int
) -> dict[str, dict[int, _Group]]:
    """Groups by model and number of the bucket."""
    models: dict[str, dict[int, _Group]] = {}
    for ts, model, finish, ttft, itl, total in rows:
        group = models.setdefault(model, {}).setdefault(ts // width_ms, _Group())
        if finish not in _ANSWERED:
            group.errors += 1
            continue
        group.requests += 1
        if ttft is not None:
            group.ttft.append(ttft)
        if itl is not None:
            group.itl.append(itl)
        if total is not None:
            group.total.append(total)
    return models


def _series(
    name: str, key: str, model: str, groups: Mapping[int, _Group], width_ms: int, since: datetime
) -> LatencySeries:
    whole = _Group()
    for group in groups.values():
        whole.merge(group)
    buckets = tuple(groups[number].finish(from_ms(number * width_ms)) for number in sorted(groups))
    return LatencySeries(name, key, model, whole.finish(since), buckets)


def _throttled(
    connection: sqlite3.Connection, dev: int, name: str, key: str, since: int, until: int
) -> list[ThrottledPeriod]:
    """Each change into ``throttled`` until the device's next change, cut to the window.

    A period also ends with the daemon's run in which it began: what the device did while nobody looked is not known.
    """
    rows = connection.execute(
        """SELECT event.ts, event.after, event.reasons, event.throttle, event.suspected,
                  run.end_ts, run.id = (SELECT max(id) FROM run)
           FROM event LEFT JOIN run ON run.id = event.run
           WHERE event.dev = ?1 AND event.kind = 'health' AND event.ts <= ?3 AND event.id >= coalesce(
               (SELECT id FROM event WHERE dev = ?1 AND kind = 'health' AND ts <= ?2
                ORDER BY ts DESC, id DESC LIMIT 1), 0)
           ORDER BY event.id""",
        (dev, since, until),
    ).fetchall()
    periods = []
    for number, (start, after, reasons, throttle, suspected, run_end, newest_run) in enumerate(rows):
        if after != HealthState.THROTTLED.value:
            continue
        next_start = rows[number + 1][0] if number + 1 < len(rows) else None
        run_end = run_end if run_end is not None or newest_run else start
        end = min((moment for moment in (next_start, run_end) if moment is not None), default=None)
        if end is not None and (end <= since or end < start):
            continue
        shown_end = None if end is None else from_ms(min(end, until))
        words, names = tuple(json.loads(reasons)), tuple(json.loads(throttle))
        begin = from_ms(max(start, since))
        periods.append(ThrottledPeriod(name, key, begin, shown_end, words, names, bool(suspected)))
    return periods
