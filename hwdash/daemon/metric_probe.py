"""The newest probes as samples for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from hwdash.core.probe import ProbeOutcome, ProbeResult
from hwdash.daemon import metric_family as families
from hwdash.daemon.metric_page import Page


def fill_probes(page: Page, newest: Iterable[tuple[ProbeResult, float | None]]) -> None:
    """The newest probe of each loaded model, and the drift of the newest ones."""
    for result, drift in newest:
        labels = (result.device_key, result.model)
        page.add(families.PROBE_UP, labels, 1 if result.outcome is ProbeOutcome.OK else 0)
        page.add(families.PROBE_WRONG, labels, 1 if result.outcome is ProbeOutcome.WRONG else 0)
        page.add(families.PROBE_TTFT, labels, result.ttft_s)
        page.add(families.PROBE_ITL, labels, result.itl_s)
        page.add(families.PROBE_DURATION, labels, result.total_s)
        page.add(families.PROBE_DRIFT, labels, drift)
