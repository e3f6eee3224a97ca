"""``hwdash history metrics``: a metric over time."""

from __future__ import annotations

from hwdash.cli.output import csv_text, table_text
from hwdash.core.format import absent_text, duration_text, reading_text
from hwdash.core.history import MetricHistory


def metric_text(history: MetricHistory) -> str:
    """One line per device: how many samples, the extremes and the mean of the whole window."""
    window = duration_text((history.until - history.since).total_seconds())
    if not history.series:
        return f"no {history.metric} in the last {window}; samples are kept while a daemon runs: hwdash daemon"
    rows: list[tuple[str, ...]] = []
    for item in history.series:
        whole = item.summary
        if whole is None:
            reason = f"n/a ({absent_text(item.absent)})" if item.absent is not None else "n/a"
            rows.append((item.device, "0", reason, "", ""))
        else:
            values = (reading_text(history.metric, value) for value in (whole.min, whole.mean, whole.max))
            rows.append((item.device, str(whole.samples), *values))
    table = table_text(("DEVICE", "SAMPLES", "MIN", "MEAN", "MAX"), rows, right=frozenset({1, 2, 3, 4}))
    return f"{history.metric}, last {window}\n{table}"


def metric_csv(history: MetricHistory) -> str:
    """One row per device and bucket, in the metric's base unit; times in UTC. A gap has no row."""
    return csv_text(
        ["start", "device", "device_key", "metric", "samples", "min", "mean", "max"],
        [
            [
                bucket.start.isoformat(),
                item.device,
                item.device_key,
                history.metric,
                bucket.samples,
                bucket.min,
                bucket.mean,
                bucket.max,
            ]
            for item in history.series
            for bucket in item.buckets
        ],
    )
