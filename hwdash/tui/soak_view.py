"""A report of a soak as curves over one axis of time: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwdash.core.format import clock_text, duration_text, rate_text, reading_text
from hwdash.core.soak import SoakReport, SoakSample
from hwdash.core.text import sanitise_line
from hwdash.core.throttle import reason_words
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, joined, wrapped
from hwdash.tui.trace import ceiling, draw_trace

_FEWEST_CELLS = 8


def soak_lines(report: SoakReport, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """The verdict, then rate, temperature, power and clock as far as they were told, and when it throttled."""
    words = sanitise_line(report.problem or report.verdict, 400)
    lines: list[Line] = [(Span(f" {part}", "strong"),) for part in wrapped(glyphs.text(words), max(width - 2, 8))[:3]]
    cells, room = width - 2, height - len(lines) - 1
    traces = [trace for trace in _traces(report) if any(value is not None for value in trace[1])][: max(room // 2, 0)]
    if not traces or cells < _FEWEST_CELLS or report.total_s <= 0:
        return lines
    rows, spare = divmod(room, len(traces))
    for number, (title, values, text, style) in enumerate(traces):
        drawn = _spread(report, values, cells)
        present = [value for value in values if value is not None]
        label = f"{fit(title, 12)} {text(present[0])} {glyphs.flow} {text(present[-1])}, most {text(max(present))}"
        lines.append((Span(f" {fit(glyphs.text(label.replace('°C', glyphs.degrees)), cells)}", "label"),))
        low = min(present) * 0.8
        high = max(ceiling((max(present) - low,)) + low, low + 1e-9)
        trace = draw_trace(tuple(drawn), low, high, max(rows - 1 + (number < spare), 1), glyphs)
        lines += [(Span(" "), Span(line, style)) for line in trace]
    return [*lines, _axis(report, cells, glyphs)]


def _traces(
    report: SoakReport,
) -> list[tuple[str, tuple[float | None, ...], Callable[[float], str], str]]:
    def pick(of: Callable[[SoakSample], float | None]) -> tuple[float | None, ...]:
        return tuple(of(sample) for sample in report.samples)

    def rate(value: float) -> str:
        return rate_text(value) if report.unit == "tok/s" else f"{value / 1e12:.3g} T{sanitise_line(report.unit, 12)}"

    return [
        ("rate", pick(lambda sample: sample.rate), rate, "trace-1"),
        ("clock", pick(lambda sample: sample.clock_hz), clock_text, "trace-4"),
        (
            "temperature",
            pick(lambda sample: sample.temperature_c),
            lambda it: reading_text("temperature_c", it),
            "trace-2",
        ),
        ("power", pick(lambda sample: sample.power_w), lambda it: reading_text("power_w", it), "trace-3"),
    ]


def _spread(report: SoakReport, values: Sequence[float | None], cells: int) -> list[float | None]:
    """Two values a cell over the whole time; what lies between two samples has that of the one before."""
    spread: list[float | None] = []
    place = 0
    for step in range(2 * cells):
        until_s = report.total_s * (step + 1) / (2 * cells)
        while place + 1 < len(values) and report.samples[place + 1].at_s <= until_s:
            place += 1
        reached = bool(values) and report.samples[0].at_s <= until_s
        spread.append(values[place] if reached else None)
    return spread


def _axis(report: SoakReport, cells: int, glyphs: Glyphs) -> Line:
    marks = [False] * cells
    for number, sample in enumerate(report.samples):
        if sample.throttle:
            end_s = report.samples[number + 1].at_s if number + 1 < len(report.samples) else report.total_s
            first = min(int(sample.at_s / report.total_s * cells), cells - 1)
            for cell in range(max(first, 0), min(max(int(end_s / report.total_s * cells), first + 1), cells)):
                marks[cell] = True
    reasons = sorted({reason for sample in report.samples for reason in sample.throttle})
    legend = f" {glyphs.alert} throttled: {', '.join(map(reason_words, reasons))} " if reasons else ""
    end = f" {duration_text(report.total_s)}"
    spans = [Span(glyphs.alert if mark else glyphs.rule, "throttled" if mark else "faint") for mark in marks]
    if legend and len(legend) < cells // 2 and not any(marks[: len(legend)]):
        spans[: len(legend)] = [Span(char, "throttled") for char in glyphs.text(legend)]
    if not any(marks[-len(end) :]):
        spans[-len(end) :] = [Span(char, "label") for char in end]
    return joined([Span(" "), *spans])
