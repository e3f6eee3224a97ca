"""The widget of the transcript: a window on its rows that follows the newest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from hwdash.tui.answer import Kind, Transcript
from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line, Span, wrapped

_GUTTER = 2
_STYLES = {
    Kind.PROMPT: "strong",
    Kind.HEAD: "title",
    Kind.ANSWER: "text",
    Kind.NOTE: "label",
    Kind.PROBLEM: "throttled",
}


class TranscriptView(Canvas, can_focus=True):
    """Shows a `Transcript`. It stays at the end while text comes in, unless the user scrolled away from it."""

    DEFAULT_CSS = "TranscriptView { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_rows(-1)", "Up", show=False, tooltip="One row up", id="transcript.up"),
        Binding("down,j", "scroll_rows(1)", "Down", show=False, tooltip="One row down", id="transcript.down"),
        Binding("home,g", "scroll_first", "Top", show=False, tooltip="To the first row", id="transcript.home"),
        Binding("end,G", "scroll_last", "End", show=False, tooltip="To the end, and follow", id="transcript.end"),
    ]

    def __init__(self, welcome: str) -> None:
        super().__init__()
        self.transcript = Transcript()
        self._welcome = welcome
        self._top = 0
        self._following = True

    @property
    def below(self) -> int:
        """How many rows stand below the visible ones."""
        return max(0, len(self.transcript.rows) - self._top - self.size.height)

    def add(self, kind: Kind, text: str = "") -> None:
        """Begin a new block with *text*."""
        self.transcript.add(kind, text)
        self._settle()

    def extend(self, text: str) -> None:
        """Let the newest block grow."""
        self.transcript.extend(text)
        self._settle()

    def clear(self) -> None:
        """Forget everything that was said."""
        self.transcript.clear()
        self._following = True
        self._settle()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The visible rows, or the welcome."""
        rows = self.transcript.rows
        if not rows:
            return [(Span(f"  {row}", "label"),) for row in ["", *wrapped(self._welcome, max(width - 4, 1))]]
        lines: list[Line] = []
        for kind, text, first in rows[self._top : self._top + height]:
            mark = ">" if kind is Kind.PROMPT and first else "!" if kind is Kind.PROBLEM and first else ""
            lines.append((Span(mark.ljust(_GUTTER), _STYLES[kind]), Span(text.rstrip(" "), _STYLES[kind])))
        return lines

    def on_resize(self) -> None:
        """Break the text for the new width."""
        self.transcript.resize(max(self.size.width - _GUTTER - 1, 2))
        self._settle()

    def action_scroll_rows(self, rows: int) -> None:
        """Move by some rows; at the end, follow again."""
        last = self._last_top()
        self._top = min(max(self._top + rows, 0), last)
        self._following = self._top == last
        self.redraw()

    def action_scroll_pages(self, pages: int) -> None:
        """Move by pages, less one row."""
        self.action_scroll_rows(pages * max(self.size.height - 1, 1))

    def action_scroll_first(self) -> None:
        """Show the beginning."""
        self.action_scroll_rows(-len(self.transcript.rows))

    def action_scroll_last(self) -> None:
        """Show the end, and follow it."""
        self.action_scroll_rows(len(self.transcript.rows))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three rows up."""
        event.stop()
        self.action_scroll_rows(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three rows down."""
        event.stop()
        self.action_scroll_rows(3)

    def _last_top(self) -> int:
        return max(0, len(self.transcript.rows) - max(self.size.height, 1))

    def _settle(self) -> None:
        last = self._last_top()
        self._top = last if self._following else min(self._top, last)
        self.redraw()
