"""The named styles that canvases draw with, resolved from the theme's variables.

They are not component classes: those would be matched against the whole style sheet for every canvas and name, which
doubles the time to the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rich.style import Style
from textual.color import Color


class _Recipe(NamedTuple):
    variable: str
    bold: bool = False
    reverse: bool = False


_RECIPES: Mapping[str, _Recipe] = MappingProxyType(
    {
        "text": _Recipe("hw-text"),
        "muted": _Recipe("hw-muted"),
        "faint": _Recipe("hw-faint"),
        "label": _Recipe("hw-label"),
        "title": _Recipe("hw-title", bold=True),
        "key": _Recipe("hw-key", bold=True),
        "strong": _Recipe("hw-text", bold=True),
        "bar": _Recipe("hw-bar"),
        "bar-back": _Recipe("hw-bar-back"),
        "memory": _Recipe("hw-memory"),
        "ok": _Recipe("hw-ok"),
        "warm": _Recipe("hw-warm", bold=True),
        "throttled": _Recipe("hw-throttled", bold=True),
        "stale": _Recipe("hw-stale", bold=True),
        "lost": _Recipe("hw-lost", bold=True, reverse=True),
        "trace-1": _Recipe("hw-trace-1"),
        "trace-2": _Recipe("hw-trace-2"),
        "trace-3": _Recipe("hw-trace-3"),
        "trace-4": _Recipe("hw-trace-4"),
        "band": _Recipe("hw-chart-band"),
    }
)

STYLES = tuple(_RECIPES)
"""Every style name that a span may carry."""

ON_CURSOR = "@"
"""Appended to a style name: the same style on the cursor's background."""
ON_BLURRED_CURSOR = "~"
"""Appended to a style name: the same style on the background of a cursor without focus."""
ON_BAND = "%"
"""Appended to a style name: the same style on the background of a marked stretch of time."""
_BAND_SHARE = 0.2


def resolve(name: str, variables: Mapping[str, str], background: Color) -> Style:
    """The style *name* in the theme with these *variables*, on *background*.

    In a theme of the terminal's own colours the cursor is reverse video, which needs no colour at all.
    Raises KeyError for a name that is not in `STYLES`, with or without a mark.
    """
    recipe = _RECIPES[name.rstrip(ON_CURSOR + ON_BLURRED_CURSOR + ON_BAND)]
    bold, reverse = recipe.bold or None, recipe.reverse or None
    if name[-1] in ON_CURSOR + ON_BLURRED_CURSOR:
        cursor = Color.parse(variables["hw-cursor"])
        if cursor.ansi is not None and name.endswith(ON_CURSOR):
            return Style(bold=bold, reverse=not recipe.reverse)
        if cursor.ansi is None and background.ansi is None:
            background = background.blend(cursor, 1.0 if name.endswith(ON_CURSOR) else 0.5)
    if name.endswith(ON_BAND):
        band = Color.parse(variables["hw-chart-band"])
        # The terminal's own colours cannot be mixed, and a full one would hide what is drawn on it.
        if band.ansi is None and background.ansi is None:
            background = background.blend(band, _BAND_SHARE)
    colour = _parsed(variables[recipe.variable], background)
    return Style(color=colour.rich_color, bgcolor=background.rich_color, bold=bold, reverse=reverse)


def _parsed(text: str, background: Color) -> Color:
    colour = Color.parse(text)
    if colour.ansi is None and colour.a < 1:
        return background + colour if background.ansi is None else colour.with_alpha(1.0)
    return colour
