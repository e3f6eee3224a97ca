"""Which events interrupt the user: those that a rule wants shown or rung, a few at once, the rest as a count."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwdash.core.event import AlertAction, Event, Severity
from hwdash.core.snapshot import Snapshot
from hwdash.tui.event_line import event_words
from hwdash.tui.event_log import EventLog
from hwdash.tui.line import fit

MOST = 4
"""Toasts at most within `CALM_S`; the last of them counts what comes on top."""
MOST_LOW = 2
"""As `MOST`, in a terminal of fewer than `LOW_ROWS` rows."""
LOW_ROWS = 30
CALM_S = 5.0
"""Seconds; about as long as a toast stays."""

_WIDTH = 48
"""Cells of a toast at most, as in ``app.tcss``; it gets no more than half of the screen …"""
_FRAME = 5
"""… and so many of its cells, or of that half, are not for text."""

_Level = Literal["information", "warning", "error"]
_LEVELS: dict[Severity, _Level] = {
    Severity.INFO: "information",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "error",
}


@dataclass(frozen=True, slots=True)
class Toast:
    """One message for the corner of the screen; neither text is markup."""

    title: str
    words: str
    level: _Level


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a snapshot gives reason for."""

    toasts: tuple[Toast, ...] = ()
    rings: bool = False


_NOTHING = Announcement()


class Announcer:
    """Takes every snapshot of the stream, keeps its events in *log* and tells what to interrupt the user with.

    ``unseen`` counts warnings and worse since the events were last looked at. What happened before the first snapshot
    is no news.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._before: Snapshot | None = None
        self._shown_s: deque[float] = deque()
        self._held = 0
        self._held_level = Severity.INFO
        self._counted_s = float("-inf")
        self.unseen = 0

    def take(self, snapshot: Snapshot, now_s: float, *, looking: bool, most: int = MOST) -> Announcement:
        """What *snapshot* gives reason for at *now_s* (monotonic); *looking* is true while the events are on screen.

        No more than *most* toasts are given within `CALM_S`.
        """
        before, self._before = self._before, snapshot
        if before is not None and snapshot.replay is not None and snapshot.taken_at < before.taken_at:
            self._log.forget_after(snapshot.taken_at)
        if not snapshot.events and not self._held:
            return _NOTHING
        news = self._log.add(snapshot.events)
        if before is None:
            return _NOTHING
        if not looking:
            self.unseen += sum(event.severity is not Severity.INFO for event in news)
        began = [event for event in news if event.active is not False]
        rings = any(AlertAction.BELL in event.actions for event in began)
        toasts = self._toasts([event for event in news if AlertAction.TOAST in event.actions], now_s, most)
        return Announcement(tuple(toasts), rings)

    def _toasts(self, events: Sequence[Event], now_s: float, most: int) -> list[Toast]:
        while self._shown_s and now_s - self._shown_s[0] >= CALM_S:
            self._shown_s.popleft()
        free = max(0, most - len(self._shown_s))
        counts = free > 0 and now_s - self._counted_s >= CALM_S and (self._held > 0 or len(events) > free)
        shown, held = events[: free - counts], events[free - counts :]
        toasts = [_toast(event) for event in shown]
        self._held += len(held)
        self._held_level = max((self._held_level, *(event.severity for event in held)), key=lambda level: level.weight)
        if counts:
            words = f"{self._held} more event{'' if self._held == 1 else 's'}: press 4"
            toasts.append(Toast("Events", words, _LEVELS[self._held_level]))
            self._held, self._held_level, self._counted_s = 0, Severity.INFO, now_s
        self._shown_s.extend([now_s] * len(toasts))
        return toasts


def toast_row(words: str, columns: int, ellipsis: str) -> str:
    """*words* as far as they fit into one row of a toast, on a screen of so many *columns*."""
    return fit(words, max(1, min(_WIDTH, columns // 2) - _FRAME), ellipsis=ellipsis).rstrip()


def _toast(event: Event) -> Toast:
    level = "information" if event.active is False else _LEVELS[event.severity]
    # The name of the rule stands in the title already.
    words = event_words(event).removeprefix(f"{event.rule}: ")
    return Toast(f"{event.device or event.key}  {event.rule or event.kind}", words, level)
