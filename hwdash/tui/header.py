"""The line at the top of every screen, and the one-line banner below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hwdash.core.format import duration_text
from hwdash.core.health import HealthState
from hwdash.core.snapshot import Snapshot
from hwdash.tui.canvas import Canvas
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span, line_width, sized

_TABS = (("overview", "Overview"), ("prompt", "Prompt"), ("history", "History"))


class HeaderBar(Canvas):
    """Program, screens, host, the state of all devices in words, and the time of the snapshot."""

    DEFAULT_CSS = "HeaderBar { dock: top; height: 1; background: $panel; }"

    def __init__(self, host: str, mode: str) -> None:
        super().__init__()
        self._host = host
        self._mode = mode
        self._feed = Feed()

    def show(self, feed: Feed) -> None:
        """Take *feed* as the state to show."""
        self._feed = feed
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The header's one line."""
        right = clock_spans(self._feed)
        summary = summary_spans(self._feed.snapshot)
        left: list[Span] = [Span(" hwdash ", "title")]
        tabs = [
            Span(f" {number} {name} ", "strong" if mode == self._mode else "label")
            for number, (mode, name) in enumerate(_TABS, start=1)
        ]
        room = width - line_width(tuple(left)) - line_width(right)
        if room >= line_width((*tabs, *summary)) + len(self._host) + 4:
            left += [*tabs, Span("  "), Span(self._host, "label"), Span("  "), *summary]
        elif room >= line_width(tuple(summary)) + len(self._host) + 3:
            left += [Span(self._host, "label"), Span("  "), *summary]
        else:
            left += summary
        if line_width(tuple(left)) + line_width(right) > width:
            return [sized((left[0], *right), width)]
        return [(*sized(left, width - line_width(right)), *right)]


def summary_spans(snapshot: Snapshot | None) -> Line:
    """How many devices there are and how many are in a bad state, in words."""
    if snapshot is None:
        return ()
    count = len(snapshot.devices)
    spans = [Span(f"{count} device{'' if count == 1 else 's'}")]
    states = Counter(status.health.state for status in snapshot.devices)
    for state in (HealthState.LOST, HealthState.STALE, HealthState.THROTTLED, HealthState.WARM):
        if states[state]:
            spans += [Span(" · ", "faint"), Span(f"{states[state]} {state}", state.value)]
    return tuple(spans)


def clock_spans(feed: Feed) -> Line:
    """The local time of the snapshot with the interval, or its age when it is old."""
    snapshot = feed.snapshot
    if snapshot is None:
        return (Span("waiting ", "label"),)
    if feed.is_old:
        return (Span(f"OLD: {duration_text(feed.age_s)} ", "lost"),)
    clock = f"{snapshot.taken_at.astimezone():%H:%M:%S}"
    return (Span(f"every {snapshot.interval_s:g} s  ", "label"), Span(f"{clock} "))


class Banner(Canvas):
    """One line that says what is wrong with the connection; not there while all is well."""

    DEFAULT_CSS = """
    Banner { height: 1; display: none; }
    Banner.-shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._feed = Feed()

    def show(self, feed: Feed) -> None:
        """Take *feed* as the state to show."""
        self._feed = feed
        self.set_class(bool(feed.problem), "-shown")
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The banner's one line."""
        feed = self._feed
        old = f", data {duration_text(feed.age_s)} old" if feed.snapshot is not None else ""
        return [(Span(f" {self.glyphs.alert} {feed.problem}{old}", "lost"),)]
