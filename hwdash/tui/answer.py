"""Text broken into rows of a terminal while it still grows: pure, and cheap however long the text is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from rich.cells import get_character_cell_size, split_graphemes

from hwdash.core.text import sanitise

TAB = "    "
MIN_WIDTH = 2


def wrap(paragraph: str, width: int) -> Iterator[str]:
    """The rows of a *paragraph* without line breaks, at least one; joined they are the paragraph.

    A row breaks after its last space, else beside its last wide character, else where it is full. Not counting
    the spaces at its end, which hang over, no row is wider than *width* (at least `MIN_WIDTH`) cells. Where a row
    ends depends on the text from its own start only, so text that grew is wrapped anew from its last row on.
    """
    start = 0
    while True:
        end = _row_end(paragraph, start, max(MIN_WIDTH, width))
        yield paragraph[start:end]
        start = end
        if start >= len(paragraph):
            return


def _row_end(text: str, start: int, width: int) -> int:
    # Characters without a width could fill a row for ever; this many in one row are enough.
    piece = text[start : start + 4 * width + 32]
    if piece[: width + 1].isascii():
        full, wide = width, 0
    else:
        full, wide = _full(piece, width)
    if full >= len(piece):
        return start + len(piece)
    if piece[full] == " ":
        while full < len(text) - start and text[start + full] == " ":
            full += 1
        return start + full
    after_space = piece.rfind(" ", 0, full) + 1
    if piece[:after_space].isspace():
        after_space = 0
    return start + (max(after_space, wide) or full)


def _full(piece: str, width: int) -> tuple[int, int]:
    """Where *piece* has filled *width* cells, and the last place before or there that is beside a wide character (or 0)."""
    cells = beside = 0
    wide = False
    for begin, _, size in split_graphemes(piece)[0]:
        # The width of the first character decides: a selector that comes later must not move a finished row's end.
        was_wide, wide = wide, get_character_cell_size(piece[begin]) == 2
        if begin and (was_wide or wide):
            beside = begin
        cells += size
        if cells > width and begin:
            return begin, beside
    return len(piece), beside


class Kind(StrEnum):
    """What a block of the transcript is; also the name of its style."""

    PROMPT = "prompt"
    HEAD = "head"
    ANSWER = "answer"
    NOTE = "note"
    PROBLEM = "problem"


class Row(NamedTuple):
    """One row: what it belongs to, its text, and whether it begins its block."""

    kind: Kind
    text: str
    first: bool


@dataclass(slots=True)
class _Block:
    kind: Kind
    paragraphs: list[str]
    rows: int


class Transcript:
    """What was said, in blocks, as rows of *width* cells. Text is made safe on its way in.

    ``add``, ``extend`` and ``resize`` return the number of the first row that changed. Beyond ``max_rows`` rows
    the oldest blocks are dropped, all but the newest.
    """

    def __init__(self, width: int = 80, max_rows: int = 20_000) -> None:
        self.width = width
        self.max_rows = max_rows
        self.rows: list[Row] = []
        self._blocks: list[_Block] = []

    def add(self, kind: Kind, text: str = "") -> int:
        """Begin a new block."""
        self._blocks.append(_Block(kind, [""], 0))
        self._append_rows(self._blocks[-1], "")
        first = len(self.rows) - 1
        self.extend(text)
        return 0 if self._prune() else first

    def extend(self, text: str) -> int:
        """Let the newest block grow by *text*. There must be one."""
        block = self._blocks[-1]
        if not text:
            return len(self.rows)
        first, *more = sanitise(text).replace("\t", TAB).split("\n")
        block.paragraphs[-1] += first
        last = self.rows.pop()
        block.rows -= 1
        changed = len(self.rows)
        self._append_rows(block, last.text + first)
        for paragraph in more:
            block.paragraphs.append(paragraph)
            self._append_rows(block, paragraph)
        return changed

    def resize(self, width: int) -> int:
        """Break everything anew for *width* cells."""
        if width != self.width:
            self.width = width
            self.rows.clear()
            for block in self._blocks:
                block.rows = 0
                for paragraph in block.paragraphs:
                    self._append_rows(block, paragraph)
        return 0

    def clear(self) -> None:
        """Forget everything."""
        self.rows.clear()
        self._blocks.clear()

    def text(self, kind: Kind) -> str:
        """The text of the newest block of *kind*, or an empty string."""
        return next(("\n".join(block.paragraphs) for block in reversed(self._blocks) if block.kind is kind), "")

    def _append_rows(self, block: _Block, paragraph: str) -> None:
        for text in wrap(paragraph, self.width):
            self.rows.append(Row(block.kind, text, block.rows == 0))
            block.rows += 1

    def _prune(self) -> bool:
        dropped = 0
        while len(self.rows) - dropped > self.max_rows and len(self._blocks) > 1:
            dropped += self._blocks.pop(0).rows
        del self.rows[:dropped]
        return bool(dropped)
