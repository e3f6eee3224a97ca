"""The traces of the last minutes, and bars: what they show of numbers at and beyond their edges."""

from __future__ import annotations

from hwdash.tui.cell import bar
from hwdash.tui.glyphs import UNICODE
from hwdash.tui.line import plain
from hwdash.tui.trace import draw_trace


def test_a_number_far_beyond_the_edge_is_drawn_at_the_edge() -> None:
    assert draw_trace((1e308, 1e308), 0.0, 1.0, 3, UNICODE) == draw_trace((1.0, 1.0), 0.0, 1.0, 3, UNICODE)
    assert draw_trace((-1e308, None), 0.0, 1.0, 3, UNICODE) == draw_trace((0.0, None), 0.0, 1.0, 3, UNICODE)
    assert bar(1e308, 10, "bar", UNICODE) == bar(1.0, 10, "bar", UNICODE)
    assert plain(bar(-1e308, 10, "bar", UNICODE)) == plain(bar(0.0, 10, "bar", UNICODE))
