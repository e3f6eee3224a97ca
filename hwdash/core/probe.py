"""Probes: short deterministic prompts on a schedule, by which a device is watched as a web site is by an uptime monitor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hwdash.core.inference import AUTO
from hwdash.core.percentile import nearest_rank

LEAST_PROBES = 5
"""So many good probes make a baseline."""
NEWEST_PROBES = 3
"""The newest so many say how a device does now; all of them slow, and it is suspected."""
DRIFT_FROM = 0.15
"""Slower than the baseline by this share is drift, where probes do not vary more than that by themselves."""
_TIMES_SPREAD = 3.0


class ProbeOutcome(StrEnum):
    """How a probe went. WRONG: it answered, but with other tokens than last time."""

    OK = "ok"
    WRONG = "wrong"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One probe now; ``device`` is an id, a key or ``auto``, ``model`` None the default one.

    With ``accept`` its answer is the right one from now on, whatever was expected.
    """

    device: str = AUTO
    model: str | None = None
    accept: bool = False


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe. Times are seconds without queue and cold start, None where it did not come to them.

    ``digest`` is that of its tokens, ``expected`` the digest of the last good one with the same precision and driver.
    ``drift`` is its time over the device's baseline, minus 1; None while there is no baseline.
    """

    at: datetime
    device: str
    device_key: str
    model: str
    outcome: ProbeOutcome
    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None
    tokens: int = 0
    dtype: str | None = None
    digest: str = ""
    expected: str = ""
    drift: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class UptimeWindow:
    """The probes of the last ``window_s`` seconds. ``up_ratio`` is the share of good ones; None where there were none."""

    window_s: float
    probes: int
    failed: int
    wrong: int
    up_ratio: float | None = None
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    itl_p50_s: float | None = None
    itl_p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class Uptime:
    """How a device and model stood their probes. ``baseline_itl_s`` is its pace when it was well; ``drift`` the newest
    probes' over that, minus 1."""

    device: str
    device_key: str
    model: str
    windows: tuple[UptimeWindow, ...]
    last: ProbeResult | None = None
    baseline_itl_s: float | None = None
    drift: float | None = None


@dataclass(frozen=True, slots=True)
class UptimeHistory:
    """Uptime over 1 h, 24 h and 7 d (and the window asked for, where it is another), by device and model.

    ``probes`` are the newest of the window asked for, oldest first.
    """

    since: datetime
    until: datetime
    uptimes: tuple[Uptime, ...]
    probes: tuple[ProbeResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Usual:
    """The pace of a device when it is well: ``baseline_s`` from token to token, and ``limit``, the drift from which on it
    is slower than its probes are by chance."""

    baseline_s: float
    limit: float = DRIFT_FROM


def usual_of(gaps_s: Iterable[float]) -> Usual | None:
    """What is usual among the gaps between tokens of good probes; None of fewer than `LEAST_PROBES`.

    The baseline is the median of the faster half of them: what the device can do again and again while nothing holds it
    back, however often something did. The limit is `DRIFT_FROM`, or three times the lead of the baseline on the median
    of all where that is more: on a machine whose probes vary by a fifth, a fifth says nothing.
    """
    ordered = sorted(gap for gap in gaps_s if gap > 0)
    if len(ordered) < LEAST_PROBES:
        return None
    baseline_s = nearest_rank(ordered[: (len(ordered) + 1) // 2], 50)
    spread = nearest_rank(ordered, 50) / baseline_s - 1.0
    return Usual(baseline_s, max(DRIFT_FROM, _TIMES_SPREAD * spread))
