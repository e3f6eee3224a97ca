"""What there is to tell of one device: events, from what its row says now and said before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hwdash.core.device import Device
from hwdash.core.event import SEVERITY_OF, Event, EventKind, Severity
from hwdash.core.format import duration_text
from hwdash.core.health import Health, HealthState
from hwdash.core.sample import Fault, FaultLevel, Notice
from hwdash.core.snapshot import DeviceStatus

FAULT_BEGUN, FAULT_OVER, REPLACED = "fault_begun", "fault_over", "replaced"
"""The codes of what is found out here; what the device or its driver reported has none."""
_SEVERITY = {
    FaultLevel.WARNING: Severity.WARNING,
    FaultLevel.STALLED: Severity.WARNING,
    FaultLevel.FAILED: Severity.CRITICAL,
}


class Chronicle:
    """Turns the rows of one device into events: found, changes of its health, faults that begin and end, notices."""

    def __init__(self) -> None:
        self._health: Health | None = None
        self._found = False
        self._ill_since: datetime | None = None
        self._faults: dict[str, tuple[datetime, str]] = {}
        self._replaced = ""

    def forget(self) -> None:
        """The next row is where the story goes on; what lies between is not told."""
        self._health = None
        self._ill_since = None
        self._faults.clear()

    def replace(self, before: Device) -> None:
        """Another device has taken the place of *before*."""
        self._replaced = before.name

    def follow(
        self, status: DeviceStatus, at: datetime, faults: Sequence[Fault] | None, notices: Sequence[Notice]
    ) -> tuple[Event, ...]:
        """What happened up to *at* (UTC), when the row became *status*. *faults* is None while they are not known."""
        health, before = status.health, self._health
        events: list[Event] = []
        if self._replaced:
            words = f"replaced: was {self._replaced}, is {status.device.name}"
            events.append(_told(status, at, words, Severity.INFO, REPLACED))
            self._replaced = ""
        events += (_told(status, at, notice.words, notice.severity) for notice in notices)
        if faults is not None and (faults or self._faults):
            events += self._compare_faults(status, at, faults)
        if before is None or (before.state, before.suspected) != (health.state, health.suspected):
            if before is not None or not self._found:
                events.append(_changed(status, at, before, self._words(status, before, at)))
            self._found = True
            if health.state is HealthState.OK:
                self._ill_since = None
            elif self._ill_since is None:
                self._ill_since = at
        self._health = health
        return tuple(events)

    def _compare_faults(self, status: DeviceStatus, at: datetime, faults: Sequence[Fault]) -> list[Event]:
        silent = self._health is None and self._found
        events = [
            _told(status, at, f"fault: {fault.words}", _SEVERITY[fault.level], FAULT_BEGUN)
            for fault in faults
            if fault.code not in self._faults and not silent
        ]
        codes = {fault.code for fault in faults}
        for code, (since, words) in self._faults.items():
            if code not in codes:
                lasted = duration_text((at - since).total_seconds())
                events.append(_told(status, at, f"fault over after {lasted}: {words}", Severity.INFO, FAULT_OVER))
        self._faults = {fault.code: (self._faults.get(fault.code, (at, ""))[0], fault.words) for fault in faults}
        return events

    def _words(self, status: DeviceStatus, before: Health | None, at: datetime) -> str:
        health = status.health
        state = f"{health.state}{', suspected' if health.suspected else ''}"
        reasons = ", ".join(health.reasons).removeprefix("suspected: " if health.suspected else f"{health.state}: ")
        if before is None:
            found = f"found: {status.device.name}"
            return found if health.state is HealthState.OK and not reasons else f"{found}, {state}: {reasons}"
        if health.state is not HealthState.OK:
            return f"{state}: {reasons}"
        lasted = (at - (self._ill_since or before.since)).total_seconds()
        words = f"ok again after {duration_text(lasted)}: was {before.state}"
        detail = before.reasons[0].removeprefix(f"{before.state}: ") if before.reasons else ""
        return f"{words}, {detail}" if detail else words


def _told(status: DeviceStatus, at: datetime, words: str, severity: Severity, code: str | None = None) -> Event:
    return Event(at, status.device.key, EventKind.DEVICE, severity, words, device=status.device.id, code=code)


def _changed(status: DeviceStatus, at: datetime, before: Health | None, words: str) -> Event:
    health = status.health
    return Event(
        at,
        status.device.key,
        EventKind.HEALTH,
        SEVERITY_OF[health.state],
        words,
        device=status.device.id,
        before=None if before is None else before.state,
        after=health.state,
        reasons=health.reasons,
        throttle=tuple(activity.reason.value for activity in status.limiting),
        suspected=health.suspected,
    )
