"""Rates of counters: never negative, never invented."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.reading import Absent, is_present
from hwdash.sources.rate import Rate


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
