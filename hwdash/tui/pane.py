"""A pane that tells of the device under the cursor and scrolls when it is too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from hwdash.tui.canvas import Canvas
from hwdash.tui.cursor import arrows
from hwdash.tui.line import Line, Span, fit
from hwdash.tui.row import Row


class ScrollPane(Canvas, can_focus=True):
    """A title with the device's id, and lines about it. Subclasses say what stands there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", tooltip="One line up", show=False, id="facts.up"),
        Binding("down,j", "move(1)", "Down", tooltip="One line down", show=False, id="facts.down"),
        Binding("pageup", "move(-10)", "Page up", tooltip="Ten lines up", show=False, id="facts.page_up"),
        Binding("pagedown", "move(10)", "Page down", tooltip="Ten lines down", show=False, id="facts.page_down"),
        Binding("home,g", "move(-1000)", "Top", tooltip="To the top", show=False, id="facts.first"),
        Binding("end,G", "move(1000)", "Bottom", tooltip="To the bottom", show=False, id="facts.last"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._row: Row | None = None
        self._top = 0

    def show(self, row: Row | None) -> None:
        """Show the device of *row*; another device starts at the top."""
        if row is None or self._row is None or row.key != self._row.key:
            self._top = 0
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
        self._top = max(0, min(self._top, len(lines) - room))
        below = len(lines) - self._top - room
        title = [Span(f" {name} ", "title"), Span(f" {words}", "strong")]
        if self._top or below > 0:
            more = f" {below} more " if below > 0 else " end "
            tail = f"{more}{arrows(self._top, below, glyphs)}"
            used = len(name) + 2 + len(tail) + 1
            words = fit(f" {words}", max(0, width - used - 1), ellipsis=glyphs.ellipsis)
            title = [title[0], Span(words, "strong"), Span(tail, "title" if self.has_focus else "label")]
        return [tuple(title), *lines[self._top : self._top + room]]

    def action_move(self, lines: int) -> None:
        """Scroll by *lines*."""
        self._top = max(0, self._top + lines)
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.action_move(2)

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.action_move(-2)
