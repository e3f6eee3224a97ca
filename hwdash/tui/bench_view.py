"""A report of a bench as lines and curves: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from hwdash.core.bench import BenchReport, DecodeFigure, DtypeFigures
from hwdash.core.format import bytes_text, energy_text, joules_per_token_text, seconds_text
from hwdash.core.text import sanitise_line
from hwdash.core.throttle import reason_words
from hwdash.tui.axis import Scale, latency_scale, number_scale
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, wrapped
from hwdash.tui.plot import Curve, symbol


class View(StrEnum):
    """What of a device's measurements is shown."""

    RATE = "rate"
    ITL = "itl"
    TTFT = "ttft"
    SOAK = "soak"

    @property
    def words(self) -> str:
        """The view in words."""
        return {
            "rate": "tokens/s by batch",
            "itl": "between tokens by batch",
            "ttft": "time to first token by prompt",
            "soak": "soak",
        }[self.value]


def curves(report: BenchReport, view: View) -> tuple[Curve, ...]:
    """One curve for each precision that has figures."""
    found = []
    for figures in report.dtypes:
        if view is View.TTFT:
            points = [(float(item.prompt_tokens), item.ttft_s) for item in figures.prefill]
        elif view is View.ITL:
            points = [(float(item.batch), item.itl_p50_s) for item in figures.decode]
        else:
            points = [(float(item.batch), item.tokens_per_s) for item in figures.decode]
        if points := sorted(point for point in points if point[0] > 0 and point[1] >= 0):
            found.append(Curve(sanitise_line(figures.dtype, 12), tuple(points)))
    return tuple(found)


def scale(found: Sequence[Curve], view: View, rows: int) -> Scale:
    """The upward axis that holds all of *found*."""
    largest = max((y for curve in found for _, y in curve.points), default=0.0)
    return number_scale(largest, rows) if view is View.RATE else latency_scale(largest, rows)


def legend(found: Sequence[Curve], glyphs: Glyphs) -> Line:
    """The precisions with their characters and colours."""
    spans = []
    for number, curve in enumerate(found):
        mark, style = symbol(number, glyphs)
        spans += [Span(f"{mark} {curve.name}  ", style)]
    return tuple(spans)


class _Column(NamedTuple):
    title: str
    width: int
    from_width: int


_COLUMNS = (
    _Column("batch", 5, 0),
    _Column("tokens/s", 9, 0),
    _Column("ITL p50", 8, 30),
    _Column("p99", 8, 40),
    _Column("bandwidth", 9, 52),
    _Column("energy", 13, 66),
    _Column("of it idle", 10, 90),
)


def report_lines(report: BenchReport, width: int, glyphs: Glyphs) -> list[Line]:
    """Figures as a table, then what is to be said of each precision, and the comparisons."""
    columns = [column for column in _COLUMNS if width >= column.from_width]
    head = f" {fit('dtype', 6)}" + "".join(f" {fit(column.title, column.width, right=True)}" for column in columns)
    lines: list[Line] = [(Span(head, "label"),)]
    for number, figures in enumerate(report.dtypes):
        style = symbol(number, glyphs)[1]
        for place, item in enumerate(figures.decode):
            cells = "".join(
                f" {fit(text, column.width, right=True)}" for column, text in zip(columns, _cells(item), strict=False)
            )
            name = sanitise_line(figures.dtype, 12) if place == 0 else ""
            lines.append((Span(f" {fit(name, 6, ellipsis=glyphs.ellipsis)}", style), Span(cells)))
    for words, style in _sentences(report):
        lines += [(Span(f" {part}", style),) for part in wrapped(glyphs.text(words), max(width - 2, 8))]
    return lines


def _cells(item: DecodeFigure) -> tuple[str, ...]:
    ratio, joules, idle = item.bandwidth_ratio, item.joules_per_token, item.idle_joules_per_token
    return (
        str(item.batch),
        f"{item.tokens_per_s:.4g}" if item.tokens_per_s < 1e4 else f"{item.tokens_per_s:.0f}",
        seconds_text(item.itl_p50_s),
        seconds_text(item.itl_p99_s),
        "n/a" if ratio is None else f"{ratio:.0%}",
        "n/a" if joules is None else joules_per_token_text(joules),
        "n/a" if idle is None else energy_text(idle) if idle >= 0.0995 else f"{idle * 1e3:.3g} mJ",
    )


def _sentences(report: BenchReport) -> Iterator[tuple[str, str]]:
    for comparison in report.comparisons:
        yield sanitise_line(comparison.words, 400), "strong"
    for figures in report.dtypes:
        name = sanitise_line(figures.dtype, 12)
        if figures.problem:
            yield f"{name}: {sanitise_line(figures.problem, 400)}", "throttled"
        if figures.conditions.throttle:
            words = ", ".join(map(reason_words, figures.conditions.throttle))
            yield f"{name}: throttled while it ran: {words}", "throttled"
        if cold := _cold(figures):
            yield f"{name}: {cold}", "muted"
        if figures.prefill:
            firsts = ", ".join(f"{item.prompt_tokens}: {seconds_text(item.ttft_s)}" for item in figures.prefill)
            yield f"{name}: first token by tokens of the prompt: {firsts}", "muted"
    if report.copy_bytes_per_s is not None:
        yield f"a copy moves {bytes_text(report.copy_bytes_per_s)}/s, read and written", "muted"
    if report.versions:
        yield (
            ", ".join(f"{sanitise_line(name, 40)} {sanitise_line(what, 40)}" for name, what in report.versions),
            "muted",
        )


def _cold(figures: DtypeFigures) -> str:
    if (loaded := figures.loaded) is None:
        return ""
    stages = (
        ("start", loaded.start_s),
        ("import", loaded.import_s),
        ("load", loaded.load_s),
        ("first token", loaded.first_token_s),
    )
    parts = [f"{name} {seconds_text(seconds)}" for name, seconds in stages if seconds is not None]
    way = [f"decoded by {sanitise_line(loaded.decoder, 20)}"] if loaded.decoder else []
    return ", ".join(parts + way)
