"""Events on the axis of time: which are marked, with what, and what the marks mean. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from hwdash.core.event import Event, EventKind
from hwdash.core.health import HealthState
from hwdash.core.history import ThrottledPeriod
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span

_SAME_S = 2.0
"""A throttled period and the event of its begin are of the same tick, written by different hands."""


class Note(Enum):
    """What is marked, the most urgent first: the words of the legend and the style."""

    LOST = ("lost", "lost")
    DEVICE = ("reported by the device", "trace-4")
    ALERT = ("alert", "warm")
    STALE = ("stale", "stale")

    def __init__(self, words: str, style: str) -> None:
        self.words = words
        self.style = style

    def mark(self, glyphs: Glyphs) -> str:
        """The one character on the axis."""
        return {Note.LOST: glyphs.lost, Note.DEVICE: "*", Note.ALERT: "!", Note.STALE: "~"}[self]


def note_of(event: Event) -> Note | None:
    """What *event* is marked as; throttling has a band of its own, and what ended needs no mark."""
    if event.kind is EventKind.ALERT:
        return Note.ALERT if event.active is not False else None
    if event.kind is EventKind.DEVICE:
        return Note.DEVICE
    return {HealthState.LOST: Note.LOST, HealthState.STALE: Note.STALE}.get(event.after or HealthState.OK)


def noted_events(events: Iterable[Event]) -> list[tuple[Event, Note]]:
    """Those of *events* that are marked, with what."""
    return [(event, note) for event in events if (note := note_of(event)) is not None]


def placed(notes: Iterable[tuple[int, Note]]) -> tuple[tuple[int, Note], ...]:
    """One note a column, the most urgent, in the order of the columns."""
    order = list(Note)
    found: dict[int, Note] = {}
    for column, note in notes:
        found[column] = min(found.get(column, note), note, key=order.index)
    return tuple(sorted(found.items(), key=lambda item: item[0]))


def legend(notes: Sequence[tuple[int, Note]], doubtful: bool, left: int, glyphs: Glyphs) -> Line:
    """The marks of *notes*, and of suspected throttling when *doubtful*, with their meaning; the axis begins at *left*."""
    spans = [Span(" " * left)]
    if doubtful:
        spans += [Span("?", "throttled"), Span(" throttling suspected  ", "label")]
    present = {note for _, note in notes}
    for note in Note:
        if note in present:
            spans += [Span(note.mark(glyphs), note.style), Span(f" {note.words}  ", "label")]
    return tuple(spans)


def is_suspected(period: ThrottledPeriod, events: Iterable[Event]) -> bool:
    """*period* was only suspected: by the event that began it, or, where that is not known, by its own word."""
    for event in events:
        begins = event.kind is EventKind.HEALTH and event.after is HealthState.THROTTLED
        if begins and abs((event.at - period.start).total_seconds()) < _SAME_S:
            return event.suspected
    return period.suspected
