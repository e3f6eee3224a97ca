"""The line that says where a replay stands, and the keys that steer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.binding import Binding

from hwdash.core.replay import SPEEDS, ReplayRequest, ReplayState
from hwdash.core.text import sanitise_line
from hwdash.tui.canvas import Canvas
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, line_width


def _key(key: str, what: str, words: str, tooltip: str) -> Binding:
    return Binding(key, f"replay('{what}')", words, tooltip=tooltip, show=False, id=f"replay.{what}")


BINDINGS = (
    _key("space", "pause", "Pause", "Pause the recording, or go on"),
    _key("left_square_bracket", "back", "-10 s", "10 s back"),
    _key("right_square_bracket", "on", "+10 s", "10 s on"),
    _key("left_curly_bracket", "far_back", "-60 s", "60 s back"),
    _key("right_curly_bracket", "far_on", "+60 s", "60 s on"),
    _key("plus,equals_sign", "faster", "Faster", "Play faster, up to 32 times"),
    _key("minus", "slower", "Slower", "Play slower, down to a quarter"),
    _key("L", "loop", "Loop", "Begin again at the end, or stop there"),
    _key("0", "start", "Start", "To the start of the recording"),
)
"""The keys while a recording is played; they steer nothing otherwise."""

_SKIPS = {"back": -10.0, "on": 10.0, "far_back": -60.0, "far_on": 60.0}


def steering(what: str, state: ReplayState) -> ReplayRequest:
    """What to ask for when the user wants *what* (a name of `BINDINGS`) and the replay stands at *state*."""
    if what in _SKIPS:
        return ReplayRequest(skip_s=_SKIPS[what])
    match what:
        case "pause" if state.ended:
            return ReplayRequest(seek_s=0.0, paused=False)
        case "pause":
            return ReplayRequest(paused=not state.paused)
        case "start":
            return ReplayRequest(seek_s=0.0)
        case "loop":
            return ReplayRequest(loop=not state.loop)
        case "faster":
            return ReplayRequest(speed=next((speed for speed in SPEEDS if speed > state.speed), SPEEDS[-1]))
        case "slower":
            return ReplayRequest(speed=next((speed for speed in reversed(SPEEDS) if speed < state.speed), SPEEDS[0]))
    raise ValueError(what)


def place_text(seconds: float) -> str:
    """A place in a recording: ``0:38``, ``12:05``, ``1:02:07``."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def replay_line(state: ReplayState, width: int, glyphs: Glyphs) -> Line:
    """The fullest form that fits *width*: state, place, name, recorded time, speed, loop, keys."""
    return next((line for line in _forms(state, glyphs) if line_width(line) <= width), _short(state, glyphs))


def _short(state: ReplayState, glyphs: Glyphs) -> Line:
    if state.ended:
        return (Span(f" {glyphs.stop} ended", "warm"),)
    if state.paused:
        return (Span(f" {glyphs.pause} paused", "warm"),)
    return (Span(f" {glyphs.play} playing", "ok"),)


def _forms(state: ReplayState, glyphs: Glyphs) -> Iterator[Line]:
    head = _short(state, glyphs)
    place = Span(f" {place_text(state.position_s)}/{place_text(state.duration_s)}", "strong")
    name = sanitise_line(state.name, 60)
    recorded = Span(f"  recorded {state.at.astimezone():%Y-%m-%d %H:%M:%S}")
    at = Span(f"  {state.at.astimezone():%Y-%m-%d %H:%M:%S}")
    speed = Span(f"  {state.speed:g}x", "label")
    loop = Span("  loop" if state.loop else "  no loop", "label")
    keys = "  Space pause  [ ] 10 s  { } 60 s  + - speed  L loop  0 start"
    yield (*head, place, Span(f"  {name}", "title"), recorded, speed, loop, Span(keys, "label"))
    yield (*head, place, Span(f"  {name}", "title"), recorded, speed, loop)
    yield (*head, place, Span(f"  {name}", "title"), at, speed, loop)
    if len(name) > 24:
        yield (*head, place, Span(f"  {name[:23]}{glyphs.ellipsis}", "title"), at, speed, loop)
    yield (*head, place, at, speed, loop)
    yield (*head, place, speed, loop)
    yield (*head, place)
    yield head


class ReplayBar(Canvas):
    """Where the replay stands; not there while hardware is watched."""

    DEFAULT_CSS = """
    ReplayBar { height: 1; background: $panel; display: none; }
    ReplayBar.-shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._state: ReplayState | None = None

    def show(self, state: ReplayState | None) -> None:
        """Take *state* as the one to show."""
        if state == self._state:
            return
        self._state = state
        self.set_class(state is not None, "-shown")
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The bar's one line."""
        return [] if self._state is None else [replay_line(self._state, width, self.glyphs)]
