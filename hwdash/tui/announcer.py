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

BURST = 3
"""Toasts at most within `CALM_S`; what comes on top of them is counted, and the count told no more often."""
CALM_S = 5.0
"""Seconds; about as long as a toast stays."""

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
        self._shown_s: deque[float] = deque(maxlen=BURST)
        self._held = 0
        self._held_level = Severity.INFO
        self._counted_s = float("-inf")
        self.unseen = 0

    def take(self, snapshot: Snapshot, now_s: float, *, looking: bool) -> Announcement:
        """What *snapshot* gives reason for at *now_s* (monotonic); *looking* is true while the events are on screen."""
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
        toasts = self._toasts([event for event in news if AlertAction.TOAST in event.actions], now_s)
        return Announcement(tuple(toasts), rings)

    def _toasts(self, events: Sequence[Event], now_s: float) -> list[Toast]:
        toasts = []
        for event in events:
            if self._is_calm(now_s):
                self._shown_s.append(now_s)
                toasts.append(_toast(event))
            else:
                self._held += 1
                self._held_level = max(self._held_level, event.severity, key=lambda severity: severity.weight)
        if self._held and now_s - self._counted_s >= CALM_S:
            words = f"{self._held} more event{'' if self._held == 1 else 's'}: press 4"
            toasts.append(Toast("Events", words, _LEVELS[self._held_level]))
            self._held, self._held_level, self._counted_s = 0, Severity.INFO, now_s
        return toasts

    def _is_calm(self, now_s: float) -> bool:
        return len(self._shown_s) < BURST or now_s - self._shown_s[0] >= CALM_S


def _toast(event: Event) -> Toast:
    level = "information" if event.active is False else _LEVELS[event.severity]
    return Toast(f"{event.device or event.key}  {event.rule or event.kind}", event_words(event), level)
