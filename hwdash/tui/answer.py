"""Text broken into rows of a terminal while it still grows: pure, and cheap however long the text is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from rich.cells import cell_len, split_graphemes

from hwdash.core.text import sanitise

TAB = "    "


def wrap(paragraph: str, width: int) -> Iterator[str]:
    """The rows of a *paragraph* without line breaks, at least one; joined they are the paragraph.

    A row breaks after its last space, else beside its last wide character, else where it is full. Without the
    spaces at its end, which hang over, no row is wider than *width* (at least 2) cells. Where a row ends depends only on the
    text from its own start, so a text that grew needs a new wrap from the start of its last row only.
    """
    start = 0
    while True:
        end = _row_end(paragraph, start, max(2, width))
        yield paragraph[start:end]
        start = end
        if start >= len(paragraph):
            return


def _row_end(text: str, start: int, width: int) -> int:
    # Characters without a width could fill a row for ever; this many in one row are enough.
    piece = text[start : start + 4 * width + 32]
    stops, overflow = _fitting(piece, width)
    if not overflow:
        return start + len(piece)
    end = stops[-1][0]
    if piece[end] == " ":
        while start + end < len(text) and text[start + end] == " ":
            end += 1
        return start + end
    for position, wide in reversed(stops):
        if piece[position - 1] == " " and not piece[:position].isspace():
            return start + position
        if wide:
            return start + position
    return start + end


def _fitting(piece: str, width: int) -> tuple[list[tuple[int, bool]], bool]:
    """Where *piece* could end within *width* cells, each with whether a wide character is beside it; whether more follows."""
    stops: list[tuple[int, bool]] = []
    cells = 0
    before = 0
    for begin, end, size in split_graphemes(piece)[0]:
        if stops and size == 2:
            stops[-1] = (stops[-1][0], True)
        cells += size
        if cells > width and stops:
            return stops, True
        stops.append((end, size == 2))
        before = size
    del before
    return stops, False
