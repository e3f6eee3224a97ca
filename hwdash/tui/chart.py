"""The latency chart: what is drawn where (pure), and its drawing by plotext, which may run in any thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from threading import Lock
from typing import Any

from hwdash.core.event import Event
from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from hwdash.core.throttle import reason_words
from hwdash.tui.axis import Mark, Scale, latency_scale, time_marks
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, joined
from hwdash.tui.note import Note, is_suspected, legend, noted_events, placed
from hwdash.tui.palette import ON_BAND

_MIN_COLUMNS = 8
_MIN_ROWS = 1
_NOTED_FROM = 7
"""Rows from which on events are marked: their legend takes one."""
_LABELS = ("p50", "p95", "p99")
_MARGIN = 4
STYLES = ("trace-1", "trace-2", "trace-3")
"""The styles of p50, p95 and p99."""
_SYMBOLS = ("●", "▲", "■")
_ASCII_SYMBOLS = ("o", "^", "#")
_ASCII_LINES = (".", "-", "=")
_ASCII_FRAME = str.maketrans("─│┌┐└┘├┤┬┴┼", "-|+++++++++")


class Figure(StrEnum):
    """Which latency is shown."""

    TTFT = "ttft"
    ITL = "itl"
    TOTAL = "total"

    @property
    def words(self) -> str:
        """The figure in words."""
        return {"ttft": "time to first token", "itl": "between tokens", "total": "whole answer"}[self.value]

    def of(self, bucket: LatencyBucket) -> Percentiles | None:
        """This figure's percentiles in *bucket*."""
        return {"ttft": bucket.ttft, "itl": bucket.itl, "total": bucket.total}[self.value]


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket: its column on the canvas (a fraction of cells is kept) and p50, p95 and p99 in seconds."""

    column: float
    values: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Band:
    """A throttled period: the columns from ``start`` up to, not including, ``end``, and the reason in words.

    ``suspected``: no flag of the driver said so.
    """

    start: int
    end: int
    words: str
    suspected: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides how a chart looks but its colours; equal plans are equal pictures.

    ``runs`` are the buckets with data; within a run they follow each other without a gap. ``notes`` are the events on
    the axis of time: their columns, at most one a column.
    """

    width: int
    height: int
    columns: int
    rows: int
    scale: Scale
    times: tuple[Mark, ...]
    runs: tuple[tuple[Point, ...], ...]
    bands: tuple[Band, ...]
    notes: tuple[tuple[int, Note], ...] = ()


def symbols(glyphs: Glyphs) -> tuple[str, ...]:
    """The characters of single points of p50, p95 and p99."""
    return _ASCII_SYMBOLS if glyphs.ascii else _SYMBOLS


def plan(
    history: LatencyHistory,
    series: LatencySeries | None,
    figure: Figure,
    width: int,
    height: int,
    zone: tzinfo | None = None,
    events: Sequence[Event] = (),
) -> Plan | None:
    """The chart of one device and model in *width* x *height* cells; None where there is no data or no room.

    Of *events* those of the device are marked.
    """
    if series is None:
        return None
    buckets = [(bucket, found) for bucket in series.buckets if (found := _finite(figure.of(bucket))) is not None]
    periods = _periods(history, series.device_key)
    events = [
        event for event in events if event.key == series.device_key and history.since <= event.at <= history.until
    ]
    noted = noted_events(events) if height >= _NOTED_FROM else []
    doubtful = height >= _NOTED_FROM and any(is_suspected(period, events) for period in periods)
    rows = height - 2 - bool(periods) - bool(noted or doubtful)
    scale = latency_scale(max((max(found) for _, found in buckets), default=0.0), rows)
    columns = width - len(scale.marks[0].label) - 1 - _MARGIN
    if not buckets or columns < _MIN_COLUMNS or rows < _MIN_ROWS:
        return None
    span = max((history.until - history.since).total_seconds(), 1e-3)

    def column(moment: datetime) -> float:
        return (moment - history.since).total_seconds() / span * columns

    half = history.bucket_s / 2 / span * columns
    points = [
        Point(min(max(column(bucket.start) + half - 0.5, 0.0), columns - 1.0), found) for bucket, found in buckets
    ]
    starts = [bucket.start.timestamp() for bucket, _ in buckets]
    bands = [
        Band(
            *_clipped(column(period.start), column(period.end or history.until), columns),
            ", ".join(map(reason_words, period.throttle)),
            is_suspected(period, events),
        )
        for period in periods
    ]
    times = time_marks(history.since, history.until, columns, zone)
    runs = _runs(points, starts, history.bucket_s)
    bands.sort(key=lambda band: band.start)
    notes = placed((min(int(column(event.at)), columns - 1), note) for event, note in noted)
    return Plan(width, height, columns, rows, scale, times, runs, tuple(bands), notes)


def _periods(history: LatencyHistory, key: str) -> list[ThrottledPeriod]:
    """The throttled periods of the device *key* that reach into the window."""
    since, until = history.since, history.until
    return [
        period
        for period in history.throttled
        if period.device_key == key and period.start < until and (period.end or until) >= since
    ]


def _finite(found: Percentiles | None) -> tuple[float, float, float] | None:
    if found is None:
        return None
    values = (found.p50_s, found.p95_s, found.p99_s)
    return values if all(math.isfinite(value) for value in values) else None


def _clipped(start: float, end: float, columns: int) -> tuple[int, int]:
    first = min(max(math.floor(start), 0), columns - 1)
    return first, min(max(math.ceil(end), first + 1), columns)


def _runs(points: Sequence[Point], starts: Sequence[float], bucket_s: float) -> tuple[tuple[Point, ...], ...]:
    runs: list[list[Point]] = []
    before = -math.inf
    for point, start in zip(points, starts, strict=True):
        if start - before > 1.5 * bucket_s:
            runs.append([])
        runs[-1].append(point)
        before = start
    return tuple(map(tuple, runs))


def margins(chart: Plan) -> tuple[int, int]:
    """The cells left and right of the canvas, for what stands below it."""
    return chart.width - _MARGIN - chart.columns, _MARGIN


FIGURE = Lock()
"""To be held while plotext is used: it draws on one figure that all its users share."""


def framed(text: str, glyphs: Glyphs) -> str:
    """A row that plotext drew, its frame in the terminal's characters."""
    return text.translate(_ASCII_FRAME) if glyphs.ascii else text


def draw(chart: Plan, glyphs: Glyphs) -> tuple[Line, ...]:
    """The lines of *chart*. Takes some milliseconds, and some hundred the first time (plotext is loaded)."""
    with FIGURE:
        cells = _plotted(chart, glyphs)
    left = chart.width - _MARGIN - chart.columns
    in_band = [any(band.start <= column < band.end for band in chart.bands) for column in range(chart.columns)]
    ends = _end_labels(chart)
    for column, note in chart.notes:
        cells[chart.rows][left + column] = (note.mark(glyphs), note.style)
    lines: list[Line] = []
    if chart.bands:
        lines.append(_band_line(chart, left, glyphs))
    for row, line in enumerate(cells):
        spans = []
        for column, (char, style) in enumerate(line):
            shaded = row < chart.rows and column >= left and in_band[column - left]
            spans.append(Span(char, style + ON_BAND if shaded else style))
        label = ends.get(row)
        spans.append(Span(f" {_LABELS[label]}", STYLES[label]) if label is not None else Span(" " * _MARGIN))
        lines.append(joined(spans))
    if len(lines) < chart.height:
        lines.append(legend(chart.notes, any(band.suspected for band in chart.bands), left, glyphs))
    return tuple(lines)


def _plotted(chart: Plan, glyphs: Glyphs) -> list[list[tuple[str, str]]]:
    """One character and style for each cell of the plot: marks of latency, frame, canvas, marks of time."""
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(chart.width - _MARGIN, chart.rows + 2)
    figure.canvas("default")
    figure.axes(False, axis="x", side="upper")
    figure.axes(False, axis="y", side="right")
    figure.ruler("x", "lower").lim(0, chart.columns - 1)
    figure.ruler("y", "left").lim(0, chart.scale.top)
    figure.ruler("y", "left").ticks(
        [mark.at for mark in chart.scale.marks], [glyphs.text(mark.label) for mark in chart.scale.marks]
    )
    times = [(min(max(mark.at * chart.columns - 0.5, 0), chart.columns - 1), mark.label) for mark in chart.times]
    figure.ruler("x", "lower").ticks([at for at, _ in times], [label for _, label in times])
    for index in reversed(range(len(_LABELS))):
        _add_lines(plotext, chart, index, glyphs)
    for index in reversed(range(len(_LABELS))):
        _add_points(plotext, chart, index, glyphs)
    return _cells(figure.build(), chart, glyphs)


def _add_lines(plotext: Any, chart: Plan, index: int, glyphs: Glyphs) -> None:
    kind = _ASCII_LINES[index] if not glyphs.braille else "braille"
    for run in chart.runs:
        if len(run) > 1:
            marker = plotext.marker(kind, (0, 0, index + 1))
            signal = plotext.figure.signal(
                [point.column for point in run], [point.values[index] for point in run], marker=marker
            )
            plotext.figure.draw(signal.lines(True))


def _add_points(plotext: Any, chart: Plan, index: int, glyphs: Glyphs) -> None:
    """A symbol where a line ends, and for a bucket that stands alone and so has no line."""
    points = [run[-1] for run in chart.runs]
    marker = plotext.marker(symbols(glyphs)[index], (0, 0, index + 1))
    xs, ys = [point.column for point in points], [point.values[index] for point in points]
    plotext.figure.draw(plotext.figure.signal(xs, ys, marker=marker))


def _cells(matrix: Any, chart: Plan, glyphs: Glyphs) -> list[list[tuple[str, str]]]:
    width = chart.width - _MARGIN
    left = width - chart.columns
    rows = matrix.string(colorless=True).split("\n")[: chart.rows + 2]
    cells = []
    for row, text in enumerate(rows):
        line = []
        for column, char in enumerate(framed(text, glyphs)[:width].ljust(width)):
            style = "muted"
            if row < chart.rows and column >= left:
                style = "text"
                if char != " ":
                    colour = matrix.get(row, column).foreground()
                    style = STYLES[colour[2] - 1] if colour and colour[:2] == (0, 0) and 1 <= colour[2] <= 3 else "text"
            elif column == left - 1 or row == chart.rows:
                style = "faint"
            line.append((char, style))
        cells.append(line)
    return cells


def _end_labels(chart: Plan) -> dict[int, int]:
    """The row in which each percentile is named at the right edge: that of its newest value, or the nearest free one."""
    newest = chart.runs[-1][-1]
    rows: dict[int, int] = {}
    for index in sorted(range(len(_LABELS)), key=lambda index: newest.values[index]):
        share = newest.values[index] / chart.scale.top
        wanted = chart.rows - 1 - round(share * (chart.rows - 1))
        free = [row for row in range(chart.rows) if row not in rows]
        if free:
            above = [row for row in free if row <= wanted]
            rows[max(above) if above else min(free)] = index
    return rows


def _band_line(chart: Plan, left: int, glyphs: Glyphs) -> Line:
    """The row above the canvas: a mark over each throttled column, and the reason where there is room."""
    cells = [" "] * (chart.columns + _MARGIN)
    for band in chart.bands:
        cells[band.start : band.end] = ("?" if band.suspected else glyphs.down) * (band.end - band.start)
    for number, band in enumerate(chart.bands):
        until = chart.bands[number + 1].start - 1 if number + 1 < len(chart.bands) else len(cells)
        why = f": {band.words}" if band.words else ""
        head = "throttling suspected" if band.suspected else "throttled"
        for words in (f" {head}{why} ", " suspected " if band.suspected else f" {band.words} "):
            if not band.words and not band.suspected:
                break
            inside = band.end - band.start - 2
            if len(words) <= inside:
                start = band.start + 1 + (inside - len(words)) // 2
            elif len(words.rstrip()) <= until - band.end:
                start, words = band.end, words.rstrip()
            else:
                continue
            cells[start : start + len(words)] = glyphs.text(words)
            break
    return (Span(" " * left), Span("".join(cells), "throttled"))
