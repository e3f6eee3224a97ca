"""How many requests a device takes at once. Pure."""

from __future__ import annotations

from hwdash.core.health import HOT_MARGIN_C
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.throttling import limited_by


def limit_of(status: DeviceStatus, slots: int) -> tuple[int, str]:
    """How many requests at once the device of *status* takes of its *slots*, and why fewer; empty when not lowered.

    Half of them, one at least, while heat, power or current hold it back or `HOT_MARGIN_C` °C or less are left to its
    slowdown temperature: more at once would make each of them slower.
    """
    slots = max(1, slots)
    limit = max(1, slots // 2)
    if limit == slots:
        return slots, ""
    activity = limited_by(status)
    if activity is not None:
        return limit, f"{activity.words}: {limit} at once instead of {slots}"
    margin = status.number("temperature_margin_c")
    if margin is not None and margin <= HOT_MARGIN_C:
        cause = f"{margin:.0f} °C to slowdown" if margin >= 0 else f"{-margin:.0f} °C above slowdown"
        return limit, f"{cause}: {limit} at once instead of {slots}"
    return slots, ""
