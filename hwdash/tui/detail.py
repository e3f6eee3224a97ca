"""The two panes below the table: facts about the selected device, and its traces."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.core.format import duration_text, reading_text
from hwdash.core.metric import METRICS
from hwdash.core.probe import UptimeHistory
from hwdash.tui.canvas import Canvas
from hwdash.tui.fact import fact_lines
from hwdash.tui.line import Line, Span, fit, joined
from hwdash.tui.pane import ScrollPane
from hwdash.tui.row import Row
from hwdash.tui.trace import METRICS as TRACED
from hwdash.tui.trace import TraceHistory, TracePoint, ceiling, draw_trace, scale
from hwdash.tui.uptime import uptime_facts


class FactPane(ScrollPane):
    """Identity, limits, health, throttling, ranking and absent metrics of one device."""

    def __init__(self) -> None:
        super().__init__()
        self._uptime: UptimeHistory | None = None

    def tell(self, uptime: UptimeHistory | None) -> None:
        """Take note of the probes; the next `show` shows them."""
        self._uptime = uptime

    def heading(self, row: Row) -> str:
        """The device's name."""
        return row.status.device.name

    def content(self, row: Row, width: int) -> Sequence[Line]:
        """The facts."""
        return fact_lines(row, width, self.glyphs, uptime_facts(self._uptime, row.key, self.glyphs))


_FEW_ROWS = 5


class TracePane(Canvas):
    """Utilisation, temperature, power and clock of one device over the last minutes, throttled stretches marked."""

    def __init__(self, history: TraceHistory) -> None:
        super().__init__()
        self._history = history
        self._row: Row | None = None

    def show(self, row: Row | None) -> None:
        """Show the device of *row*, or how it went on."""
        self._row = row
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """A label and a trace for each metric, as many as fit, then the time axis."""
        row = self._row
        cells = width - 2
        if row is None or height < 3 or cells < 8:
            return []
        points = self._history.window(row.key, cells)
        metrics = [metric for metric in TRACED if self._seen(row, metric, points)][: (height - 1) // 2]
        if not metrics:
            return []
        rows, spare = divmod(height - 1, len(metrics))
        lines: list[Line] = []
        for number, metric in enumerate(metrics):
            lines += self._trace(row, metric, points, cells, rows - 1 + (number < spare))
        return [*lines, self._axis(points, cells)]

    def _seen(self, row: Row, metric: str, points: Sequence[TracePoint | None]) -> bool:
        """*metric* has a value to draw; why others have none stands among the facts."""
        index = TRACED.index(metric)
        return row.status.number(metric) is not None or any(
            point and point.values[index] is not None for point in points
        )

    def _trace(self, row: Row, metric: str, points: Sequence[TracePoint | None], cells: int, rows: int) -> list[Line]:
        index = TRACED.index(metric)
        values = tuple(None if point is None else point.values[index] for point in points)
        limits = scale(metric, row.status)
        low, high = limits or (0.0, ceiling(values))
        style = f"trace-{index + 1}"
        now = reading_text(metric, row.status.readings.get(metric)).replace("°C", self.glyphs.degrees)
        top = reading_text(metric, high).replace("°C", self.glyphs.degrees)
        head = f"{METRICS[metric].title} "
        tail = f"of {top}" if limits else f"drawn to {top}"
        room = cells - len(head) - len(tail) - 1
        label: Line = (
            (Span(" "), Span(head, "label"), Span(fit(now, room), "strong" if now != "n/a" else "faint"))
            if room >= len(now)
            else (Span(f" {head}", "label"), Span(now, "strong"))
        )
        if room >= len(now):
            label = (*label, Span(f" {tail}", "faint"))
        drawn = draw_trace(values, low, high, rows, self.glyphs)
        return [label, *((Span(" "), Span(line, style)) for line in drawn)]

    def _axis(self, points: Sequence[TracePoint | None], cells: int) -> Line:
        glyphs = self.glyphs
        pairs = [points[2 * cell : 2 * cell + 2] for cell in range(cells)]
        throttled = [any(point is not None and point.throttled for point in pair) for pair in pairs]
        flagged = [
            any(point is not None and point.throttled and not point.suspected for point in pair) for pair in pairs
        ]
        marks = [glyphs.alert if flag else "?" if mark else "" for flag, mark in zip(flagged, throttled, strict=True)]
        ago = f"-{duration_text(2 * cells * self._history.step_s)} "
        legend = f" {glyphs.alert} throttled " if any(flagged) else ""
        legend += f" ? suspected{'' if legend else ' throttling'} " if "?" in marks else ""
        spans = [Span(mark or glyphs.rule, "throttled" if mark else "faint") for mark in marks]
        del spans[: len(ago)]
        if legend and not any(marks[: len(ago) + len(legend)]):
            del spans[: len(legend)]
            return (Span(" "), Span(ago, "label"), Span(legend, "throttled"), *joined(spans))
        return (Span(" "), Span(ago, "label"), *joined(spans))
