"""A metric over time, from the samples."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime

from hwdash.core.history import MetricBucket, MetricHistory, MetricSeries
from hwdash.core.reading import Absent
from hwdash.store.column import COLUMNS, Column
from hwdash.store.latency import bucket_width
from hwdash.store.stamp import from_ms, to_ms

_BY_METRIC = {column.metric: column for column in COLUMNS}


def read_metric(
    connection: sqlite3.Connection,
    now: datetime,
    metric: str,
    since_s: float,
    device_key: str | None,
    buckets: int,
    ids: Mapping[str, str],
) -> MetricHistory:
    """*metric* over the last *since_s* seconds before *now*, of one device or all, in about *buckets* stretches.

    Buckets begin at multiples of their width since 1970; those without a reading are left out. A device that has
    neither a reading nor a reason for its absence is left out. *ids* gives today's short id for a key. Raises
    ``KeyError`` for an unknown metric, and ``sqlite3.Error``.
    """
    column = _BY_METRIC[metric]
    until = to_ms(now)
    since = max(0, until - round(min(since_s, 1e9) * 1000))
    width = bucket_width(since_s, buckets)
    devices = connection.execute(
        "SELECT id, key FROM device WHERE ?1 IS NULL OR key = ?1 ORDER BY id", (device_key,)
    ).fetchall()
    dev = devices[0][0] if device_key is not None and devices else None
    found = _buckets(connection, column, since, until, width * 1000, dev) if devices else {}
    missing = {number for number, _ in devices} - found.keys()
    reasons = _reasons(connection, metric, since, until) if missing else {}
    series = []
    for number, key in devices:
        if number in found:
            own = tuple(found[number])
            series.append(MetricSeries(ids.get(key, key), key, own, _summary(own, from_ms(since))))
        elif number in reasons:
            series.append(MetricSeries(ids.get(key, key), key, (), absent=reasons[number]))
    ordered = tuple(sorted(series, key=lambda item: item.device))
    return MetricHistory(metric, from_ms(since), from_ms(until), float(width), ordered)


def _buckets(
    connection: sqlite3.Connection, column: Column, since: int, until: int, width: int, dev: int | None
) -> dict[int, list[MetricBucket]]:
    """The buckets by device. One question a bucket: SQLite then sorts some rows at a time, not those of all the window."""
    name = column.name
    sql = f"""SELECT dev, count({name}), min({name}), avg({name}), max({name}) FROM sample
              WHERE ts >= ? AND ts < ? AND (?3 IS NULL OR dev = ?3) AND {name} IS NOT NULL GROUP BY dev"""  # noqa: S608 - our own names
    found: dict[int, list[MetricBucket]] = {}
    for start in range(since // width * width, until + 1, width):
        end = min(start + width, until + 1)
        for number, count, low, mean, high in connection.execute(sql, (max(start, since), end, dev)):
            bucket = MetricBucket(from_ms(start), count, column.value(low), mean / column.scale, column.value(high))
            found.setdefault(number, []).append(bucket)
    return found


def _summary(buckets: Iterable[MetricBucket], since: datetime) -> MetricBucket:
    all_of = tuple(buckets)
    samples = sum(bucket.samples for bucket in all_of)
    mean = sum(bucket.mean * bucket.samples for bucket in all_of) / samples
    return MetricBucket(
        since, samples, min(bucket.min for bucket in all_of), mean, max(bucket.max for bucket in all_of)
    )


def _reasons(connection: sqlite3.Connection, metric: str, since: int, until: int) -> dict[int, Absent]:
    """The newest reason for the metric's absence by device."""
    found: dict[int, tuple[int, Absent]] = {}
    rows = connection.execute(
        """SELECT sample.dev, max(sample.ts), absent_set.reasons FROM sample
           JOIN absent_set ON absent_set.id = sample.absent
           WHERE sample.ts >= ? AND sample.ts <= ? GROUP BY sample.dev, sample.absent""",
        (since, until),
    )
    for number, ts, reasons in rows:
        reason = json.loads(reasons).get(metric)
        if reason is not None and ts > found.get(number, (-1,))[0]:
            found[number] = (ts, Absent(reason))
    return {number: reason for number, (_, reason) in found.items()}
