"""A reading is a number, or the reason why there is none."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, TypeGuard


class Absent(StrEnum):
    """Why a metric that a device should have could not be read."""

    NOT_SUPPORTED = "not_supported"
    NO_PERMISSION = "no_permission"
    DEVICE_LOST = "device_lost"
    TIMED_OUT = "timed_out"
    FIRST_SAMPLE = "first_sample"
    SUSPENDED = "suspended"
    DRIVER_MISMATCH = "driver_mismatch"
    BAD_VALUE = "bad_value"
    ERROR = "error"


Reading: TypeAlias = float | Absent
"""One metric at one time: a number in the metric's base unit, or why it is absent. Never 0 for unknown."""


def is_present(reading: Reading | None) -> TypeGuard[float]:
    """True when *reading* is a number. ``None`` stands for a metric that the device does not have."""
    return reading is not None and not isinstance(reading, Absent)


def present(reading: Reading | None) -> float | None:
    """The number of *reading*, or None when it is absent for whatever reason."""
    return None if isinstance(reading, Absent) else reading
