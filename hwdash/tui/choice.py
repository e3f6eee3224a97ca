"""A small list over the screen, to choose one entry from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line, Span, sized
from hwdash.tui.palette import ON_CURSOR


class Entry(NamedTuple):
    """One choice: what is returned, and how it looks."""

    value: str
    line: Line


class ChoiceList(Canvas):
    """The title, and the entries around the cursor."""

    DEFAULT_CSS = "ChoiceList { background: $panel; padding: 0 1; height: auto; width: 100%; }"

    def __init__(self, title: str, entries: Sequence[Entry], place: int) -> None:
        super().__init__()
        self._title = title
        self._entries = entries
        self.place = place

    def move(self, step: int) -> None:
        """Move the cursor, around the ends."""
        self.place = (self.place + step) % len(self._entries)
        self.redraw()

    def first(self, height: int) -> int:
        """The number of the first visible entry."""
        return max(0, self.place - max(height - 2, 0))

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """Title and entries."""
        lines: list[Line] = [(Span(self._title, "title"), Span("   Enter takes it, Esc leaves", "label"))]
        first = self.first(height)
        for number, entry in enumerate(self._entries[first:], start=first):
            marked = number == self.place
            line = sized((Span(self.glyphs.cursor if marked else " "), *entry.line), width, self.glyphs.ellipsis)
            lines.append(tuple(Span(text, style + ON_CURSOR) for text, style in line) if marked else line)
        return lines

    def on_click(self, event: events.Click) -> None:
        """Take the entry that was clicked."""
        number = self.first(self.size.height) + event.y - 1
        if event.y >= 1 and number < len(self._entries):
            self.screen.dismiss(self._entries[number].value)


class ChoiceScreen(ModalScreen[str | None]):
    """Returns the value of the chosen entry, or None. *repeat* is a key that also moves down."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j,ctrl+d,ctrl+o,tab", "move(1)", "Down", show=False),
        Binding("enter", "take", "Take"),
        Binding("escape,q", "dismiss(None)", "Leave"),
    ]

    def __init__(self, title: str, entries: Sequence[Entry], current: str) -> None:
        super().__init__()
        self._entries = entries
        place = next((number for number, entry in enumerate(entries) if entry.value == current), 0)
        self._list = ChoiceList(title, entries, place)

    def compose(self) -> ComposeResult:
        """The list."""
        yield self._list

    def on_resize(self) -> None:
        """As high as the entries, as far as there is room."""
        self._list.styles.height = min(len(self._entries) + 1, self.size.height)
        self._list.styles.width = min(76, self.size.width)

    def interrupt(self) -> bool:
        """Leave without a choice."""
        self.dismiss(None)
        return True

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        self._list.move(step)

    def action_take(self) -> None:
        """Return the entry under the cursor."""
        self.dismiss(self._entries[self._list.place].value)
