"""Why a device stands where it does in the ranking: bars of the parts of its score, what is expected of it, reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType

from hwdash.core.format import seconds_text
from hwdash.core.ranking import RankedDevice
from hwdash.tui.cell import bar
from hwdash.tui.fact import laid_out
from hwdash.tui.gauge import Fact
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, line_width, sized
from hwdash.tui.row import Row

_MEANINGS = MappingProxyType(
    {
        "latency": "how soon the answer comes",
        "throughput": "tokens a second",
        "headroom": "room to its limits of heat and power",
        "throttle": "how little it is slowed down",
        "load": "how little it has to do",
        "memory": "free memory",
        "energy": "joules a token",
        "power": "watts under load",
    }
)
"""What a full bar of a part means. A part of another name stands for itself."""

_TWO_COLUMNS = 70
"""From this width on the bars stand beside the words."""
_WITH_MEANINGS = 110
_BAR = 14
_LABEL = 10
_MEANING = 37


def explanation_lines(row: Row, weights: Mapping[str, float], width: int, glyphs: Glyphs) -> list[Line]:
    """The explanation in lines of at most *width* cells: bars beside words where there is room, else above them.

    *weights* are what each part contributes to the score; one that contributes nothing has no bar.
    """
    item = row.ranked
    if item is None:
        return laid_out(_left_out(row), width, glyphs)
    if width < _TWO_COLUMNS:
        return [*_bars(item, weights, width, glyphs), *laid_out(_reasons(item), width, glyphs)]
    column = _LABEL + 1 + _BAR + 5 + (5 if weights else 0) + (_MEANING if width >= _WITH_MEANINGS else 0)
    left = _bars(item, weights, column, glyphs)
    right = laid_out(_reasons(item), width - column - 1, glyphs)
    return [
        (*sized(first, column, glyphs.ellipsis), Span(" "), *second)
        for first, second in zip_longest(left, right, fillvalue=())
    ]


def _left_out(row: Row) -> Iterator[Fact]:
    if not row.excluded:
        yield Fact("", "the daemon has not ranked it", "muted")
    for number, reason in enumerate(row.why):
        yield Fact("" if number else "excluded", reason, "warm")


def _reasons(item: RankedDevice) -> Iterator[Fact]:
    """The reasons; the first one, where anything is expected of the device, says what (`hwdash.routing.words.why`)."""
    expects = item.expected is not None and item.expected.ttft_s is not None
    for number, reason in enumerate(item.why):
        if number == 0 and expects:
            yield Fact("expected", reason, "strong")
            if item.expected is not None and (cold_s := item.expected.cold_start_s):
                yield Fact("", f"after a cold start of {seconds_text(cold_s)}", "strong")
        else:
            yield Fact("because" if number == int(expects) else "", reason)


def _bars(item: RankedDevice, weights: Mapping[str, float], width: int, glyphs: Glyphs) -> list[Line]:
    """The score, then each part, as a bar with its number, its weight, and what it means where there is room for that."""
    parts = {name: part for name, part in item.parts.items() if weights.get(name) != 0.0}
    label = min(max(len(name) for name in (*parts, "score")), max(_LABEL, width // 3))
    room = max(0, min(_BAR, width - label - 6 - (5 if weights else 0)))
    lines = [_bar("score", item.score, "bar", (label, room), glyphs)]
    for name, part in parts.items():
        line = _bar(name.replace("_", " "), part, "memory", (label, room), glyphs)
        if weights:
            line = (*line, Span(f" {weights[name]:>4.0%}" if name in weights else " " * 5, "muted"))
        meaning = _MEANINGS.get(name, "")
        fits = line_width(line) + 1 + len(meaning) <= width
        lines.append((*line, Span(f" {meaning}", "muted")) if meaning and fits else line)
    return [sized(line, width, glyphs.ellipsis) for line in lines]


def _bar(name: str, part: float, style: str, sizes: tuple[int, int], glyphs: Glyphs) -> Line:
    label, room = sizes
    return (
        Span(f"{fit(name, label, right=True, ellipsis=glyphs.ellipsis)} ", "label"),
        *(bar(part, room, style, glyphs) if room else ()),
        Span(f" {part:4.2f}", "strong" if name == "score" else "text"),
    )
