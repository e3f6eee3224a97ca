"""A cursor in a list that is longer than its room: what is in sight, how its line looks, where it stands. Pure."""

from __future__ import annotations

from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, line_width
from hwdash.tui.palette import ON_BLURRED_CURSOR, ON_CURSOR


def top_for(place: int, top: int, page: int, count: int) -> int:
    """The first of *page* items in sight out of *count*: as near to *top* as it can be with the item at *place* in sight."""
    return max(0, min(top, place, count - page), place - page + 1)


def under_cursor(line: Line, glyphs: Glyphs, *, focused: bool) -> Line:
    """*line*, which begins with a blank, with the cursor in that blank's place and behind all of it."""
    mark = ON_CURSOR if focused else ON_BLURRED_CURSOR
    head, *rest = line
    first = (Span(glyphs.cursor, f"title{mark}"), Span(head.text[1:], head.style + mark))
    return (*first, *(Span(span.text, span.style + mark) for span in rest))


def arrows(above: int, below: int, glyphs: Glyphs) -> str:
    """In which directions there is more."""
    return (glyphs.up if above > 0 else "") + (glyphs.down if below > 0 else "")


def place_words(top: int, page: int, count: int, glyphs: Glyphs) -> str:
    """Which of how many are in sight; empty when all are."""
    if count <= page:
        return ""
    return f"{arrows(top, count - page - top, glyphs)} {top + 1}-{top + page} of {count}"


def rule(words: str, style: str, width: int, glyphs: Glyphs) -> Line:
    """The line that closes a list, with *words* near its end."""
    tail = (Span(words, style), Span(glyphs.rule * 2, "faint"))
    return (Span(glyphs.rule * max(0, width - line_width(tail)), "faint"), *tail)
