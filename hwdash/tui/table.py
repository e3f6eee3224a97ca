"""The device table: one widget that repaints only what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from hwdash.tui.canvas import Canvas
from hwdash.tui.column import heading, plan, row_line
from hwdash.tui.cursor import place_words, rule, top_for, under_cursor
from hwdash.tui.line import Line, Span, sized
from hwdash.tui.messages import DeviceSelected, PromptRequested, SortChanged
from hwdash.tui.row import Row, SortOrder


def _move(key: str, action: str, words: str) -> Binding:
    return Binding(key, action, words, tooltip=words, show=False, id=f"table.{action}")


class DeviceTable(Canvas, can_focus=True):
    """Devices as rows with a cursor. Posts `DeviceSelected` when the cursor comes to another device."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "prompt", "Prompt it", tooltip="Prompt the device under the cursor", id="table.prompt"),
        Binding("s", "sort", "Sort", tooltip="Sort by rank, name, utilisation, temperature, memory", id="table.sort"),
        _move("up,k", "up", "One device up"),
        _move("down,j", "down", "One device down"),
        _move("pageup", "page_up", "One page up"),
        _move("pagedown", "page_down", "One page down"),
        _move("home,g", "first", "First device"),
        _move("end,G", "last", "Last device"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.order = SortOrder.RANK
        self._rows: tuple[Row, ...] = ()
        self._old = False
        self._policy = ""
        self._selected = ""
        self._top = 0

    @property
    def selected(self) -> Row | None:
        """The row under the cursor; None while there are no devices."""
        return next((row for row in self._rows if row.key == self._selected), None)

    @property
    def wanted_height(self) -> int:
        """Lines that show everything: heading, rows, closing rule."""
        return max(1, len(self._rows)) + 2

    def show(self, rows: tuple[Row, ...], *, old: bool = False, policy: str = "") -> None:
        """Show *rows*; the cursor stays on its device. *policy* is what they are ranked for, empty where that goes without saying."""
        place = self._cursor
        self._rows, self._old, self._policy = rows, old, policy
        if rows and self.selected is None:
            self._select(min(place, len(rows) - 1))
        self.redraw()

    def select(self, key: str) -> None:
        """Put the cursor on the device with this stable key, if it is there."""
        if (place := next((index for index, row in enumerate(self._rows) if row.key == key), None)) is not None:
            self._select(place)

    @property
    def _cursor(self) -> int:
        return next((index for index, row in enumerate(self._rows) if row.key == self._selected), 0)

    def _page(self, height: int) -> int:
        return max(1, height - (2 if height >= 3 else 0))

    def _select(self, index: int) -> None:
        if not self._rows:
            return
        row = self._rows[max(0, min(index, len(self._rows) - 1))]
        if row.key != self._selected:
            self._selected = row.key
            self.post_message(DeviceSelected(row.key))
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """Heading, the rows around the cursor, and a rule that says how many there are."""
        page = self._page(height)
        cursor = self._cursor
        self._top = top_for(cursor, self._top, page, len(self._rows))
        columns, gap = plan(width - 1, self._rows)
        glyphs = self.glyphs
        lines: list[Line] = []
        if height >= 3:
            lines.append((Span(" "), *heading(columns, gap, self.order, glyphs)))
        for index, row in enumerate(self._rows[self._top : self._top + page], start=self._top):
            line = sized((Span(" "), *row_line(row, columns, gap, glyphs, old=self._old)), width, glyphs.ellipsis)
            lines.append(under_cursor(line, glyphs, focused=self.has_focus) if index == cursor else line)
        if height >= 3:
            lines += [()] * (height - 1 - len(lines))
            lines.append(self._rule(width, page))
        return lines

    def _rule(self, width: int, page: int) -> Line:
        glyphs, count = self.glyphs, len(self._rows)
        words = f" sorted by {self.order} " if count else " no devices "
        if count and self._policy:
            words = f" ranked for {self._policy}{glyphs.dot.center(3)}{words[1:]}"
        if place := place_words(self._top, page, count, glyphs):
            words = f" {place} devices{glyphs.dot.center(3)}{words[1:]}"
        if self._old:
            words = f" OLD DATA{words}"
        return rule(words, "lost" if self._old else "label", width, glyphs)

    # ------------------------------------------------------------------ keys and mouse

    def action_up(self) -> None:
        """One device up."""
        self._select(self._cursor - 1)

    def action_down(self) -> None:
        """One device down."""
        self._select(self._cursor + 1)

    def action_page_up(self) -> None:
        """One page up."""
        self._select(self._cursor - self._page(self.size.height))

    def action_page_down(self) -> None:
        """One page down."""
        self._select(self._cursor + self._page(self.size.height))

    def action_first(self) -> None:
        """To the first device."""
        self._select(0)

    def action_last(self) -> None:
        """To the last device."""
        self._select(len(self._rows) - 1)

    def action_prompt(self) -> None:
        """Prompt the device under the cursor."""
        if (row := self.selected) is not None:
            self.post_message(PromptRequested(row.status.device.id))

    def action_sort(self) -> None:
        """Ask the screen for the next order."""
        self.order = self.order.next
        self.post_message(SortChanged())

    def on_click(self, event: events.Click) -> None:
        """Select the clicked device."""
        line = event.y - (1 if self.size.height >= 3 else 0)
        if 0 <= line < self._page(self.size.height) and self._top + line < len(self._rows):
            self._select(self._top + line)

    def on_mouse_scroll_down(self) -> None:
        """One device down."""
        self.action_down()

    def on_mouse_scroll_up(self) -> None:
        """One device up."""
        self.action_up()
