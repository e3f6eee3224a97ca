"""How a device is doing, in one word and in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hwdash.core.reading import Absent, Reading, is_present

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
_SIGNS_OF_LIFE = ("utilization", "power_w", "temperature_c", "clock_hz")


class SuspicionKind(StrEnum):
    """By what a device is suspected to be slower than it was: its clock, its answers, the heat of its memory, its probes."""

    CLOCK = "clock"
    ANSWERS = "answers"
    MEMORY = "memory"
    PROBES = "probes"


@dataclass(frozen=True, slots=True)
class Health:
    """A state, the reasons for it in words and numbers, and since when it holds (UTC).

    ``suspected`` is true when the device is called throttled although no flag of its driver says so; ``suspicions``
    are then what it is suspected by.
    """

    state: HealthState
    reasons: tuple[str, ...]
    since: datetime
    suspected: bool = False
    suspicions: tuple[SuspicionKind, ...] = ()


def asleep(readings: Mapping[str, Reading]) -> bool:
    """True when the driver suspended the device: nothing that only a running device has can be read."""
    suspended = False
    for name in _SIGNS_OF_LIFE:
        sign = readings.get(name)
        if is_present(sign):
            return False
        suspended = suspended or sign is Absent.SUSPENDED
    return suspended
