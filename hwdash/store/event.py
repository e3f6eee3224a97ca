"""The events of a window of time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.group import id_of
from hwdash.core.health import HealthState
from hwdash.core.history import EventHistory
from hwdash.store.stamp import from_ms, to_ms


def read_events(
    connection: sqlite3.Connection,
    now: datetime,
    since_s: float,
    device_key: str | None,
    kind: EventKind | None,
    limit: int,
    ids: Mapping[str, str],
    least: Severity = Severity.INFO,
) -> EventHistory:
    """The newest *limit* events of the last *since_s* seconds before *now*, oldest first.

    Of one device or all, of one kind or all, of the severity *least* or worse. *ids* gives today's short id for a key. Raises ``sqlite3.Error``.
    """
    until = to_ms(now)
    since = max(0, until - round(min(since_s, 1e9) * 1000))
    severities = [severity.value for severity in Severity if severity.weight >= least.weight]
    rows = connection.execute(
        """SELECT event.ts, device.key, event.kind, event.severity, event.words, event.before, event.after,
                  event.reasons, event.throttle, event.suspected, event.rule, event.active
           FROM event JOIN device ON device.id = event.dev
           WHERE event.ts >= ?1 AND event.ts <= ?2 AND (?3 IS NULL OR device.key = ?3) AND (?4 IS NULL OR event.kind = ?4)
                 AND event.severity IN (SELECT value FROM json_each(?5))
           ORDER BY event.ts DESC, event.id DESC LIMIT ?6""",
        (since, until, device_key, None if kind is None else kind.value, json.dumps(severities), limit + 1),
    ).fetchall()
    events = tuple(_event(row, ids) for row in reversed(rows[:limit]))
    return EventHistory(from_ms(since), from_ms(until), events, truncated=len(rows) > limit)


def _event(row: tuple[Any, ...], ids: Mapping[str, str]) -> Event:
    ts, key, kind, severity, words, before, after, reasons, throttle, suspected, rule, active = row
    return Event(
        from_ms(ts),
        key,
        EventKind(kind),
        Severity(severity),
        words,
        device=id_of(ids, key),
        before=None if before is None else HealthState(before),
        after=None if after is None else HealthState(after),
        reasons=tuple(json.loads(reasons)),
        throttle=tuple(json.loads(throttle)),
        suspected=bool(suspected),
        rule=rule,
        active=None if active is None else bool(active),
    )
