"""When alert rules begin and cease to hold. Pure: what is known comes with the snapshot, the time with the call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from hwdash.core.alert import AlertRule
from hwdash.core.device import Device
from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.format import absent_text, duration_text, reading_text
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus, Snapshot

UNKNOWN_AFTER_S = 60.0
"""After this many seconds without a reading it is said that a rule that holds can no longer be judged."""
_JITTER_S = 0.05  # ticks come some milliseconds early or late: 30 s are not to become 31
_AT_THE_END = frozenset({AlertAction.LOG, AlertAction.WEBHOOK})


@dataclass(frozen=True, slots=True)
class _Finding:
    """Whether a rule's condition holds for a device now, None when that is not known; with the words for it."""

    holds: bool | None
    words: str


@dataclass(slots=True)
class _Watch:
    """One rule on one device.

    ``turning_s`` is since when the condition is other than ``active`` says, with the time in which it was not known
    taken out; ``holding_s`` since when it has held at every look, likewise. ``told`` is true while an event has told of the spell that goes on; ``withheld`` counts the spells
    that none told of, since ``told_at_s``.
    """

    device: Device
    active: bool = False
    turning_s: float | None = None
    holding_s: float | None = None
    began_s: float = 0.0
    told: bool = False
    told_at_s: float | None = None
    withheld: int = 0
    unknown_s: float | None = None
    unknown_told: bool = False


class AlertBook:
    """All rules and where each stands for each device.

    A rule begins when its condition has held for ``for_s``, and ends when it has not held for as long. A reading that
    is absent or not of now neither begins nor ends a rule about a metric: its time does not count. A rule
    that begins again within ``every_s`` of when it was last told is told when that time is over, if it still holds;
    else it is only counted, and the count stands in the next words. Where time jumps, in a recording, `forget` has to
    be called: what holds there begins there, and what held before is not told to have ended.
    """

    def __init__(self, rules: tuple[AlertRule, ...]) -> None:
        self._rules = rules
        self._matching: dict[tuple[str, str], tuple[AlertRule, ...]] = {}
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._by_name = {rule.name: rule for rule in rules}

    def advance(self, snapshot: Snapshot, at_s: float) -> tuple[Event, ...]:
        """What began or ended by *snapshot*, which was taken at *at_s* on the monotonic clock."""
        if not self._rules:
            return ()
        events: list[Event | None] = []
        for status in snapshot.devices:
            for rule in self._rules_of(status.device):
                watch = self._watches.setdefault((rule.name, status.device.key), _Watch(status.device))
                watch.device = status.device
                events.append(_step(rule, watch, _judge(rule, status), at_s, snapshot.taken_at))
        here = {status.device.key for status in snapshot.devices}
        for name, key in [place for place in self._watches if place[1] not in here]:
            watch = self._watches[name, key]
            if not watch.active:
                del self._watches[name, key]
                continue
            gone = _Finding(None, "the device is not there")
            events.append(_step(self._by_name[name], watch, gone, at_s, snapshot.taken_at))
        return tuple(event for event in events if event is not None)

    def forget(self) -> None:
        """Time has jumped: no rule holds, or was ever told, for any device."""
        self._watches.clear()

    def _rules_of(self, device: Device) -> tuple[AlertRule, ...]:
        names = (device.id, device.key)
        if (found := self._matching.get(names)) is None:
            found = self._matching[names] = tuple(
                rule for rule in self._rules if any(fnmatchcase(name, item) for name in names for item in rule.devices)
            )
        return found


def _judge(rule: AlertRule, status: DeviceStatus) -> _Finding:
    health = status.health
    if rule.state is not None:
        reasons = ", ".join(health.reasons)
        words = reasons if reasons.startswith(f"{health.state}:") else f"{health.state}: {reasons}".removesuffix(": ")
        return _Finding(health.state.severity >= rule.state.severity, words)
    assert rule.metric is not None
    reading = status.readings.get(rule.metric)
    if reading is None or isinstance(reading, Absent) or not status.has_numbers:
        why = absent_text(reading) if isinstance(reading, Absent) else f"the device is {health.state}"
        return _Finding(None, f"{rule.metric} is not known ({why})")
    if rule.above is not None:
        holds, relation, bound = reading > rule.above, "above", rule.above
    else:
        assert rule.below is not None
        holds, relation, bound = reading < rule.below, "below", rule.below
    value, limit = _texts(rule.metric, reading, bound)
    return _Finding(holds, f"{rule.metric} {value} {relation} {limit}" if holds else f"{rule.metric} {value}")


def _texts(metric: str, reading: float, bound: float) -> tuple[str, str]:
    """Both with their unit; as plain numbers, to the last figure, where they would look the same."""
    value, limit = reading_text(metric, reading), reading_text(metric, bound)
    return (value, limit) if value != limit else (f"{reading!r}", f"{bound!r}")


def _step(rule: AlertRule, watch: _Watch, found: _Finding, at_s: float, at: datetime) -> Event | None:
    if found.holds is None:
        return _unknown(rule, watch, found, at_s, at)
    if watch.unknown_s is not None:
        if watch.turning_s is not None:
            watch.turning_s += at_s - watch.unknown_s
        if watch.holding_s is not None:
            watch.holding_s += at_s - watch.unknown_s
        watch.unknown_s, watch.unknown_told = None, False
    if not found.holds:
        watch.holding_s = None
    elif watch.holding_s is None:
        watch.holding_s = at_s
    if found.holds is watch.active:
        watch.turning_s = None
        return _begin(rule, watch, found, at_s, at) if watch.active and not watch.told else None
    if watch.turning_s is None:
        watch.turning_s = at_s
    if at_s - watch.turning_s + _JITTER_S < rule.for_s:
        return None
    watch.active, since_s, watch.turning_s = found.holds, watch.turning_s, None
    if watch.active:
        watch.began_s = since_s
        watch.withheld += 1
        return _begin(rule, watch, found, at_s, at)
    return _end(rule, watch, found, since_s - watch.began_s, at)


def _begin(rule: AlertRule, watch: _Watch, found: _Finding, at_s: float, at: datetime) -> Event | None:
    if watch.told_at_s is not None and at_s - watch.told_at_s < rule.every_s:
        return None
    if watch.holding_s is None or at_s - watch.holding_s + _JITTER_S < rule.for_s:
        return None  # a spell that was held back is told of when it holds in its own right
    words = f"{rule.name}: {found.words}"
    if (held_s := at_s - watch.began_s) >= 1.0:
        words += f" for {duration_text(held_s)}"
    if (before := watch.withheld - 1) and watch.told_at_s is not None:
        often = "once more" if before == 1 else f"{before} times more"
        words += f"; it held {often} in the {duration_text(at_s - watch.told_at_s)} before"
    watch.told, watch.told_at_s, watch.withheld = True, at_s, 0
    return _event(rule, watch, rule.severity, words, at, active=True, actions=rule.actions)


def _end(rule: AlertRule, watch: _Watch, found: _Finding, held_s: float, at: datetime) -> Event | None:
    if not watch.told:
        return None
    watch.told = False
    words = f"{rule.name}: ended after {duration_text(held_s)}, now {found.words}"
    actions = tuple(action for action in rule.actions if action in _AT_THE_END)
    return _event(rule, watch, Severity.INFO, words, at, active=False, actions=actions)


def _unknown(rule: AlertRule, watch: _Watch, found: _Finding, at_s: float, at: datetime) -> Event | None:
    if watch.unknown_s is None:
        watch.unknown_s = at_s
    if not watch.told or watch.unknown_told or at_s - watch.unknown_s < UNKNOWN_AFTER_S:
        return None
    watch.unknown_told = True
    words = f"{rule.name}: it cannot be told whether it still holds; {found.words} for {duration_text(UNKNOWN_AFTER_S)}"
    actions = tuple(action for action in rule.actions if action is AlertAction.LOG)
    return _event(rule, watch, rule.severity, words, at, active=True, actions=actions)


def _event(
    rule: AlertRule,
    watch: _Watch,
    severity: Severity,
    words: str,
    at: datetime,
    *,
    active: bool,
    actions: tuple[AlertAction, ...],
) -> Event:
    return Event(
        at,
        watch.device.key,
        EventKind.ALERT,
        severity,
        words,
        device=watch.device.id,
        rule=rule.name,
        active=active,
        actions=actions,
    )
