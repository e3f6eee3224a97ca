"""The list of events: newest first, with a cursor; repaints only what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from hwdash.core.event import Event
from hwdash.tui.canvas import Canvas
from hwdash.tui.cursor import place_words, rule, top_for, under_cursor
from hwdash.tui.event_line import event_line, form_of
from hwdash.tui.line import Line, centred


def _move(key: str, action: str, words: str) -> Binding:
    return Binding(key, action, words, tooltip=words, show=False, id=f"events.{key.partition(',')[0]}")


class EventList(Canvas, can_focus=True):
    """Events as lines. The cursor stays on its event; on the first line it stays with the newest one."""

    DEFAULT_CSS = "EventList { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "go", "Go to it", tooltip="Go to the device of this event", id="events.go"),
        _move("up,k", "move(-1)", "One event up, to newer ones"),
        _move("down,j", "move(1)", "One event down, to older ones"),
        _move("pageup", "page(-1)", "One page up"),
        _move("pagedown", "page(1)", "One page down"),
        _move("home,g", "move(-100000)", "The newest event"),
        _move("end,G", "move(100000)", "The oldest event"),
    ]

    class Selected(Message):
        """The cursor came to another event."""

    @dataclass
    class DeviceWanted(Message):
        """The user wants to see the device with this stable key, short name *device*."""

        key: str
        device: str

    def __init__(self) -> None:
        super().__init__()
        self._events: tuple[Event, ...] = ()
        self._words = ""
        self._today = date.min
        self._place = 0
        self._top = 0

    @property
    def selected(self) -> Event | None:
        """The event under the cursor; None while there are none."""
        return self._events[self._place] if self._events else None

    def show(self, found: tuple[Event, ...], words: str, today: date) -> None:
        """List *found*, newest first, or say *words* where there are none; *today* is the local day."""
        before = self.selected
        self._events, self._words, self._today = found, words, today
        if before is None or self._place == 0 or before not in found:
            self._place = max(0, min(self._place, len(found) - 1))
        else:
            self._place = found.index(before)
        self.redraw()

    def _page(self, height: int) -> int:
        return max(1, height - (1 if height >= 3 else 0))

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The events around the cursor, and a rule that says which of how many they are."""
        if not self._events:
            return centred(self._words, width, height)
        page = self._page(height)
        self._top = top_for(self._place, self._top, page, len(self._events))
        shown = self._events[self._top : self._top + page]
        form = form_of(shown, width, self._today)
        lines = [event_line(event, width, self.glyphs, form) for event in shown]
        cursor = self._place - self._top
        lines[cursor] = under_cursor(lines[cursor], self.glyphs, focused=self.has_focus)
        if height >= 3:
            lines += [()] * (height - 1 - len(lines))
            lines.append(self._rule(width, page))
        return lines

    def _rule(self, width: int, page: int) -> Line:
        glyphs, words = self.glyphs, " newest first "
        if place := place_words(self._top, page, len(self._events), glyphs):
            words = f" {place}{glyphs.dot.center(3)}newest first "
        return rule(words, "label", width, glyphs)

    # ------------------------------------------------------------------ keys and mouse

    def action_move(self, step: int) -> None:
        """Move the cursor by *step* events."""
        place = max(0, min(self._place + step, len(self._events) - 1))
        if place != self._place:
            self._place = place
            self.post_message(self.Selected())
            self.redraw()

    def action_page(self, pages: int) -> None:
        """Move the cursor by *pages*."""
        self.action_move(pages * self._page(self.size.height))

    def action_go(self) -> None:
        """Ask for the device of the event under the cursor."""
        if (event := self.selected) is not None:
            self.post_message(self.DeviceWanted(event.key, event.device or event.key))

    def on_click(self, event: events.Click) -> None:
        """Select the clicked event."""
        if 0 <= event.y < self._page(self.size.height) and self._top + event.y < len(self._events):
            self.action_move(self._top + event.y - self._place)

    def on_mouse_scroll_down(self) -> None:
        """One event down."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """One event up."""
        self.action_move(-1)
