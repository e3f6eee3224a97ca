"""Which events are listed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwdash.core.event import Event, EventKind, Severity
from hwdash.tui.cycle import after

_KINDS = (None, *EventKind)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """``device`` is a key; ``least`` the least severity; ``text`` is looked for in everything an event says."""

    device: str | None = None
    kind: EventKind | None = None
    least: Severity = Severity.INFO
    text: str = ""

    @property
    def is_open(self) -> bool:
        """Every event passes."""
        return self == EventFilter()

    def passes(self, event: Event) -> bool:
        """*event* is one of those asked for."""
        return (
            self.device in (None, event.key)
            and self.kind in (None, event.kind)
            and event.severity.weight >= self.least.weight
            and (not self.text or self.text.casefold() in _text(event))
        )

    def with_next_kind(self) -> EventFilter:
        """The next kind, after the last one all."""
        return replace(self, kind=after(_KINDS, self.kind))

    def with_next_severity(self) -> EventFilter:
        """Only warnings and worse, only critical ones, then all again."""
        return replace(self, least=after(tuple(Severity), self.least))

    def words(self, device: str) -> str:
        """What is asked for, in words; *device* is the short name of the device. Empty when everything is."""
        parts = [] if self.device is None else [f"device {device}"]
        parts += [] if self.kind is None else [f"kind {self.kind}"]
        if self.least is not Severity.INFO:
            parts.append("critical only" if self.least is Severity.CRITICAL else "warnings and worse")
        parts += [f"with “{self.text}”"] if self.text else []
        return ", ".join(parts)


def _text(event: Event) -> str:
    return " ".join(
        (event.words, event.device, event.key, event.kind, event.severity, event.rule or "", *event.reasons)
    ).casefold()
