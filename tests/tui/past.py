"""Latency histories for the dashboard's tests and pictures, all with fixed times."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta

from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from tests.tui.sample import START, gpu

MODEL = "smollm2-135m-instruct"


def percentiles(p50: float) -> Percentiles:
    return Percentiles(p50, p50 * 1.35, p50 * 1.9)


def bucket(at_s: float, p50: float | None, *, requests: int = 3, errors: int = 0) -> LatencyBucket:
    """A bucket *at_s* seconds before `START`; *p50* is its time to first token."""
    if p50 is None:
        return LatencyBucket(START - timedelta(seconds=at_s), requests, errors, None, None, None)
    return LatencyBucket(
        START - timedelta(seconds=at_s),
        requests,
        errors,
        percentiles(p50),
        percentiles(p50 / 8),
        percentiles(p50 * 20),
    )


def series(buckets: Iterable[LatencyBucket], device: int = 0, model: str = MODEL) -> LatencySeries:
    buckets = tuple(buckets)
    latest = next((item for item in reversed(buckets) if item.ttft is not None), None)
    summary = LatencyBucket(
        buckets[0].start if buckets else START,
        sum(item.requests for item in buckets),
        sum(item.errors for item in buckets),
        latest.ttft if latest else None,
        latest.itl if latest else None,
        latest.total if latest else None,
    )
    return LatencySeries(f"gpu{device}", gpu(device).key, model, summary, buckets)


def throttled(start_s: float, end_s: float | None, *names: str, device: int = 0) -> ThrottledPeriod:
    """A period that began *start_s* seconds before `START` and ended *end_s* seconds before it; *names* of reasons."""
    end = None if end_s is None else START - timedelta(seconds=end_s)
    return ThrottledPeriod(f"gpu{device}", gpu(device).key, START - timedelta(seconds=start_s), end, (), names)


def history(
    *found: LatencySeries, window_s: float = 900, bucket_s: float = 15, periods: tuple[ThrottledPeriod, ...] = ()
) -> LatencyHistory:
    return LatencyHistory(START - timedelta(seconds=window_s), START, bucket_s, found, periods)


def busy_history() -> LatencyHistory:
    """15 minutes of steady prompts on gpu0 with a pause, slower while it throttled, and a few prompts on gpu3."""

    def ttft(at_s: int) -> float:
        return 0.041 + 0.006 * math.sin(at_s / 40) + (0.035 if 260 <= at_s <= 430 else 0.0)

    steady = [bucket(at, ttft(at)) for at in range(885, -1, -15) if not 560 <= at <= 680]
    few = [bucket(at, 0.11 + at / 9000, requests=1) for at in (840, 615, 300, 120)] + [
        bucket(30, None, requests=2, errors=2)
    ]
    return history(
        series(steady),
        series(few, device=3),
        periods=(throttled(430, 255, "power_cap"), throttled(180, None, "thermal_sw", device=3)),
    )
