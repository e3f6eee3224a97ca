"""What is usual among probes: properties of the baseline."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.probe import DRIFT_FROM, LEAST_PROBES, Usual, usual_of

GAPS = st.lists(st.floats(1e-6, 10.0), min_size=LEAST_PROBES, max_size=200)


def usual(gaps: list[float]) -> Usual:
    found = usual_of(gaps)
    assert found is not None
    return found


@given(GAPS)
def test_the_baseline_was_measured_and_is_in_the_faster_half(gaps: list[float]) -> None:
    found = usual(gaps)
    assert found.baseline_s in gaps
    assert min(gaps) <= found.baseline_s <= median(gaps)
    assert found.limit >= DRIFT_FROM


@given(GAPS)
def test_the_order_does_not_matter(gaps: list[float]) -> None:
    assert usual(gaps) == usual(sorted(gaps, reverse=True))


@given(GAPS, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_a_device_twice_as_slow_has_twice_the_baseline_and_the_same_limit(gaps: list[float], times: float) -> None:
    found, scaled = usual(gaps), usual([gap * times for gap in gaps])
    assert scaled.baseline_s == found.baseline_s * times
    assert scaled.limit == pytest.approx(found.limit)


@given(st.floats(1e-4, 1.0), st.integers(LEAST_PROBES, 60), st.floats(2.0, 100.0))
def test_slow_ones_move_it_only_when_they_are_the_most(pace: float, count: int, times: float) -> None:
    slow = [pace * times] * (count - 1)
    assert usual([pace] * count + slow) == Usual(pace)


@given(GAPS, st.floats(1e-6, 10.0))
def test_a_slower_probe_never_makes_the_baseline_faster(gaps: list[float], extra: float) -> None:
    slower = max(gaps) + extra
    assert usual([*gaps, slower]).baseline_s >= usual(gaps).baseline_s


def test_too_few_make_none() -> None:
    assert usual_of([0.01] * (LEAST_PROBES - 1)) is None
    assert usual_of([0.0] * LEAST_PROBES) is None


def test_where_probes_vary_by_themselves_more_is_needed() -> None:
    noisy = [0.010, 0.010, 0.010, 0.011, 0.011, 0.011, 0.012]
    assert usual(noisy).limit == pytest.approx(0.3)
