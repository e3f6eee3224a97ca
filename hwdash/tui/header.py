"""The line at the top of every screen, and the one-line banner below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hwdash.core.format import duration_text
from hwdash.core.snapshot import Snapshot
from hwdash.tui.canvas import Canvas
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span, line_width, sized

_WARNING_LEAST = 30
"""The fewest cells of a warning that are worth a pointer to the rest of it."""
_TABS = (
    ("overview", "Overview"),
    ("prompt", "Prompt"),
    ("history", "History"),
    ("events", "Events"),
    ("bench", "Bench"),
)


class HeaderBar(Canvas):
    """Program, screens, host (of what is recorded none is known), the state of all devices in words, and the time."""

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
        feed = self._feed
        host = (Span(f" {self._host} ", "label"), Span(" ")) if feed.replay is None else ()
        tabs = self._tabs(feed.unseen)
        news, short_news = news_spans(feed.unseen)
        states = state_spans(feed.snapshot)
        count = count_spans(feed.snapshot)
        summary = (*count, *((Span(" · ", "faint"), *states) if states else ()))
        clock = clock_spans(feed)
        interval = interval_spans(feed)
        yield (title, *tabs, *(host or (Span(" "),)), *summary), (*interval, *clock)
        yield (title, *host, *summary, *news), (*interval, *clock)
        yield (title, *summary, *news), (*interval, *clock)
        yield (title, *summary, *news), clock
        yield (title, *summary, *short_news), clock
        for shown in range(len(states), 0, -2):
            yield (title, *states[:shown], *short_news), clock
        yield (title, *short_news), clock
        yield (title,), clock
        yield (title,), ()

    def _tabs(self, unseen: int) -> Line:
        spans: list[Span] = []
        for number, (mode, name) in enumerate(_TABS, start=1):
            spans.append(Span(f" {number} {name} ", "strong" if mode == self._mode else "label"))
            if mode == "events" and unseen:
                spans.append(Span(f"{unseen} new ", "warm"))
        return tuple(spans)


def news_spans(unseen: int) -> tuple[Line, Line]:
    """How many warnings nobody has looked at, long and short, for where the tabs have no room."""
    if not unseen:
        return (), ()
    words = f"{unseen} new event{'' if unseen == 1 else 's'}"
    return (Span(" · ", "faint"), Span(words, "warm")), (Span(" · ", "faint"), Span(f"{unseen} new", "warm"))


def count_spans(snapshot: Snapshot | None) -> Line:
    """How many devices there are."""
    if snapshot is None:
        return ()
    count = len(snapshot.devices)
    return (Span(f"{count} device{'' if count == 1 else 's'}"),)


def state_spans(snapshot: Snapshot | None) -> Line:
    """How many devices are in each bad state, in words, the worst first; those suspected of throttling apart."""
    devices = snapshot.devices if snapshot is not None else ()
    states = Counter("suspected" if status.health.suspected else status.health.state.value for status in devices)
    spans: list[Span] = []
    for word in ("lost", "stale", "throttled", "suspected", "warm"):
        if states[word]:
            spans += [Span(" · ", "faint")] * bool(spans)
            spans.append(Span(f"{states[word]} {word}", "throttled" if word == "suspected" else word))
    return tuple(spans)


def interval_spans(feed: Feed) -> Line:
    """How often a snapshot is due, or that what is shown was recorded; nothing while none comes."""
    if feed.snapshot is None or feed.is_old:
        return ()
    if feed.replay is not None:
        return (Span("recorded  ", "warm"),)
    return (Span(f"every {feed.snapshot.interval_s:g} s  ", "label"),)


def clock_spans(feed: Feed) -> Line:
    """The local time of the snapshot, that of the recording while one is played; its age when it is old."""
    snapshot = feed.snapshot
    if snapshot is None:
        return (Span("waiting ", "label"),)
    if feed.is_old:
        return (Span(f"OLD: {duration_text(feed.age_s)} ", "lost"),)
    moment = snapshot.taken_at if snapshot.replay is None else snapshot.replay.at
    return (Span(f"{moment.astimezone():%H:%M:%S} "),)


def troubles(feed: Feed) -> str:
    """What sources cannot read although they should, and what else the daemon calls degraded; empty while all is well."""
    sources = feed.snapshot.sources if feed.snapshot is not None else ()
    found = [f"{source.name}: {source.problem}" for source in sources if source.problem]
    # The daemon's own list has the sources too, as they were some seconds ago.
    names = tuple(f"{source.name}: " for source in sources)
    return "; ".join([*found, *(item for item in feed.troubles if not item.startswith(names))])


def warning_line(alert: str, problem: str, width: int) -> Line:
    """*problem* in *width* cells; one that is too long ends with the command that shows it whole."""
    whole = (Span(f" {alert} {problem}", "warm"),)
    more = (Span(" more: hwdash status", "label"),)
    room = width - line_width(more)
    if line_width(whole) <= width or room < _WARNING_LEAST:
        return whole
    return (*sized(whole, room), *more)


class Banner(Canvas):
    """One line that says what is wrong with the connection, a source or the daemon; not there while all is well."""

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
        self.set_class(bool(feed.problem or troubles(feed)), "-shown")
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """The banner's one line."""
        feed = self._feed
        if not feed.problem:
            return [warning_line(self.glyphs.alert, troubles(feed), width)]
        old = f", data {duration_text(feed.age_s)} old" if feed.snapshot is not None else ""
        return [(Span(f" {self.glyphs.alert} {feed.problem}{old}", "lost"),)]
