"""How a device is doing, in one word and in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class HealthState(StrEnum):
    """Health from best to worst."""

    OK = "ok"
    WARM = "warm"
    THROTTLED = "throttled"
    STALE = "stale"
    LOST = "lost"

    @property
    def severity(self) -> int:
        """0 for the best state, rising with every worse one."""
        return _ORDER.index(self)


_ORDER = tuple(HealthState)


@dataclass(frozen=True, slots=True)
class Health:
    """A state, the reasons for it in words and numbers, and since when it holds (UTC)."""

    state: HealthState
    reasons: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class HealthChange:
    """An event: the device named by ``key`` went from ``before`` to ``after.state`` at ``after.since``.

    ``before`` is None for the first state after the device was found. ``throttle`` holds the names of the throttle
    reasons active at the change.
    """

    key: str
    before: HealthState | None
    after: Health
    throttle: tuple[str, ...] = ()
