"""Lines that scroll when they are more than fit."""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import Binding

from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line

_WHEEL = 2


def scroll_bindings(prefix: str, page_down: str = "pagedown") -> list[Binding]:
    """The keys that scroll, with ids that begin with *prefix*; *page_down* are those for ten lines down."""
    return [
        Binding("up,k", "move(-1)", "Up", tooltip="One line up", show=False, id=f"{prefix}.up"),
        Binding("down,j", "move(1)", "Down", tooltip="One line down", show=False, id=f"{prefix}.down"),
        Binding("pageup", "move(-10)", "Page up", tooltip="Ten lines up", show=False, id=f"{prefix}.page_up"),
        Binding(page_down, "move(10)", "Page down", tooltip="Ten lines down", show=False, id=f"{prefix}.page_down"),
        Binding("home,g", "move(-1000)", "Top", tooltip="To the top", show=False, id=f"{prefix}.first"),
        Binding("end,G", "move(1000)", "Bottom", tooltip="To the bottom", show=False, id=f"{prefix}.last"),
    ]


class ScrollCanvas(Canvas):
    """A canvas whose subclasses draw what `in_sight` gives of their lines, under the keys of `scroll_bindings`."""

    def __init__(self) -> None:
        super().__init__()
        self.top = 0

    def in_sight(self, lines: Sequence[Line], room: int) -> tuple[Sequence[Line], int]:
        """The *room* lines from ``top`` on, which is moved where that is too far down, and how many lie below them."""
        self.top = max(0, min(self.top, len(lines) - room))
        return lines[self.top : self.top + room], len(lines) - self.top - room

    def action_move(self, lines: int) -> None:
        """Scroll by *lines*."""
        self.top = max(0, self.top + lines)
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.action_move(_WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.action_move(-_WHEEL)
