"""``hwdash history events``: what happened to the devices."""

from __future__ import annotations

from hwdash.cli.output import csv_text, table_text
from hwdash.core.event import Event
from hwdash.core.format import duration_text
from hwdash.core.history import EventHistory
from hwdash.core.text import sanitise_line

_LONGEST = 500


def events_text(history: EventHistory) -> str:
    """One line per event in local time, oldest first."""
    window = duration_text((history.until - history.since).total_seconds())
    if not history.events:
        return f"no events in the last {window}"
    table = table_text(("TIME", "DEVICE", "KIND", "SEVERITY", "WHAT"), [_row(event) for event in history.events])
    tail = ["older ones were left out: ask for a shorter --since, or for one --device or --kind"]
    return "\n".join([f"last {window}", table, *(tail if history.truncated else ())])


def events_csv(history: EventHistory) -> str:
    """One row per event, times in UTC."""
    return csv_text(
        ["at", "device", "device_key", "kind", "severity", "words", "before", "after", "suspected", "rule", "active"],
        [
            [
                event.at.isoformat(),
                event.device,
                event.key,
                event.kind.value,
                event.severity.value,
                sanitise_line(event.words, _LONGEST),
                event.before,
                event.after,
                _flag(event.suspected),
                event.rule,
                _flag(event.active),
            ]
            for event in history.events
        ],
    )


def _row(event: Event) -> tuple[str, ...]:
    words = sanitise_line(event.words, _LONGEST)
    return (
        f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}",
        event.device or event.key,
        event.kind.value,
        event.severity.value,
        f"{words} (suspected)" if event.suspected and "suspect" not in words else words,
    )


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()
