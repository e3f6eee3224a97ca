"""The line at the top of every screen, and the one-line banner below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hwdash.core.format import duration_text
from hwdash.core.health import HealthState
from hwdash.core.snapshot import Snapshot
from hwdash.tui.canvas import Canvas
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span, line_width, sized

_WARNING_LEAST = 30
"""The fewest cells of a warning that are worth a pointer to the rest of it."""
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
        """The header's one line: the fullest form that fits."""
        for left, right in self._forms():
            room = width - line_width(right)
            if line_width(left) < room:
                return [(*sized(left, room), *right)]
        return [sized(left, width)]

    def _forms(self) -> Iterator[tuple[Line, Line]]:
        """Left and right part, from everything to the least."""
        title = Span(" hwdash ", "title")
        host = (Span(f" {self._host} ", "label"), Span(" "))
        tabs = tuple(
            Span(f" {number} {name} ", "strong" if mode == self._mode else "label")
            for number, (mode, name) in enumerate(_TABS, start=1)
        )
        feed = self._feed
        states = state_spans(feed.snapshot)
        count = count_spans(feed.snapshot)
        summary = (*count, *((Span(" · ", "faint"), *states) if states else ()))
        clock = clock_spans(feed)
        interval = interval_spans(feed)
        yield (title, *tabs, *host, *summary), (*interval, *clock)
        yield (title, *host, *summary), (*interval, *clock)
        yield (title, *summary), (*interval, *clock)
        yield (title, *summary), clock
        for shown in range(len(states), 0, -2):
            yield (title, *states[:shown]), clock
        yield (title,), clock
        yield (title,), ()


def count_spans(snapshot: Snapshot | None) -> Line:
    """How many devices there are."""
    if snapshot is None:
        return ()
    count = len(snapshot.devices)
    return (Span(f"{count} device{'' if count == 1 else 's'}"),)


def state_spans(snapshot: Snapshot | None) -> Line:
    """How many devices are in each bad state, in words, the worst first."""
    spans: list[Span] = []
    states = Counter(status.health.state for status in snapshot.devices) if snapshot is not None else Counter()
    for state in (HealthState.LOST, HealthState.STALE, HealthState.THROTTLED, HealthState.WARM):
        if states[state]:
            spans += [Span(" · ", "faint")] * bool(spans)
            spans.append(Span(f"{states[state]} {state}", state.value))
    return tuple(spans)


def interval_spans(feed: Feed) -> Line:
    """How often a snapshot is due; nothing while none comes."""
    if feed.snapshot is None or feed.is_old:
        return ()
    return (Span(f"every {feed.snapshot.interval_s:g} s  ", "label"),)


def clock_spans(feed: Feed) -> Line:
    """The local time of the snapshot, or its age when it is old."""
    snapshot = feed.snapshot
    if snapshot is None:
        return (Span("waiting ", "label"),)
    if feed.is_old:
        return (Span(f"OLD: {duration_text(feed.age_s)} ", "lost"),)
    return (Span(f"{snapshot.taken_at.astimezone():%H:%M:%S} "),)


def source_problem(snapshot: Snapshot | None) -> str:
    """What sources cannot read although they should, in words; empty while all is well."""
    sources = snapshot.sources if snapshot is not None else ()
    return "; ".join(f"{source.name}: {source.problem}" for source in sources if source.problem)


def warning_line(alert: str, problem: str, width: int) -> Line:
    """*problem* in *width* cells; one that is too long ends with the command that shows it whole."""
    whole = (Span(f" {alert} {problem}", "warm"),)
    more = (Span(" more: hwdash status", "label"),)
    room = width - line_width(more)
    if line_width(whole) <= width or room < _WARNING_LEAST:
        return whole
    return (*sized(whole, room), *more)


class Banner(Canvas):
    """One line that says what is wrong with the connection or with a source; not there while all is well."""

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
        self.set_class(bool(feed.problem or source_problem(feed.snapshot)), "-shown")
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The banner's one line."""
        feed = self._feed
        if not feed.problem:
            return [warning_line(self.glyphs.alert, source_problem(feed.snapshot), width)]
        old = f", data {duration_text(feed.age_s)} old" if feed.snapshot is not None else ""
        return [(Span(f" {self.glyphs.alert} {feed.problem}{old}", "lost"),)]
