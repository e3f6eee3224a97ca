"""A canvas for drawings that take a while to make."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line, centred


class Picture(Canvas):
    """Lines that were drawn elsewhere, or some words in the middle."""

    DEFAULT_CSS = "Picture { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Line, ...] = ()
        self._words = ""

    class Resized(Message):
        """There is another number of cells to draw in."""

    def on_resize(self) -> None:
        """Ask for a new drawing."""
        self.post_message(self.Resized())

    def show(self, lines: tuple[Line, ...]) -> None:
        """Show a finished drawing."""
        self._shown, self._words = lines, ""
        self.redraw()

    def say(self, words: str) -> None:
        """Show a sentence instead of a drawing."""
        self._words = words
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The drawing, or the sentence."""
        return centred(self._words, width, height) if self._words else self._shown
