"""NVIDIA's clocks-event reasons in the vendor-neutral vocabulary. Pure functions.

Bits after nvml.h, ``nvmlClocksEventReason*`` (and ``nvmlClocksThrottleReason*`` for 0x200 and 0x400).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.throttle import ThrottleReason

_HW_SLOWDOWN = 0x8
_HW_CAUSES = 0x40 | 0x80
"""Thermal and power brake; either of them explains a hardware slowdown better than its own bit does."""

HARDWARE_EVENTS = _HW_SLOWDOWN | _HW_CAUSES
"""All bits of slowdowns that the hardware imposes."""

IDLE = 0x1
"""Nothing runs; the clocks follow."""

_CLOCK_SET = 0x2 | 0x100
"""Application clocks and display clocks."""

_REASONS = MappingProxyType(
    {
        0x4: ThrottleReason.POWER_CAP,
        _HW_SLOWDOWN: ThrottleReason.HW_SLOWDOWN,
        0x10: ThrottleReason.SYNC_BOOST,
        0x20: ThrottleReason.THERMAL_SW,
        0x40: ThrottleReason.THERMAL_HW,
        0x80: ThrottleReason.POWER_BRAKE,
        0x200: ThrottleReason.BOARD_LIMIT,
        0x400: ThrottleReason.RELIABILITY,
    }
)
_KNOWN = IDLE | _CLOCK_SET | sum(_REASONS)

EVERY_REASON = frozenset(_REASONS.values())
"""What is told of where the driver does not say which reasons it knows."""

FIELD_THERMAL = 75
FIELD_THERMAL_SW = 269
FIELD_THERMAL_HW = 270
FIELD_POWER_BRAKE = 271

_COUNTERS = MappingProxyType(
    {
        74: ThrottleReason.POWER_CAP,
        76: ThrottleReason.SYNC_BOOST,
        77: ThrottleReason.BOARD_LIMIT,
        79: ThrottleReason.RELIABILITY,
        FIELD_THERMAL_SW: ThrottleReason.THERMAL_SW,
        FIELD_THERMAL_HW: ThrottleReason.THERMAL_HW,
        FIELD_POWER_BRAKE: ThrottleReason.POWER_BRAKE,
    }
)
COUNTER_FIELDS = (*_COUNTERS, FIELD_THERMAL)
"""Field ids of the counters of throttled time, in ns (nvml.h: ``NVML_FI_DEV_PERF_POLICY_*``, ``…CLOCKS_EVENT_REASON_*``).

75 counts all thermal limits together; it is only for drivers that do not tell software and hardware apart.
"""


def flags_of(bits: int) -> tuple[frozenset[ThrottleReason], str | None]:
    """The reasons in a clocks-event bitmask, and the bits without a name as text such as ``0x4000``."""
    if bits & _HW_CAUSES:
        bits &= ~_HW_SLOWDOWN
    reasons = {reason for bit, reason in _REASONS.items() if bits & bit}
    unknown = bits & ~_KNOWN
    if not unknown:
        return frozenset(reasons), None
    return frozenset(reasons | {ThrottleReason.UNKNOWN}), f"{unknown:#x}"


def reasons_of(supported: int) -> frozenset[ThrottleReason]:
    """The reasons that a device tells of, from the bitmask of those it supports."""
    return frozenset(reason for bit, reason in _REASONS.items() if supported & bit)


def is_clock_set(bits: int) -> bool:
    """True when somebody's setting holds the clock down."""
    return bool(bits & _CLOCK_SET)


def seconds_of(
    field: Callable[[int], Reading], without: frozenset[int] = frozenset()
) -> Mapping[ThrottleReason, float]:
    """The accumulated seconds per reason that the driver counts, from the counter *field* values in ns.

    The counters *without* are left out.
    """
    seconds = {
        reason: value / 1e9
        for id_, reason in _COUNTERS.items()
        if id_ not in without and not isinstance(value := field(id_), Absent) and value >= 0
    }
    if ThrottleReason.THERMAL_SW not in seconds and ThrottleReason.THERMAL_HW not in seconds:
        thermal = field(FIELD_THERMAL)
        if is_present(thermal) and thermal >= 0:
            seconds[ThrottleReason.THERMAL_SW] = thermal / 1e9
    return MappingProxyType(seconds)


@dataclass(frozen=True, slots=True)
class Throttle:
    """What a GPU says of its clocks at one moment, as `hwdash.core.sample.Sample` has it."""

    flags: frozenset[ThrottleReason] | None = None
    unknown: str | None = None
    known: frozenset[ThrottleReason] = frozenset()
    clock_is_set: bool = False


@lru_cache(maxsize=256)
def throttle_of(events: int | Absent, supported: frozenset[ThrottleReason]) -> Throttle:
    """The state that a clocks-event bitmask means on a device that tells of the *supported* reasons."""
    if isinstance(events, Absent):
        return Throttle()
    flags, unknown = flags_of(events)
    return Throttle(flags, unknown, supported | flags, is_clock_set(events))
