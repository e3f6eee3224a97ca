"""A chart of curves over a figure that doubles: what is drawn where (pure), and its drawing by plotext in any thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwdash.tui.axis import Mark, Scale
from hwdash.tui.chart import FIGURE, framed
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, joined

STYLES = ("trace-1", "trace-2", "trace-3", "trace-4")
_SYMBOLS = ("●", "▲", "■", "◆")
_ASCII_SYMBOLS = ("o", "^", "#", "x")
_ASCII_LINES = (".", "-", "=", ":")
_MIN_COLUMNS = 12
_MIN_ROWS = 3


@dataclass(frozen=True, slots=True)
class Curve:
    """A named row of points, by growing x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything that decides how a chart looks but its colours. Columns of points and marks are those of the canvas."""

    width: int
    height: int
    columns: int
    rows: int
    scale: Scale
    marks: tuple[Mark, ...]
    curves: tuple[Curve, ...]


def symbol(number: int, glyphs: Glyphs) -> tuple[str, str]:
    """The character and the style of curve *number*."""
    symbols = _ASCII_SYMBOLS if glyphs.ascii else _SYMBOLS
    return symbols[number % len(symbols)], STYLES[number % len(STYLES)]


def plan(curves: Sequence[Curve], scale: Scale, width: int, height: int) -> Plot | None:
    """The chart of *curves* in *width* x *height* cells, x by its logarithm; None without points or room."""
    given = [curve for curve in curves if curve.points]
    columns, rows = width - len(scale.marks[0].label) - 2, height - 2
    if not given or columns < _MIN_COLUMNS or rows < _MIN_ROWS:
        return None
    xs = sorted({x for curve in given for x, _ in curve.points})
    low, high = math.log2(xs[0]), math.log2(xs[-1])

    def column(x: float) -> float:
        share = 0.5 if high <= low else (math.log2(x) - low) / (high - low)
        return 1.0 + share * (columns - 4)

    marks: list[Mark] = []
    for x in xs:
        if not marks or column(x) - marks[-1].at >= len(marks[-1].label) / 2 + len(f"{x:g}") / 2 + 1:
            marks.append(Mark(column(x), f"{x:g}"))
    placed = tuple(Curve(item.name, tuple((column(x), y) for x, y in item.points)) for item in given)
    return Plot(width, height, columns, rows, scale, tuple(marks), placed)


def draw(plot: Plot, glyphs: Glyphs) -> tuple[Line, ...]:
    """The lines of *plot*. Takes some milliseconds, and some hundred the first time (plotext is loaded)."""
    with FIGURE:
        return _plotted(plot, glyphs)


def _plotted(plot: Plot, glyphs: Glyphs) -> tuple[Line, ...]:
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(plot.width - 1, plot.rows + 2)
    figure.canvas("default")
    figure.axes(False, axis="x", side="upper")
    figure.axes(False, axis="y", side="right")
    figure.ruler("x", "lower").lim(0, plot.columns - 1)
    figure.ruler("y", "left").lim(0, plot.scale.top)
    labels = [glyphs.text(mark.label) for mark in plot.scale.marks]
    figure.ruler("y", "left").ticks([mark.at for mark in plot.scale.marks], labels)
    figure.ruler("x", "lower").ticks([mark.at for mark in plot.marks], [mark.label for mark in plot.marks])
    for number, curve in reversed(tuple(enumerate(plot.curves))):
        xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
        colour = (0, 0, number % len(STYLES) + 1)
        kind = "braille" if glyphs.braille else _ASCII_LINES[number % len(_ASCII_LINES)]
        if len(xs) > 1:
            figure.draw(figure.signal(xs, ys, marker=plotext.marker(kind, colour)).lines(True))
    for number, curve in reversed(tuple(enumerate(plot.curves))):
        xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
        colour = (0, 0, number % len(STYLES) + 1)
        figure.draw(figure.signal(xs, ys, marker=plotext.marker(symbol(number, glyphs)[0], colour)))
    return _lines(figure.build(), plot, glyphs)


def _lines(matrix: Any, plot: Plot, glyphs: Glyphs) -> tuple[Line, ...]:
    width = plot.width - 1
    left = width - plot.columns
    lines: list[Line] = []
    for row, text in enumerate(matrix.string(colorless=True).split("\n")[: plot.rows + 2]):
        spans = []
        for column, char in enumerate(framed(text, glyphs)[:width].ljust(width)):
            style = "faint" if column == left - 1 or row == plot.rows else "muted"
            if row < plot.rows and column >= left:
                colour = matrix.get(row, column).foreground() if char != " " else None
                known = colour is not None and colour[:2] == (0, 0) and 1 <= colour[2] <= len(STYLES)
                style = STYLES[colour[2] - 1] if colour is not None and known else "text"
            spans.append(Span(char, style))
        lines.append(joined(spans))
    return tuple(lines)
