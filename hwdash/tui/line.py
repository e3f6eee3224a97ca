"""Lines of styled text, built from spans, before they become strips on a screen. Widths are terminal cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size


class Span(NamedTuple):
    """A piece of text with the name of its style (one of `hwdash.tui.palette.STYLES`)."""

    text: str
    style: str = "text"


Line: TypeAlias = tuple[Span, ...]
"""One line of a canvas."""


def fit(text: str, width: int, *, right: bool = False, ellipsis: str = "…") -> str:
    """*text* in exactly *width* cells: padded, or cut with an *ellipsis* at its end."""
    length = cell_len(text)
    if length == width:
        return text
    if length < width:
        return " " * (width - length) + text if right else text + " " * (width - length)
    return set_cell_size(text, width - 1) + ellipsis if width > 1 else set_cell_size(text, max(width, 0))


def line_width(line: Line) -> int:
    """The cells that *line* covers."""
    return sum(cell_len(span.text) for span in line)


def joined(spans: Iterable[Span]) -> Line:
    """The spans with neighbours of one style made one, empty ones dropped."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].style == span.style:
            merged[-1] = Span(merged[-1].text + span.text, span.style)
        elif span.text:
            merged.append(span)
    return tuple(merged)


def sized(line: Iterable[Span], width: int, ellipsis: str = "…") -> Line:
    """*line* in exactly *width* cells: cut with an *ellipsis*, or padded with blanks."""
    spans: list[Span] = []
    left = width
    for span in line:
        length = cell_len(span.text)
        if length > left:
            if left > 0:
                spans.append(Span(fit(span.text, left, ellipsis=ellipsis), span.style))
            left = 0
            break
        spans.append(span)
        left -= length
    if left > 0:
        spans.append(Span(" " * left))
    return joined(spans)


def plain(line: Line) -> str:
    """The text of *line* alone."""
    return "".join(span.text for span in line)


def wrapped(text: str, width: int) -> list[str]:
    """*text* broken at blanks into lines of at most *width* cells; a longer word is cut."""
    lines: list[str] = []
    current = ""
    for word in text.split():
        while cell_len(word) > width > 0:
            head = set_cell_size(word, width).rstrip() or word[:1]
            if current:
                lines.append(current)
                current = ""
            lines.append(head)
            word = word[len(head) :]
        if current and cell_len(current) + 1 + cell_len(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    if current:
        lines.append(current)
    return lines


def centred(words: str, width: int, height: int) -> list[Line]:
    """*words* as a label in the middle of *width* x *height* cells, wrapped at blanks."""
    rows = wrapped(words, max(width - 4, 1))
    above = max((height - len(rows)) // 2, 0)
    return [()] * above + [(Span(" " * max((width - cell_len(row)) // 2, 0) + row, "label"),) for row in rows]
