"""The help: every key by group, and what badges, words and colours mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from hwdash.tui.app import HwdashApp
from hwdash.tui.keybar import KEY_NAMES
from hwdash.tui.line import Line, Span, line_width, wrapped
from hwdash.tui.replay import BINDINGS
from hwdash.tui.scroll import ScrollCanvas, scroll_bindings

_STATES = (
    ("ok", "ok", "healthy"),
    ("warm", "warm 7 °C left", "10 °C or less to the slowdown temperature"),
    ("throttled", "THROTTLED power cap", "the driver holds the clock down, and this is why"),
    ("throttled", "THROTTLED? clock", "suspected: no flag says so, but the device is slower than it was"),
    ("stale", "stale 12 s", "no sample for three intervals; the numbers are old and dimmed"),
    ("lost", "LOST", "the device is gone; it is asked again, slowly"),
    ("muted", "ok, excluded", "healthy, but not suitable; the detail says why"),
    ("muted", "asleep", "powered down by the system; it is not woken up for its readings"),
)
_WORDS = (
    ("#", "place in the ranking; - is excluded"),
    ("LEFT", "°C left to the slowdown temperature"),
    ("CLK", "clock as a share of its maximum"),
    ("TOK/S, TTFT", "decode speed and time to first token of the last request"),
    ("n/a", "not available; the detail says why, and it is never drawn as 0"),
    ("BW, TC", "memory bandwidth and tensor cores, share in use"),
    ("Why (w)", "bars from 0 to 1 that make up the score; a full one is the best, whatever it measures"),
    ("n new", "warnings and worse since Events was open last"),
    ("traces", "two points a cell, newest right; a gap is a time without readings"),
)


class HelpText(ScrollCanvas, can_focus=True):
    """The scrolling text of the help."""

    BINDINGS: ClassVar[list[BindingType]] = [*scroll_bindings("help", "pagedown,space")]

    def __init__(self, groups: Sequence[tuple[str, Sequence[Binding]]]) -> None:
        super().__init__()
        self._groups = groups

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """A title with the scroll position, then as much of the text as fits."""
        glyphs = self.glyphs
        text = list(self._text(width - 2))
        room = max(1, height - 1)
        lines, below = self.in_sight(text, room)
        arrows = (glyphs.up if self.top else "") + (f" {below} more {glyphs.down}" if below > 0 else "")
        title: Line = (Span(" Help", "title"), Span("   Esc closes", "label"), Span(f"   {arrows}", "label"))
        return [title, *((Span(" "), *line) for line in lines)]

    def _text(self, width: int) -> Iterable[Line]:
        for title, bindings in self._groups:
            yield ()
            yield (Span(title, "strong"),)
            for binding in bindings:
                yield from _entry(keys_text(binding), binding.tooltip or binding.description, "key", 16, width)
        yield ()
        yield (Span("States", "strong"),)
        for style, words, meaning in _STATES:
            yield from _entry(words, meaning, style, 22, width)
        yield ()
        yield (Span("Words", "strong"),)
        for words, meaning in _WORDS:
            yield from _entry(words, meaning, "label", 16, width)


def _entry(head: str, words: str, style: str, column: int, width: int) -> Iterable[Line]:
    for number, part in enumerate(wrapped(words, max(10, width - column - 2))):
        first: Line = (Span("  "), Span(head, style)) if number == 0 else ()
        yield (*first, Span(" " * max(1, column + 2 - line_width(first))), Span(part))


def keys_text(binding: Binding) -> str:
    """The keys of a binding as a person reads them: ``Up, k``."""
    names = [
        KEY_NAMES.get(key, key.replace("ctrl+", "Ctrl-").replace("shift+", "Shift-")) for key in binding.key.split(",")
    ]
    return ", ".join(names)


def key_groups(screens: Iterable[tuple[str, Sequence[BindingType]]]) -> list[tuple[str, list[Binding]]]:
    """Groups of bindings with a description, in the order given, those without one left out."""
    groups = []
    for title, bindings in screens:
        kept = [item for item in bindings if isinstance(item, Binding) and item.description]
        if kept:
            groups.append((title, kept))
    return groups


class HelpScreen(ModalScreen[None]):
    """The help over whatever screen is open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "Close", tooltip="Close the help", id="help.close"),
    ]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpText { width: 84; max-width: 100%; height: 100%; background: $panel; }
    """

    def __init__(self, behind: Sequence[tuple[str, Sequence[BindingType]]] = (), *, replay: bool = False) -> None:
        super().__init__()
        self._behind = behind
        self._replay = BINDINGS if replay else ()

    def compose(self) -> ComposeResult:
        """One text."""
        focus = Binding("tab,shift+tab", "", "Focus", tooltip="To the next part of the screen, and back")
        everywhere = [binding for binding in HwdashApp.BINDINGS if binding not in BINDINGS]
        groups: list[tuple[str, Sequence[BindingType]]] = [
            ("Everywhere", [*everywhere, focus]),
            ("Replay", self._replay),
            *self._behind,
        ]
        yield HelpText(key_groups(groups))

    def action_close(self) -> None:
        """Back to where the user was."""
        self.dismiss()
