"""The events that the dashboard knows of: those of the stream and those read from history, each once."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import datetime

from hwdash.core.event import Event

LIMIT = 2000
"""Events that are kept; the oldest go first."""

_Fingerprint = tuple[datetime, str, str]


class EventLog:
    """Events by time, at most *limit*. ``version`` grows with every change, so that a screen knows when to draw."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._events: list[Event] = []
        self._numbers: dict[_Fingerprint, set[int]] = {}
        self.version = 0

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, oldest first."""
        return tuple(self._events)

    def add(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Take in *events*; gives those of the stream that it has not been given before.

        An event of the stream is known by its number and time (numbers begin anew with every daemon), one read from
        history, which has no number, by time, device and words.
        """
        news = [event for event in events if self._take(event)]
        if len(self._events) > self._limit:
            self._drop(self._events[: -self._limit])
        return tuple(event for event in news if event.number)

    def forget_after(self, moment: datetime) -> None:
        """Drop what happened after *moment*: a replay went back to it."""
        if later := [event for event in self._events if event.at > moment]:
            self._drop(later)
            self.version += 1

    def _take(self, event: Event) -> bool:
        numbers = self._numbers.setdefault(_fingerprint(event), set())
        if event.number in numbers or (numbers and not event.number):
            return False
        if 0 in numbers:
            # It was read from history a moment before the stream told of it.
            numbers.discard(0)
        else:
            insort(self._events, event, key=lambda item: item.at)
            self.version += 1
        numbers.add(event.number)
        return True

    def _drop(self, events: list[Event]) -> None:
        gone = {_fingerprint(event) for event in events}
        self._events = [event for event in self._events if _fingerprint(event) not in gone]
        for fingerprint in gone:
            del self._numbers[fingerprint]


def _fingerprint(event: Event) -> _Fingerprint:
    return event.at, event.key, event.words
