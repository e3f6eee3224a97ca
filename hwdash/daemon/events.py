"""The events of this daemon's life, as they happen."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.event import Event, Severity

log = logging.getLogger(__name__)

RECENT_S = 10.0
"""Snapshots carry the events of the last so many seconds …"""
MOST = 256
"""… and of these at most so many, the newest; but whatever no snapshot has carried yet."""
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}


class EventLog:
    """Numbers every event, logs it, hands it to *keep* (the store), and remembers the newest ones.

    Belongs to the event loop of the daemon.
    """

    def __init__(self, keep: Callable[[Event], None], clock: Clock = SYSTEM_CLOCK) -> None:
        self._keep = keep
        self._clock = clock
        self._last_number = 0
        self._newest: deque[tuple[float, Event]] = deque(maxlen=MOST)
        self._unseen: list[Event] = []

    def add(self, event: Event) -> None:
        """Take in *event*."""
        self.number(event)

    def number(self, event: Event) -> Event:
        """Take in *event* as `add` does; gives it with its number, which is 1 for the first of a daemon's life."""
        self._last_number += 1
        event = replace(event, number=self._last_number)
        self._newest.append((self._clock.monotonic(), event))
        self._unseen.append(event)
        log.log(_LEVELS[event.severity], "%s: %s: %s", event.device or event.key, event.kind.value, event.words)
        self._keep(event)
        return event

    def publish(self, window_s: float = RECENT_S) -> tuple[Event, ...]:
        """What the next snapshot carries: the events of the last *window_s* seconds, oldest first, at most the newest
        `MOST` of them, but every one that came since this was asked last."""
        since_s = self._clock.monotonic() - window_s
        first = self._unseen[0].number if self._unseen else self._last_number + 1
        seen = [event for at_s, event in self._newest if at_s >= since_s and event.number < first]
        unseen, self._unseen = self._unseen, []
        return (*seen, *unseen)
