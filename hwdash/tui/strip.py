"""Rows below the latency chart, on its axis of time: the device's clock, and its probes. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from hwdash.core.history import MetricHistory
from hwdash.core.probe import ProbeOutcome, ProbeResult
from hwdash.tui.chart import Plan, margins
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, joined
from hwdash.tui.palette import ON_BAND
from hwdash.tui.trace import draw_trace

_STEP_HZ = 1e8


def clock_rows(chart: Plan, clock: MetricHistory, key: str, rows: int, glyphs: Glyphs) -> list[Line]:
    """The mean clock of the device *key* in as many *rows*, drawn between the two figures at the left in MHz.

    Nothing where none was recorded.
    """
    buckets = [bucket for series in clock.series if series.device_key == key for bucket in series.buckets]
    if not buckets or rows < 1:
        return []
    low = math.floor(min(bucket.mean for bucket in buckets) / _STEP_HZ - 0.5) * _STEP_HZ
    low, high = max(low, 0.0), (math.floor(max(bucket.mean for bucket in buckets) / _STEP_HZ) + 1) * _STEP_HZ
    cells = 2 * chart.columns
    span_s = max((clock.until - clock.since).total_seconds(), 1e-3)
    values: list[float | None] = [None] * cells
    for bucket in buckets:
        first = (bucket.start - clock.since).total_seconds() / span_s * cells
        for cell in range(max(math.floor(first), 0), min(math.ceil(first + clock.bucket_s / span_s * cells), cells)):
            values[cell] = bucket.mean
    left, right = margins(chart)
    lines = []
    for number, drawn in enumerate(draw_trace(tuple(values), low, high, rows, glyphs)):
        label = f"{high / 1e6:.0f}" if number == 0 else f"{low / 1e6:.0f}" if number == rows - 1 else ""
        end = " MHz" if number == 0 else ""
        spans = [Span(char, "trace-4" + _ground(chart, column)) for column, char in enumerate(drawn)]
        lines.append(
            joined([Span(fit(label, left - 1, right=True) + " ", "label"), *spans, Span(fit(end, right), "trace-4")])
        )
    return lines


def probe_row(
    chart: Plan, probes: Iterable[ProbeResult], since: datetime, until: datetime, glyphs: Glyphs
) -> list[Line]:
    """One mark a column: the worst outcome of its *probes*. Nothing where there were none in the window."""
    span_s = max((until - since).total_seconds(), 1e-3)
    worst: dict[int, ProbeOutcome] = {}
    for probe in probes:
        if since <= probe.at <= until:
            column = min(int((probe.at - since).total_seconds() / span_s * chart.columns), chart.columns - 1)
            worst[column] = max(worst.get(column, ProbeOutcome.OK), probe.outcome, key=_ORDER.index)
    if not worst:
        return []
    left, right = margins(chart)
    spans = []
    for column in range(chart.columns):
        char, style = probe_mark(worst[column], glyphs) if column in worst else (" ", "text")
        spans.append(Span(char, style + _ground(chart, column)))
    return [joined([Span(fit("probe", left - 1, right=True)[: left - 1] + " ", "label"), *spans, Span(" " * right)])]


_ORDER = (ProbeOutcome.OK, ProbeOutcome.WRONG, ProbeOutcome.FAILED)


def probe_mark(outcome: ProbeOutcome, glyphs: Glyphs) -> tuple[str, str]:
    """The character of an outcome, and its style."""
    return {
        ProbeOutcome.OK: (glyphs.dot, "ok"),
        ProbeOutcome.WRONG: ("?", "throttled"),
        ProbeOutcome.FAILED: (glyphs.lost, "lost"),
    }[outcome]


def _ground(chart: Plan, column: int) -> str:
    return ON_BAND if any(band.start <= column < band.end for band in chart.bands) else ""
