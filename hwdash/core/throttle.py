"""Why a device runs slower than it could."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.text import sanitise_line


class ThrottleClass(StrEnum):
    """What kind of limit a throttle reason belongs to."""

    THERMAL = "thermal"
    POWER = "power"
    CURRENT = "current"
    RELIABILITY = "reliability"
    OTHER = "other"


class ThrottleReason(StrEnum):
    """Vendor-neutral throttle reasons. Idle and user-set clocks are not throttling."""

    THERMAL_SW = "thermal_sw"
    THERMAL_HW = "thermal_hw"
    MEMORY_THERMAL = "memory_thermal"
    POWER_CAP = "power_cap"
    POWER_BRAKE = "power_brake"
    CURRENT_LIMIT = "current_limit"
    SYNC_BOOST = "sync_boost"
    BOARD_LIMIT = "board_limit"
    RELIABILITY = "reliability"
    PROCHOT = "prochot"
    HW_SLOWDOWN = "hw_slowdown"
    UNKNOWN = "unknown"

    @property
    def category(self) -> ThrottleClass:
        """The class that this reason belongs to."""
        return _CLASSES[self]

    @property
    def words(self) -> str:
        """The reason in words, lower case, for a person."""
        return _TITLES[self]


HARMLESS = frozenset({ThrottleReason.SYNC_BOOST})
"""Reasons that alone do not make a device throttled: clocks that are kept in step are a setting."""

_NAMES = frozenset(reason.value for reason in ThrottleReason)

_CLASSES = MappingProxyType(
    {
        ThrottleReason.THERMAL_SW: ThrottleClass.THERMAL,
        ThrottleReason.THERMAL_HW: ThrottleClass.THERMAL,
        ThrottleReason.MEMORY_THERMAL: ThrottleClass.THERMAL,
        ThrottleReason.PROCHOT: ThrottleClass.THERMAL,
        ThrottleReason.POWER_CAP: ThrottleClass.POWER,
        ThrottleReason.POWER_BRAKE: ThrottleClass.POWER,
        ThrottleReason.BOARD_LIMIT: ThrottleClass.POWER,
        ThrottleReason.CURRENT_LIMIT: ThrottleClass.CURRENT,
        ThrottleReason.RELIABILITY: ThrottleClass.RELIABILITY,
        ThrottleReason.SYNC_BOOST: ThrottleClass.OTHER,
        ThrottleReason.HW_SLOWDOWN: ThrottleClass.OTHER,
        ThrottleReason.UNKNOWN: ThrottleClass.OTHER,
    }
)

_TITLES = MappingProxyType(
    {
        ThrottleReason.THERMAL_SW: "thermal slowdown",
        ThrottleReason.THERMAL_HW: "thermal slowdown (hardware)",
        ThrottleReason.MEMORY_THERMAL: "memory too hot",
        ThrottleReason.PROCHOT: "processor hot",
        ThrottleReason.POWER_CAP: "power cap",
        ThrottleReason.POWER_BRAKE: "power brake",
        ThrottleReason.BOARD_LIMIT: "board limit",
        ThrottleReason.CURRENT_LIMIT: "current limit",
        ThrottleReason.RELIABILITY: "reliability voltage",
        ThrottleReason.SYNC_BOOST: "sync boost",
        ThrottleReason.HW_SLOWDOWN: "hardware slowdown",
        ThrottleReason.UNKNOWN: "unknown reason",
    }
)


def reason_words(name: str) -> str:
    """The words of the reason with that outside name; a name from elsewhere as one safe line."""
    return ThrottleReason(name).words if name in _NAMES else sanitise_line(name, 40)


@dataclass(frozen=True, slots=True)
class ThrottleActivity:
    """One reason that a device tells of, and how it went since the sample before.

    ``active`` is the driver's flag at the time of the sample. ``duty`` is the share of wall time, 0 to 1, in which
    the reason was active between the last two samples; None where no counter tells it. ``detail`` carries what the
    driver said and the vocabulary has no word for (an unknown bit, in hex). ``seconds`` is the driver's own counter
    of the time under this reason, since a moment that only the driver knows.
    """

    reason: ThrottleReason
    active: bool
    duty: float | None = None
    detail: str | None = None
    seconds: float | None = None

    @property
    def words(self) -> str:
        """The reason in words, with its detail. One that its chip's profile names needs no other word for it."""
        if self.detail is None:
            return self.reason.words
        if self.reason is ThrottleReason.UNKNOWN and "0x" not in self.detail:
            return self.detail
        return f"{self.reason.words} {self.detail}"

    @property
    def limiting(self) -> bool:
        """The reason is active now, or was since the sample before."""
        return self.active or bool(self.duty)
