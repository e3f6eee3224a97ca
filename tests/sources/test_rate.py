"""Rates of counters: never negative, never invented."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.reading import Absent, is_present
from hwdash.sources.rate import Rate, unwrapped_growth


def test_the_first_value_has_no_rate_and_the_second_one_has() -> None:
    rate = Rate()
    assert rate.update(10.0, 1.0) is Absent.FIRST_SAMPLE
    assert rate.update(16.0, 3.0) == 3.0
    assert rate.update(17.0, 3.0) == 3.0


def test_a_decrease_without_a_wrap_is_a_gap() -> None:
    rate = Rate()
    rate.update(10.0, 1.0)
    assert rate.update(4.0, 2.0) is Absent.FIRST_SAMPLE
    assert rate.update(5.0, 3.0) == 1.0


def test_a_wrap_is_taken_out() -> None:
    rate = Rate(modulus=256.0)
    rate.update(250.0, 1.0)
    assert rate.update(4.0, 2.0) == 10.0


def test_a_reset_is_no_wrap() -> None:
    rate = Rate(modulus=2.0**32)
    rate.update(4000.0, 1.0)
    assert rate.update(5.0, 2.0) is Absent.FIRST_SAMPLE
    assert rate.update(7.0, 3.0) == 2.0


@pytest.mark.parametrize(
    ("last", "now", "modulus", "growth"),
    [
        (5.0, 5.0, 256.0, 0.0),
        (5.0, 250.0, 256.0, 245.0),
        (250.0, 4.0, 256.0, 10.0),
        (129.0, 1.0, 256.0, None),
        (130.0, 1.0, 256.0, 127.0),
        (300.0, 1.0, 256.0, None),
        (9.0, 8.0, None, None),
    ],
)
def test_a_fall_by_more_than_half_of_the_range_is_a_wrap(
    last: float, now: float, modulus: float | None, growth: float | None
) -> None:
    assert unwrapped_growth(last, now, modulus) == growth


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_less_than_half_a_range_is_told_exactly(last: int, growth: int) -> None:
    assert unwrapped_growth(last, (last + growth) % 2**32, 2.0**32) == growth


def test_an_absent_value_keeps_its_reason_and_starts_anew() -> None:
    rate = Rate()
    rate.update(1.0, 1.0)
    assert rate.update(Absent.NO_PERMISSION, 2.0) is Absent.NO_PERMISSION
    assert rate.update(5.0, 3.0) is Absent.FIRST_SAMPLE


@given(st.lists(st.tuples(st.floats(0, 1e18), st.floats(0, 1e9))), st.sampled_from([None, 2.0**32, 2.0**64]))
def test_no_counter_makes_a_negative_rate(values: list[tuple[float, float]], modulus: float | None) -> None:
    rate = Rate(modulus)
    for value, at_s in values:
        found = rate.update(value, at_s)
        assert found is Absent.FIRST_SAMPLE or (is_present(found) and found >= 0)
