"""The line at the bottom of every screen: the keys that matter here. One widget, whatever the number of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import events
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from hwdash.tui.canvas import Canvas
from hwdash.tui.line import Line, Span, line_width


class _Key(NamedTuple):
    label: str
    words: str
    action: str
    owner: DOMNode


class KeyBar(Canvas):
    """The visible bindings of the screen, of what has the focus, and of the app, as many as fit; a click runs one."""

    DEFAULT_CSS = "KeyBar { dock: bottom; height: 1; background: $panel; }"

    def on_mount(self) -> None:
        """Follow the focus and the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The bar's one line."""
        spans: list[Span] = []
        for key in self._fitting(width):
            spans += [Span(f" {key.label} ", "key"), Span(f"{key.words} ", "label")]
        return [tuple(spans)]

    def _fitting(self, width: int) -> list[_Key]:
        """The keys that have room, `?` and `q` kept to the last; left to right as on screen."""
        keys = self._keys()
        while len(keys) > 1 and sum(_width(key) for key in keys) > width:
            keys.pop(-3 if len(keys) > 3 else -2)
        return keys

    def _keys(self) -> list[_Key]:
        found: dict[str, _Key] = {}
        for owner, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.action not in found:
                found[binding.action] = _Key(_label(binding), binding.description, binding.action, owner)
        ends = [key for key in found.values() if key.action in ("help", "quit")]
        return [key for key in found.values() if key not in ends] + ends

    async def on_click(self, event: events.Click) -> None:
        """Run the action whose key was clicked."""
        x = 0
        for key in self._fitting(self.size.width):
            x += _width(key)
            if event.x < x:
                await self.app.run_action(key.action, key.owner)
                return


def _label(binding: Binding) -> str:
    return binding.key_display or KEY_NAMES.get(binding.key, binding.key.replace("ctrl+", "^"))


KEY_NAMES = {
    "up": "Up",
    "down": "Down",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "enter": "Enter",
    "escape": "Esc",
    "space": "Space",
    "tab": "Tab",
    "shift+tab": "Shift-Tab",
    "question_mark": "?",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "left": "Left",
    "right": "Right",
}
"""What people call the keys that Textual names in its own way."""


def _width(key: _Key) -> int:
    return line_width((Span(f" {key.label} {key.words} "),))
