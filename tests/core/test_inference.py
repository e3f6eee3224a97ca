"""Times of a request, as seen from where they count."""

from __future__ import annotations

from hwdash.core.inference import Timing


def test_what_the_device_itself_needs_is_without_queue_and_cold_start() -> None:
    assert Timing(queue_s=1.5, cold_start_s=2.0, ttft_s=4.0).warm_ttft_s == 0.5
    assert Timing(queue_s=0.0, ttft_s=4.0).warm_ttft_s == 4.0
    assert Timing(queue_s=1.0, ttft_s=0.9).warm_ttft_s == 0.0
    assert Timing(queue_s=1.0).warm_ttft_s is None
