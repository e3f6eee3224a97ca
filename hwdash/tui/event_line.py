"""An event as a line of the list, and all of it as lines of a pane. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

from rich.cells import cell_len

from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.core.throttle import reason_words
from hwdash.tui.fact import laid_out
from hwdash.tui.gauge import Fact
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, sized

_BADGES = {Severity.INFO: "info", Severity.WARNING: "WARNING", Severity.CRITICAL: "CRITICAL"}
_MARKS = {Severity.INFO: "  ", Severity.WARNING: "! ", Severity.CRITICAL: "!!"}
_BADGE_WIDTH = max(map(len, _BADGES.values()))
_KIND_WIDTH = max(map(len, EventKind))
_WITH_YEAR = 110
_WITH_KIND = 64
_WITH_BADGE = 48


def event_style(event: Event) -> str:
    """The style of an event's badge: that of the state it leads to, else of its severity."""
    if event.active is False or event.after is HealthState.OK:
        return "ok"
    if event.after is not None:
        return event.after.value
    return {Severity.INFO: "muted", Severity.WARNING: "warm", Severity.CRITICAL: "lost"}[event.severity]


def event_words(event: Event) -> str:
    """What happened in one line; what is only suspected is called so."""
    doubt = event.suspected and "suspect" not in event.words.casefold()
    return f"suspected: {event.words}" if doubt else event.words


class Form(NamedTuple):
    """How a list of events is laid out: the pattern of its times with the cells they take, those of names, what has room."""

    time: str
    time_width: int
    names: int
    with_badge: bool
    with_kind: bool


def form_of(events: Sequence[Event], width: int, today: date) -> Form:
    """The form for *events* in *width* cells; the time of day is enough while all are of *today*, a local day."""
    names = min(10, max((cell_len(event.device or event.key) for event in events), default=4))
    with_badge, with_kind = width >= _WITH_BADGE, width >= _WITH_KIND
    if all(event.at.astimezone().date() == today for event in events):
        return Form("%H:%M:%S" if with_badge else "%H:%M", 8 if with_badge else 5, names, with_badge, with_kind)
    if width >= _WITH_YEAR:
        return Form("%Y-%m-%d %H:%M:%S", 19, names, with_badge, with_kind)
    return Form("%d %b %H:%M" if with_badge else "%d.%m. %H:%M", 12, names, with_badge, with_kind)


def event_line(event: Event, width: int, glyphs: Glyphs, form: Form) -> Line:
    """Local time, device, severity and kind, and the words, in exactly *width* cells."""
    style = event_style(event)
    time = f"{event.at.astimezone():{form.time}}"
    spans = [
        Span(f" {fit(time, form.time_width)} ", "label"),
        Span(f" {fit(event.device or event.key, form.names, ellipsis=glyphs.ellipsis)}  ", "strong"),
        Span(fit(_BADGES[event.severity], _BADGE_WIDTH) if form.with_badge else _MARKS[event.severity], style),
        Span("  " if form.with_badge else " "),
    ]
    if form.with_kind:
        spans.append(Span(f"{fit(event.kind.value, _KIND_WIDTH)}  ", "label"))
    words = glyphs.text(event_words(event).replace("°C", glyphs.degrees))
    return sized((*spans, Span(words)), width, glyphs.ellipsis)


def event_lines(event: Event, width: int, glyphs: Glyphs) -> list[Line]:
    """Everything about *event*: a title, then labelled statements, wrapped at blanks."""
    device = event.device or event.key
    title: Line = (Span(f" {device} ", "title"), Span(f" {event.at.astimezone():%A %Y-%m-%d %H:%M:%S %Z}", "strong"))
    return [sized(title, width, glyphs.ellipsis), *laid_out(_facts(event, glyphs), width, glyphs)]


def _facts(event: Event, glyphs: Glyphs) -> Iterator[Fact]:
    yield Fact(event.kind.value, event_words(event), "strong")
    yield Fact("severity", event.severity.value, event_style(event))
    if event.after is not None:
        before = "first seen" if event.before is None else event.before.value
        yield Fact("state", f"{before} {glyphs.flow} {event.after.value}")
    if event.suspected:
        yield Fact("suspected", "no flag of the driver says so")
    for reason in event.reasons:
        if reason != event.words:
            yield Fact("reason", reason)
    if event.throttle:
        yield Fact("throttle", ", ".join(map(reason_words, event.throttle)))
    if event.rule is not None:
        change = "" if event.active is None else ": began" if event.active else ": ended"
        yield Fact("rule", event.rule + change)
    if event.actions:
        yield Fact("told by", ", ".join(event.actions))
    yield Fact("key", event.key, "muted")
