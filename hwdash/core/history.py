"""What the store answers: latency over time with the throttled periods, events, and metrics over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hwdash.core.event import Event
from hwdash.core.reading import Absent


@dataclass(frozen=True, slots=True)
class Percentiles:
    """p50, p95 and p99 of a set of durations, in seconds. Exact (nearest rank), never averaged from other percentiles."""

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class LatencyBucket:
    """The finished requests of one stretch of time. A percentile set is None where no request had that figure.

    ``ttft`` and ``total`` are without a cold start, which would say how fast a model loads.
    """

    start: datetime
    requests: int
    errors: int
    ttft: Percentiles | None = None
    itl: Percentiles | None = None
    total: Percentiles | None = None


@dataclass(frozen=True, slots=True)
class LatencySeries:
    """The latency of one device and model: the whole window in one bucket, and the buckets with requests in time order."""

    device: str
    device_key: str
    model: str
    summary: LatencyBucket
    buckets: tuple[LatencyBucket, ...]


@dataclass(frozen=True, slots=True)
class ThrottledPeriod:
    """A stretch of time in which a device's health was ``throttled``; ``end`` is None while it lasts.

    ``reasons`` are those of its health when it began, in words and numbers; ``throttle`` the names of the throttle
    reasons at that moment; ``suspected`` tells that no flag of the driver said so then.
    """

    device: str
    device_key: str
    start: datetime
    end: datetime | None = None
    reasons: tuple[str, ...] = ()
    throttle: tuple[str, ...] = ()
    suspected: bool = False


@dataclass(frozen=True, slots=True)
class LatencyHistory:
    """Latency of a window. ``bucket_s`` is the width of the buckets in seconds."""

    since: datetime
    until: datetime
    bucket_s: float
    series: tuple[LatencySeries, ...]
    throttled: tuple[ThrottledPeriod, ...]


@dataclass(frozen=True, slots=True)
class EventHistory:
    """The events of a window, oldest first; ``truncated`` tells that older ones of the window were left out."""

    since: datetime
    until: datetime
    events: tuple[Event, ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class MetricBucket:
    """The readings of one metric in one stretch of time: how many, and their extremes and mean in base units."""

    start: datetime
    samples: int
    min: float
    mean: float
    max: float


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One metric of one device: the buckets with readings in time order, and the whole window in one, the ``summary``.

    A bucket that is not there is a gap: nobody watched, or there was no number. Where the window has no number at all,
    ``summary`` is None and ``absent`` the newest reason.
    """

    device: str
    device_key: str
    buckets: tuple[MetricBucket, ...]
    summary: MetricBucket | None = None
    absent: Absent | None = None


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """One metric over a window. ``bucket_s`` is the width of the buckets in seconds."""

    metric: str
    since: datetime
    until: datetime
    bucket_s: float
    series: tuple[MetricSeries, ...]
