"""How much a device is held back right now. Pure."""

from __future__ import annotations

import math

from hwdash.core.health import HealthState
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import HARMLESS, ThrottleActivity, ThrottleClass

STEP = 0.05
"""What jitters from second to second counts in steps of this size, so that it does not turn an order around."""
_BY_LIMIT = frozenset({ThrottleClass.THERMAL, ThrottleClass.POWER, ThrottleClass.CURRENT})
_HALF = 0.5
_THROTTLED = HealthState.THROTTLED
_REMEMBERED = 4096
_calm: dict[int, tuple[ThrottleActivity, ...]] = {}
"""Reasons none of which limits its device. A monitor hands on the same ones for as long as nothing changes."""


def throttled_share(status: DeviceStatus) -> float:
    """From 0, free, to 1: the worst duty of the reasons that limit the device.

    A reason without a duty, and a margin of 0 °C or less, count in full; a device that is called throttled counts as
    half at least, also where that is only suspected.
    """
    margin = status.readings.get("temperature_margin_c")
    if isinstance(margin, float) and margin <= 0:
        return 1.0
    throttle = status.throttle
    worst = 0.0 if calm(throttle) else _worst(throttle)
    if status.health.state is _THROTTLED and worst < _HALF:
        return _HALF
    return min(1.0, math.ceil(worst / STEP - 1e-9) * STEP) if worst else 0.0


def calm(throttle: tuple[ThrottleActivity, ...]) -> bool:
    """Nothing in *throttle* limits the device, as an earlier look at the same reasons has found."""
    return not throttle or _calm.get(id(throttle)) is throttle


def _worst(throttle: tuple[ThrottleActivity, ...]) -> float:
    worst = 0.0
    for activity in throttle:
        if (activity.active or activity.duty) and activity.reason not in HARMLESS:
            duty = activity.duty
            worst = max(worst, 1.0 if duty is None else max(duty, STEP))
    if not worst:
        if len(_calm) >= _REMEMBERED:
            _calm.clear()
        _calm[id(throttle)] = throttle
    return worst


def limited_by(status: DeviceStatus) -> ThrottleActivity | None:
    """The worst reason by which heat, power or current hold the device back now; None when they do not."""
    for activity in status.throttle:
        if (activity.active or activity.duty) and activity.reason.category in _BY_LIMIT:
            return activity
    return None


def stretch(status: DeviceStatus) -> float:
    """How many times as long each token takes as at full clock, 1 where nothing is known to hold the clock down.

    Only while heat, power or current limit the device and both clocks are known. Decoding from Python follows the
    core clock about as closely as decoding bound by memory, which sinks with it under a cap.
    """
    if limited_by(status) is None:
        return 1.0
    full, now = status.device.limits.clock_hz, status.number("clock_hz")
    if not full or not now or now >= full:
        return 1.0
    return full / now
