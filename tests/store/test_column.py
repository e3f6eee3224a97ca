from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.health import HealthState
from hwdash.core.metric import METRICS
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.store.column import COLUMNS, HEALTH_CODES, THROTTLE_BITS, Column, throttle_columns, throttle_mask


def test_every_metric_has_one_column() -> None:
    assert sorted(column.metric for column in COLUMNS) == sorted(METRICS)
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_every_code_is_given_once() -> None:
    assert set(THROTTLE_BITS) == set(ThrottleReason)
    assert sorted(THROTTLE_BITS.values()) == [1 << number for number in range(len(ThrottleReason))]
    assert set(HEALTH_CODES) == set(HealthState)
    assert len(set(HEALTH_CODES.values())) == len(HealthState)


@given(st.sampled_from(COLUMNS), st.floats(-1e12, 1e12))
def test_a_value_comes_back_within_half_a_step(column: Column, value: float) -> None:
    stored = column.stored(value)
    assert stored is not None
    assert abs(column.value(stored) - value) <= 0.5 / column.scale * (1 + 1e-6) + abs(value) * 1e-15


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**64, 1e300])
def test_what_is_no_64_bit_integer_is_not_stored(value: float) -> None:
    assert Column("energy_j", "energy_mj", 1e3).stored(value) is None


@given(st.floats())
def test_whatever_is_stored_fits_64_bits(value: float) -> None:
    stored = Column("fan_rpm", "fan_rpm").stored(value)
    assert stored is None or -(2**63) <= stored < 2**63


def test_throttling_keeps_not_told_apart_from_none() -> None:
    power, heat = ThrottleReason.POWER_CAP, ThrottleReason.THERMAL_SW
    assert throttle_columns(()) == (None, None)
    assert throttle_columns((ThrottleActivity(power, active=False),)) == (0, None)
    assert throttle_columns((ThrottleActivity(power, active=False, duty=0.0),)) == (0, 0)
    activities = (ThrottleActivity(power, active=True), ThrottleActivity(heat, active=False, duty=0.25))
    assert throttle_columns(activities) == (THROTTLE_BITS[power] | THROTTLE_BITS[heat], 250)


def test_a_name_from_elsewhere_is_an_unknown_reason() -> None:
    assert throttle_mask(["power_cap", "novel"]) == (
        THROTTLE_BITS[ThrottleReason.POWER_CAP] | THROTTLE_BITS[ThrottleReason.UNKNOWN]
    )
