"""A widget that draws lines of spans and repaints only the cells that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from hwdash.tui.glyphs import UNICODE, Glyphs
from hwdash.tui.line import Line, Span, sized
from hwdash.tui.palette import resolve

_MERGE_GAP = 12
"""Unchanged cells between two changed ones that are cheaper to send again than to jump over."""


class Canvas(Widget):
    """A widget of lines. Subclasses implement `draw` and call `redraw` when what they show may have changed.

    `draw` is pure and cheap; `redraw` compares its lines with those on screen and refreshes the changed runs of cells.
    """

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._given: list[Line] = []
        self._lines: list[Line] = []
        self._drawn_for: tuple[int, int] = (-1, -1)
        self._styles_by_name: dict[str, Style] = {}
        self._background: Color | None = None
        self._strips: dict[int, Strip] = {}

    @property
    def glyphs(self) -> Glyphs:
        """The characters of this terminal."""
        glyphs: Glyphs = getattr(self.app, "glyphs", UNICODE)
        return glyphs

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The lines to show in *width* x *height* cells; shorter lines are padded, longer ones cut."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again and repaint the cells that differ. Does nothing before the first layout or while hidden."""
        width, height = self.size
        if not width or not height or not self.is_mounted or not self.screen.is_current:
            self._drawn_for = (-1, -1)
            return
        if self._drawn_for != (width, height):
            self._draw_all(width, height)
            self.refresh()
            return
        before = self._lines
        self._lines = self._drawn(width, height)
        changed: list[Region] = []
        for y, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if old != new:
                self._strips.pop(y, None)
                changed += [Region(start, y, end - start, 1) for start, end in changed_runs(old, new)]
        if changed:
            self.refresh(*changed)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The newest drawing within *crop*.

        Textual's own way asks for border, padding and opacity again and again, which is a third of the cost of a tick;
        a canvas that has a gutter takes it.
        """
        if any(self.gutter):
            return super().render_lines(crop)
        width, height = self.size
        if self._drawn_for != (width, height):
            self._draw_all(width, height)
        strips = [self._strip(y, width) for y in crop.line_range]
        return strips if crop.column_span == (0, width) else [strip.crop(crop.x, crop.right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """One whole line of the newest drawing."""
        width, height = self.size
        if self._drawn_for != (width, height):
            self._draw_all(width, height)
        return self._strip(y, width)

    def notify_style_update(self) -> None:
        """Forget resolved colours when the theme changed."""
        super().notify_style_update()
        self._styles_by_name.clear()
        self._strips.clear()
        self._background = None

    def on_focus(self) -> None:
        """Show that the keys are for this now."""
        self.redraw()

    def on_blur(self) -> None:
        """Show that they no longer are."""
        self.redraw()

    def _strip(self, y: int, width: int) -> Strip:
        """A line in its colours. Strips are costly to make, so each is kept until its line changes."""
        if (strip := self._strips.get(y)) is None:
            line = self._lines[y] if 0 <= y < len(self._lines) else (Span(" " * width),)
            segments = [Segment(span.text, self._style(span.style)) for span in line]
            for line_filter in self.get_line_filters():
                segments = line_filter.apply(segments, self._ground())
            strip = self._strips[y] = Strip(segments, width)
        return strip

    def _ground(self) -> Color:
        if self._background is None:
            self._background = self.background_colors[1]
        return self._background

    def _draw_all(self, width: int, height: int) -> None:
        self._lines = self._drawn(width, height)
        self._strips.clear()
        self._drawn_for = (width, height)

    def _drawn(self, width: int, height: int) -> list[Line]:
        """What `draw` gives, in the terminal's characters and at full width; a line that it gives again is kept."""
        glyphs = self.glyphs
        given = list(self.draw(width, height)[:height])
        kept = self._given if self._drawn_for == (width, height) else []
        lines = [
            self._lines[y]
            if y < len(kept) and kept[y] == line
            else sized((Span(glyphs.text(text), style) for text, style in line), width, glyphs.ellipsis)
            for y, line in enumerate(given)
        ]
        self._given = given
        blank: Line = (Span(" " * width),)
        return lines + [blank] * (height - len(lines))

    def _style(self, name: str) -> Style:
        if (style := self._styles_by_name.get(name)) is None:
            style = resolve(name, self.app.theme_variables, self._ground())
            self._styles_by_name[name] = style
        return style


def changed_runs(old: Line, new: Line) -> Iterator[tuple[int, int]]:
    """The runs of cells ``(start, end)`` in which two lines of one width differ, close ones joined."""
    start = end = -1
    for index, (before, after) in enumerate(zip(_cells(old), _cells(new), strict=False)):
        if before == after:
            continue
        if start >= 0 and index - end > _MERGE_GAP:
            yield start, end
            start = index
        elif start < 0:
            start = index
        end = index + 1
    if start >= 0:
        yield start, end


def _cells(line: Line) -> list[tuple[str, str]]:
    """One entry a cell: what is drawn there and how. The right half of a wide character is part of its left."""
    cells: list[tuple[str, str]] = []
    for text, style in line:
        if cell_len(text) == len(text):
            cells.extend(zip(text, repeat(style)))
            continue
        for char in text:
            width = cell_len(char)
            if width == 0 and cells:
                cells[-1] = (cells[-1][0] + char, style)
            cells.extend((char, style) for _ in range(width))
    return cells
