"""The stretches of time that the history and the events can show, and the keys that change from one to the next."""

from __future__ import annotations

from typing import NamedTuple

from textual.binding import Binding

from hwdash.tui.line import Line, Span, line_width

_SHORTER = "A shorter stretch of time"
_LONGER = "A longer stretch of time"


class Window(NamedTuple):
    """A stretch of time that the history can show: its length in seconds and its name."""

    seconds: float
    title: str


WINDOWS = (
    Window(5 * 60, "5 min"),
    Window(15 * 60, "15 min"),
    Window(3600, "1 h"),
    Window(6 * 3600, "6 h"),
    Window(24 * 3600, "24 h"),
    Window(7 * 24 * 3600, "7 d"),
)


def stepped(window: Window, step: int) -> Window:
    """The window *step* places longer than *window*, or shorter for a negative one; at the ends the last one there is."""
    return WINDOWS[min(max(WINDOWS.index(window) + step, 0), len(WINDOWS) - 1)]


def window_bindings(mode: str) -> tuple[Binding, ...]:
    """The keys of the screen *mode*: ``span(step)`` for those that steer a recording too, ``window(step)`` for the others."""
    return (
        Binding(
            "left_square_bracket,minus",
            "span(-1)",
            "Shorter",
            key_display="[",
            tooltip=_SHORTER,
            id=f"{mode}.shorter",
        ),
        Binding(
            "right_square_bracket,plus,equals_sign",
            "span(1)",
            "Longer",
            key_display="]",
            tooltip=_LONGER,
            id=f"{mode}.longer",
        ),
        Binding("left", "window(-1)", "Shorter", show=False, tooltip=_SHORTER, id=f"{mode}.left"),
        Binding("right", "window(1)", "Longer", show=False, tooltip=_LONGER, id=f"{mode}.right"),
    )


def with_windows(left: Line, window: Window, width: int) -> Line | None:
    """*left*, and at the right all windows with *window* marked; None where they have no room."""
    tabs = tuple(
        Span(f"[{item.title}]" if item == window else f" {item.title} ", "key" if item == window else "label")
        for item in WINDOWS
    )
    room = width - line_width(left) - line_width(tabs)
    return (*left, Span(" " * room), *tabs) if room >= 0 else None
