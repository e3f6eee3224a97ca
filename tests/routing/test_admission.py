"""A device that heat or power holds back takes half as many requests at once, and says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.routing.admission import limit_of
from tests.routing.build import device_status, statuses


def limited(reason: ThrottleReason, *, active: bool = True, duty: float | None = None) -> DeviceStatus:
    return device_status("gpu0", throttle=(ThrottleActivity(reason, active, duty),))


def test_power_and_heat_halve_it() -> None:
    assert limit_of(limited(ThrottleReason.POWER_CAP), 4) == (2, "power cap: 2 at once instead of 4")
    assert limit_of(limited(ThrottleReason.THERMAL_HW, active=False, duty=0.2), 5) == (
        2,
        "thermal slowdown (hardware): 2 at once instead of 5",
    )
    assert limit_of(device_status("gpu0", margin=3.0), 4) == (2, "3 °C to slowdown: 2 at once instead of 4")
    assert limit_of(device_status("gpu0", margin=-2.0), 4) == (2, "2 °C above slowdown: 2 at once instead of 4")


@pytest.mark.parametrize("reason", [ThrottleReason.SYNC_BOOST, ThrottleReason.RELIABILITY, ThrottleReason.UNKNOWN])
def test_other_reasons_do_not(reason: ThrottleReason) -> None:
    assert limit_of(limited(reason), 4) == (4, "")


def test_a_reason_that_does_not_hold_does_not() -> None:
    assert limit_of(limited(ThrottleReason.POWER_CAP, active=False, duty=0.0), 4) == (4, "")
    assert limit_of(device_status("gpu0", margin=None), 4) == (4, "")


@given(statuses, st.integers(-3, 64))
def test_there_is_always_room_for_one_and_words_exactly_where_it_is_lowered(status: DeviceStatus, slots: int) -> None:
    limit, why = limit_of(status, slots)
    assert 1 <= limit <= max(1, slots)
    assert bool(why) == (limit < slots)
