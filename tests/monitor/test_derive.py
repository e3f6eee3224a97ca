"""Rates, margins and duties from two samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Limits
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.monitor.derive import View, derive, throttling
from hwdash.monitor.episode import proceed
from hwdash.sources.fake import fake_gpu

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU = fake_gpu()


def sample(
    at_s: float,
    readings: Mapping[str, Reading] | None = None,
    *,
    flags: frozenset[ThrottleReason] | None = frozenset(),
    seconds: Mapping[ThrottleReason, float] | None = None,
    unknown: str | None = None,
) -> Sample:
    return Sample("k", at_s, NOW, readings or {}, (), flags, seconds or {}, unknown)


def test_power_comes_from_the_energy_counter_where_it_is_absent() -> None:
    first = sample(10.0, {"energy_j": 100.0, "power_w": Absent.NOT_SUPPORTED})
    assert derive(None, first, GPU).readings["power_w"] is Absent.FIRST_SAMPLE
    second = sample(12.0, {"energy_j": 300.0})
    assert derive(first, second, GPU).readings["power_w"] == 100.0


def test_a_power_that_is_there_is_left_alone() -> None:
    readings = {"energy_j": 300.0, "power_w": 42.0}
    assert derive(sample(10.0, {"energy_j": 100.0}), sample(12.0, readings), GPU).readings == readings


def test_an_energy_counter_that_was_reset_is_a_gap_not_a_negative_power() -> None:
    view = derive(sample(10.0, {"energy_j": 100.0}), sample(12.0, {"energy_j": 1.0}), GPU)
    assert view.readings["power_w"] is Absent.FIRST_SAMPLE


def test_without_an_energy_counter_the_reason_stays() -> None:
    readings: dict[str, Reading] = {"power_w": Absent.NO_PERMISSION, "energy_j": Absent.NO_PERMISSION}
    assert derive(sample(10.0, {"energy_j": 100.0}), sample(12.0, readings), GPU).readings == readings


@pytest.mark.parametrize("margin", [{}, {"temperature_margin_c": Absent.NOT_SUPPORTED}])
def test_the_margin_comes_from_the_threshold(margin: dict[str, Reading]) -> None:
    assert derive(None, sample(1.0, {"temperature_c": 82.0} | margin), GPU).readings["temperature_margin_c"] == 7.0
    nothing = fake_gpu(limits=Limits())
    assert derive(None, sample(1.0, {"temperature_c": 82.0} | margin), nothing).readings == {
        "temperature_c": 82.0,
        **margin,
    }


def test_a_margin_of_the_driver_is_left_alone() -> None:
    readings = {"temperature_c": 82.0, "temperature_margin_c": 5.0}
    assert derive(None, sample(1.0, readings), GPU).readings == readings


def test_duty_is_the_growth_of_the_counter_over_the_time_between() -> None:
    cap = ThrottleReason.POWER_CAP
    before = sample(10.0, seconds={cap: 5.0})
    assert throttling(before, sample(12.0, seconds={cap: 5.5})) == (ThrottleActivity(cap, False, 0.25, seconds=5.5),)
    assert throttling(before, sample(12.0, seconds={cap: 7.1})) == (ThrottleActivity(cap, False, 1.0, seconds=7.1),)
    assert throttling(before, sample(12.0, seconds={cap: 5.0})) == (ThrottleActivity(cap, False, 0.0, seconds=5.0),)
    active = frozenset({cap})
    assert throttling(before, sample(12.0, flags=active, seconds={cap: 5.0})) == (
        ThrottleActivity(cap, True, 0.0, seconds=5.0),
    )
    assert throttling(None, sample(12.0, flags=active, seconds={cap: 5.0})) == (
        ThrottleActivity(cap, True, None, seconds=5.0),
    )
    assert throttling(before, sample(12.0, flags=active, seconds={cap: 4.0})) == (
        ThrottleActivity(cap, True, None, seconds=4.0),
    )
    assert throttling(before, sample(12.0, flags=None, seconds={cap: 4.0})) == (
        ThrottleActivity(cap, False, None, seconds=4.0),
    )


def test_the_worst_class_comes_first_and_unknown_bits_are_named() -> None:
    flags = frozenset({ThrottleReason.SYNC_BOOST, ThrottleReason.POWER_CAP, ThrottleReason.MEMORY_THERMAL})
    found = throttling(None, sample(1.0, flags=flags, unknown="0x4000"))
    assert [activity.reason for activity in found] == [
        ThrottleReason.MEMORY_THERMAL,
        ThrottleReason.POWER_CAP,
        ThrottleReason.SYNC_BOOST,
        ThrottleReason.UNKNOWN,
    ]
    assert found[-1] == ThrottleActivity(ThrottleReason.UNKNOWN, True, None, "0x4000")


counters = st.dictionaries(st.sampled_from(ThrottleReason), st.floats(0, 1e9))


@given(
    st.floats(-10, 10),
    counters,
    counters,
    st.none() | st.frozensets(st.sampled_from(ThrottleReason)),
    st.floats(0, 1e9),
)
def test_no_counter_makes_a_negative_or_impossible_rate(
    elapsed: float,
    before: dict[ThrottleReason, float],
    after: dict[ThrottleReason, float],
    flags: frozenset[ThrottleReason] | None,
    energy: float,
) -> None:
    earlier = sample(100.0, {"energy_j": 5e8}, seconds=before)
    view = derive(earlier, sample(100.0 + elapsed, {"energy_j": energy}, flags=flags, seconds=after), GPU)
    power = view.readings["power_w"]
    assert power is Absent.FIRST_SAMPLE or (is_present(power) and power >= 0)
    for activity in view.throttle:
        assert activity.duty is None or 0 <= activity.duty <= 1
        assert activity.limiting == (activity.active or (activity.duty or 0) > 0)
    assert {activity.reason for activity in view.throttle} >= (flags or frozenset())


def test_a_counter_that_is_read_seldom_has_its_duty_over_all_the_time_between() -> None:
    slow, fast = ThrottleReason.THERMAL_HW, ThrottleReason.POWER_CAP
    view: View | None = None
    before: Sample | None = None
    duties = []
    account = None
    for tick in range(21):
        seconds = {fast: 0.5 * tick}
        if tick % 5 == 0:
            seconds[slow] = 0.2 * tick
        now = replace(sample(float(tick), seconds=seconds), throttle_known=frozenset({slow, fast}))
        view = derive(before, now, GPU, view)
        before = now
        account = proceed(account, now.monotonic_s, view.throttle, view.counts)
        by_reason = {activity.reason: activity for activity in view.throttle}
        assert by_reason[fast].duty == (None if tick == 0 else 0.5)
        assert by_reason[slow].seconds == 0.2 * (tick - tick % 5)
        duties.append(by_reason[slow].duty)
        if tick >= 5:
            assert account.seconds(slow) == pytest.approx(0.2 * tick)
    assert duties[:5] == [None] * 5
    assert duties[5:] == pytest.approx([0.2] * 16)
    assert account is not None
    assert sum(seconds for _, _, seconds in account.spans[slow]) == pytest.approx(4.0)


def test_a_seldom_counter_that_rests_has_no_duty_once_it_was_read_again() -> None:
    slow = ThrottleReason.THERMAL_HW
    view: View | None = None
    before: Sample | None = None
    duties = []
    for tick, seconds in enumerate([0.0, None, 2.0, None, None, 2.0, 2.0, 3.0, None, 1.0]):
        now = replace(
            sample(float(tick), seconds={} if seconds is None else {slow: seconds}), throttle_known=frozenset({slow})
        )
        view = derive(before, now, GPU, view)
        before = now
        duties.append(view.throttle[0].duty)
    assert duties == [None, None, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, None]
