"""The words and figures around the latency chart, as lines: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.cells import cell_len

from hwdash.core.format import NOT_AVAILABLE, seconds_text
from hwdash.core.history import LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from hwdash.tui.chart import STYLES, Figure, symbols
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, line_width
from hwdash.tui.palette import ON_CURSOR
from hwdash.tui.window import Window, with_windows


def throttled_share(
    periods: Sequence[ThrottledPeriod], device_key: str, since: datetime, until: datetime
) -> float | None:
    """The share of *since* to *until*, 0 to 1, in which the device throttled; overlapping periods count once.

    None for an empty window.
    """
    total = (until - since).total_seconds()
    if total <= 0:
        return None
    throttled = 0.0
    reached = since
    for period in sorted(periods, key=lambda period: period.start):
        end = min(period.end or until, until)
        start = max(period.start, reached)
        if period.device_key == device_key and end > start:
            throttled += (end - start).total_seconds()
            reached = end
    return throttled / total


def window_line(figure: Figure, window: Window, device: str, width: int) -> Line:
    """What is shown: the figure, the device, and all windows with the chosen one marked."""
    spans = [Span(f" {figure.words}", "title"), Span("  "), Span(device, "strong"), Span("  ")]
    if (line := with_windows(tuple(spans), window, width)) is not None:
        return line
    short = "TTFT" if figure is Figure.TTFT else "ITL" if figure is Figure.ITL else "total"
    return (Span(f" {short} ", "title"), Span(device, "strong"), Span(f" [{window.title}]", "key"))


def legend_line(series: LatencySeries, figure: Figure, glyphs: Glyphs, width: int) -> Line:
    """The percentiles of the whole window with the characters and colours of the chart, and whose they are."""
    spans = [Span(" ")]
    values = _texts(figure.of(series.summary))
    if width < 46:
        for label, value, style in zip(("p50", "p95", "p99"), values, STYLES, strict=True):
            spans += [Span(f"{label} ", style), Span(f"{value} ")]
        return tuple(spans)
    for label, value, symbol, style in zip(("p50", "p95", "p99"), values, symbols(glyphs), STYLES, strict=True):
        spans += [Span(f"{symbol} {label} ", style), Span(value), Span("  ")]
    return (*spans, Span(f"{series.device} {glyphs.dot} {series.model}", "label"))


def _texts(found: Percentiles | None) -> tuple[str, str, str]:
    if found is None:
        return (NOT_AVAILABLE,) * 3
    return seconds_text(found.p50_s), seconds_text(found.p95_s), seconds_text(found.p99_s)


class _Column(NamedTuple):
    title: str
    width: int
    from_width: int
    text: Callable[[LatencySeries, tuple[str, str, str], str], str]


_COLUMNS = (
    _Column("requests", 8, 60, lambda series, values, share: str(series.summary.requests)),
    _Column("errors", 6, 60, lambda series, values, share: str(series.summary.errors)),
    _Column("p50", 8, 16, lambda series, values, share: values[0]),
    _Column("p95", 8, 30, lambda series, values, share: values[1]),
    _Column("p99", 8, 38, lambda series, values, share: values[2]),
    _Column("throttled", 9, 70, lambda series, values, share: share),
)


def table(
    history: LatencyHistory,
    figure: Figure,
    chosen: LatencySeries | None,
    glyphs: Glyphs,
    width: int,
    height: int,
) -> list[Line]:
    """A heading and the series, one a row, *chosen* marked; where not all have room, those around *chosen*."""
    place = next((number for number, series in enumerate(history.series) if series is chosen), 0)
    first = max(0, place - max(height - 2, 0))
    columns = [column for column in _COLUMNS if width >= column.from_width]
    fixed = sum(column.width + 1 for column in columns)
    device_width = max((cell_len(series.device) for series in history.series), default=0)
    device_width = min(max(device_width, 6), max(width - fixed - 2, 1))
    model_width = width - fixed - device_width - 3
    heading = " " + fit("device", device_width)
    heading += f" {fit('model', model_width)}" if model_width >= 8 else ""
    heading += "".join(f" {fit(column.title, column.width, right=True)}" for column in columns)
    lines: list[Line] = [(Span(heading, "label"),)]
    for series in history.series[first : first + height - 1]:
        values = _texts(figure.of(series.summary))
        share = throttled_share(history.throttled, series.device_key, history.since, history.until)
        ground = ON_CURSOR if series is chosen else ""
        words = NOT_AVAILABLE if share is None else f"{share:.0%}"
        text = (glyphs.cursor if series is chosen else " ") + fit(series.device, device_width)
        text += f" {fit(series.model, model_width)}" if model_width >= 8 else ""
        spans = [Span(text, f"text{ground}")]
        for column in columns:
            cell = f" {fit(column.text(series, values, words), column.width, right=True)}"
            alarming = (column.title == "errors" and series.summary.errors) or (column.title == "throttled" and share)
            spans.append(Span(cell, ("throttled" if alarming else "text") + ground))
        spans.append(Span(" " * max(0, width - line_width(tuple(spans))), f"text{ground}"))
        lines.append(tuple(spans))
    return lines


def empty_words(history: LatencyHistory, series: LatencySeries | None, figure: Figure, window: Window) -> str:
    """Why there is no chart, and what to do about it."""
    if series is None:
        return f"no prompts in the last {window.title}: press 2 to send one"
    if series.summary.requests and series.summary.errors >= series.summary.requests:
        count = series.summary.errors
        return f"no answered prompts in the last {window.title}: {count} failed; press 2 to send one and see why"
    if all(figure.of(bucket) is None for bucket in series.buckets):
        return f"{figure.words}: not measured in the last {window.title}; press m for another figure"
    return "too small for a chart: enlarge the terminal"
