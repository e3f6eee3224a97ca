"""A canvas whose lines come from a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line


class Part(Canvas):
    """Shows what *lines* gives for a width and a height."""

    def __init__(self, lines: Callable[[int, int], Sequence[Line]]) -> None:
        super().__init__()
        self._draw_lines = lines

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The lines."""
        return self._draw_lines(width, height)
