"""How fast a device has been with a model, over its last answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.routing.pace import ALPHA, Average, Pace

VALUES = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=30)


def averaged(values: list[float]) -> Average:
    average = Average(values[0])
    for value in values[1:]:
        average = average.after(value)
    return average


def test_the_first_answers_count_alike() -> None:
    assert averaged([1.0, 2.0, 6.0]).value == pytest.approx(3.0)


def test_later_ones_count_by_their_age() -> None:
    steady = averaged([1.0] * 10)
    assert steady.after(2.0).value == pytest.approx(1.0 + ALPHA)
    assert steady.deviation == 0.0


@given(VALUES)
def test_an_average_lies_among_its_values(values: list[float]) -> None:
    average = averaged(values)
    assert min(values) * (1 - 1e-9) <= average.value <= max(values) * (1 + 1e-9)
    assert 0.0 <= average.deviation <= max(values) - min(values) + 1e-9


def test_an_answer_with_a_cold_start_counts_until_there_is_one_without() -> None:
    cold = Pace().after(0.2, 0.06, 12.0, 8.0)
    assert (cold.samples, cold.warm) == (1, False)
    assert cold.itl_s == Average(0.06)
    warm = cold.after(0.02, 0.018, None, 2.5)
    assert (warm.samples, warm.itl_s, warm.joules_per_token) == (1, Average(0.018), Average(2.5))
    assert warm.cold_start_s == Average(12.0)


def test_a_later_cold_start_changes_nothing_but_what_is_known_of_cold_starts() -> None:
    warm = Pace().after(0.02, 0.018)
    again = warm.after(0.3, 0.07, 10.0)
    assert (again.samples, again.ttft_s, again.itl_s) == (1, Average(0.02), Average(0.018))
    assert again.cold_start_s == Average(10.0)


def test_what_was_not_measured_leaves_its_average() -> None:
    pace = Pace().after(0.02, 0.018).after(None, 0.018)
    assert pace.samples == 2
    assert pace.ttft_s == Average(0.02)
