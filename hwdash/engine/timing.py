"""The times of one request, from the moments at which its tokens came."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from hwdash.core.inference import Timing
from hwdash.core.percentile import nearest_rank


def timing_of(
    stamps: Sequence[float],
    arrived: float,
    *,
    queue_s: float,
    cold_start_s: float | None = None,
    tokens: int | None = None,
    ended: float | None = None,
) -> Timing:
    """The `Timing` of a request that *arrived*, whose tokens came at *stamps* and which *ended* (None: now).

    All in seconds of ``CLOCK_MONOTONIC``. Where several *tokens* can come at one stamp, their number makes the speed,
    each stamp counting for as many as another; None: one token a stamp.
    """
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(stamps))
    decode_s = stamps[-1] - stamps[0] if stamps else 0.0
    share = 1.0 if tokens is None or not stamps else tokens / len(stamps)
    return Timing(
        queue_s=queue_s,
        cold_start_s=cold_start_s,
        ttft_s=stamps[0] - arrived if stamps else None,
        itl_p50_s=nearest_rank(gaps, 50) if gaps else None,
        itl_p99_s=nearest_rank(gaps, 99) if gaps else None,
        total_s=(time.monotonic() if ended is None else ended) - arrived,
        tokens_per_s=share * len(gaps) / decode_s if decode_s > 0 else None,
    )
