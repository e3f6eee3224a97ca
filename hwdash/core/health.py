"""How a device is doing, in one word and in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

WARM_MARGIN_C = 10.0
"""A margin to slowdown of this many °C or less is warm."""
HOT_MARGIN_C = 3.0
"""A margin of this many °C or less is as good as none."""
STALE_AFTER_INTERVALS = 3
"""A device, or a whole picture, is stale when its newest sample is older than this many intervals."""


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
    """A state, the reasons for it in words and numbers, and since when it holds (UTC).

    ``suspected`` is true when the device is called throttled although no flag of its driver says so.
    """

    state: HealthState
    reasons: tuple[str, ...]
    since: datetime
    suspected: bool = False
