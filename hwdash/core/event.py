"""What happened to a device: one line of the event log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hwdash.core.health import HealthState


class EventKind(StrEnum):
    """What sort of thing happened.

    ``health``: the device's state changed. ``device``: the driver or the device reported something (an XID, a reset).
    ``alert``: a rule of the configuration began or ceased to hold.
    """

    HEALTH = "health"
    DEVICE = "device"
    ALERT = "alert"


class Severity(StrEnum):
    """How much an event asks for attention."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def weight(self) -> int:
        """0 for the least, rising with every more urgent one."""
        return tuple(Severity).index(self)


SEVERITY_OF = {
    HealthState.OK: Severity.INFO,
    HealthState.WARM: Severity.WARNING,
    HealthState.THROTTLED: Severity.WARNING,
    HealthState.STALE: Severity.WARNING,
    HealthState.LOST: Severity.CRITICAL,
}
"""How much a change into each state asks for attention."""


class AlertAction(StrEnum):
    """What an alert does when it begins (the log and the event list have it in any case)."""

    TOAST = "toast"
    BELL = "bell"
    LOG = "log"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the device with the stable *key*, at a time in UTC.

    ``device`` is its short id of the day. ``number`` grows by one with every event of a daemon's life; 0 for one that
    is read back from history. ``words`` is one line for a person. Of a health event, ``before`` and ``after`` are the
    states (``before`` None for the first one after the device was found), ``reasons`` those of the new health, and
    ``throttle`` the names of the throttle reasons active then. Of an alert, ``rule`` is its name, ``active`` whether
    it began or ended, and ``actions`` what it asks for. ``code`` is there when the monitor found out by itself what
    happened (`hwdash.monitor.chronicle`), and not by a word of the device: a replay finds it out anew.
    """

    at: datetime
    key: str
    kind: EventKind
    severity: Severity
    words: str
    device: str = ""
    number: int = 0
    before: HealthState | None = None
    after: HealthState | None = None
    reasons: tuple[str, ...] = ()
    throttle: tuple[str, ...] = ()
    suspected: bool = False
    rule: str | None = None
    active: bool | None = None
    actions: tuple[AlertAction, ...] = ()
    code: str | None = None
