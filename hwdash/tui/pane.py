"""A pane that tells of the device under the cursor and scrolls when it is too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType

from hwdash.tui.cursor import arrows
from hwdash.tui.line import Line, Span, fit
from hwdash.tui.row import Row
from hwdash.tui.scroll import ScrollCanvas, scroll_bindings


class ScrollPane(ScrollCanvas, can_focus=True):
    """A title with the device's id, and lines about it. Subclasses say what stands there."""

    BINDINGS: ClassVar[list[BindingType]] = [*scroll_bindings("facts")]

    def __init__(self) -> None:
        super().__init__()
        self._row: Row | None = None

    def show(self, row: Row | None) -> None:
        """Show the device of *row*; another device starts at the top."""
        if row is None or self._row is None or row.key != self._row.key:
            self.top = 0
        self._row = row
        self.redraw()

    def heading(self, row: Row) -> str:
        """What the title says after the id."""
        raise NotImplementedError

    def content(self, row: Row, width: int) -> Sequence[Line]:
        """The lines below the title, for *width* cells."""
        raise NotImplementedError

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The title, then as many lines as fit; the title says how many are out of sight."""
        if self._row is None:
            return []
        glyphs = self.glyphs
        name = self._row.status.device.id
        words = self.heading(self._row)
        lines = self.content(self._row, width - 1)
        room = max(1, height - 1)
        lines, below = self.in_sight(lines, room)
        title = [Span(f" {name} ", "title"), Span(f" {words}", "strong")]
        if self.top or below > 0:
            more = f" {below} more " if below > 0 else " end "
            tail = f"{more}{arrows(self.top, below, glyphs)}"
            used = len(name) + 2 + len(tail) + 1
            words = fit(f" {words}", max(0, width - used - 1), ellipsis=glyphs.ellipsis)
            title = [title[0], Span(words, "strong"), Span(tail, "title" if self.has_focus else "label")]
        return [tuple(title), *lines]
