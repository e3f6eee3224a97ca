"""The states, their words, and that they do not flap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Limits
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.monitor.health import Condition, Observation, advance

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(temperature_slowdown_c=89.0, clock_hz=1.98e9)
CAP = ThrottleActivity(ThrottleReason.POWER_CAP, True, 1.0)


def seen(
    at_s: float,
    margin: Reading = 39.0,
    throttle: Sequence[ThrottleActivity] = (),
    *,
    fresh: bool = True,
    lost: str = "",
    silence: str = "",
    age_s: float | None = 0.1,
) -> Observation:
    readings: dict[str, Reading] = {"temperature_margin_c": margin, "clock_hz": 1.395e9}
    at = START + timedelta(seconds=at_s)
    return Observation(at_s, at, fresh, readings, tuple(throttle), LIMITS, lost, silence, age_s)


def run(observations: Sequence[Observation]) -> list[Condition]:
    conditions: list[Condition] = []
    for observation in observations:
        conditions.append(advance(conditions[-1] if conditions else None, observation))
    return conditions


def states(observations: Sequence[Observation]) -> list[str]:
    return [condition.health.state.value for condition in run(observations)]


def test_warm_begins_at_ten_degrees_and_ends_above_twelve() -> None:
    margins = [10.1, 10.0, 11.9, 12.0, 10.5, 12.1, 10.1]
    assert states([seen(n, margin) for n, margin in enumerate(margins)]) == [
        "ok",
        "warm",
        "warm",
        "warm",
        "warm",
        "ok",
        "ok",
    ]


def test_warm_says_how_much_is_left() -> None:
    assert run([seen(0, 7.0)])[0].health.reasons == ("7 °C to slowdown at 89 °C",)
    assert run([seen(0, -2.0)])[0].health.reasons == ("2 °C above slowdown at 89 °C",)


def test_an_unknown_margin_is_not_warm() -> None:
    assert states([seen(0, Absent.NOT_SUPPORTED)]) == ["ok"]


def test_throttled_at_once_and_out_of_it_after_three_clean_samples() -> None:
    throttles = [(), (CAP,), (), (), (CAP,), (), (), (), ()]
    assert states([seen(n, throttle=throttle) for n, throttle in enumerate(throttles)]) == [
        "ok",
        *["throttled"] * 6,
        "ok",
        "ok",
    ]


def test_three_clean_samples_in_less_than_two_seconds_are_not_enough() -> None:
    found = states([seen(0, throttle=(CAP,)), *(seen(n / 10) for n in range(1, 30))])
    assert found.index("ok") == 20


def test_short_bursts_and_sync_boost_are_not_throttling() -> None:
    burst = ThrottleActivity(ThrottleReason.POWER_CAP, False, 0.04)
    boost = ThrottleActivity(ThrottleReason.SYNC_BOOST, True, 1.0)
    assert states([seen(0, throttle=(burst, boost))]) == ["ok"]
    assert states([seen(0, throttle=(ThrottleActivity(ThrottleReason.POWER_CAP, False, 0.05), boost))]) == ["throttled"]


def test_throttling_is_told_with_its_time_and_clock() -> None:
    found = run([seen(n, throttle=(CAP,)) for n in range(39)])
    assert found[0].health.reasons == ("power cap: clock 1395 of 1980 MHz",)
    assert found[-1].health.reasons == ("power cap for 38 s: clock 1395 of 1980 MHz",)
    assert found[-1].health.since == START
    after = advance(found[-1], seen(39))
    assert after.health.reasons == ("power cap 38 s of the last 39 s, until 1 s ago, clock 1395 of 1980 MHz",)


def test_a_burst_between_samples_is_told_with_its_share() -> None:
    burst = ThrottleActivity(ThrottleReason.THERMAL_SW, False, 0.45)
    found = run([seen(n, throttle=(burst,)) for n in range(4)])
    assert found[0].health.reasons == ("thermal slowdown, 45% of the time: clock 1395 of 1980 MHz",)
    assert found[-1].health.reasons == ("thermal slowdown 1 s of the last 3 s, clock 1395 of 1980 MHz",)
    found = run([seen(n, throttle=(burst,)) for n in range(200)])
    assert found[-1].health.reasons == ("thermal slowdown 27 s of the last 60 s, clock 1395 of 1980 MHz",)


def test_an_unknown_bit_is_named() -> None:
    unknown = ThrottleActivity(ThrottleReason.UNKNOWN, True, None, "0x4000")
    assert run([seen(0, throttle=(unknown,))])[0].health.reasons == ("unknown reason 0x4000: clock 1395 of 1980 MHz",)


def test_throttled_and_warm_gives_both_reasons() -> None:
    health = run([seen(0, 3.0, (CAP,))])[0].health
    assert health.state is HealthState.THROTTLED
    assert health.reasons == ("power cap: clock 1395 of 1980 MHz", "3 °C to slowdown at 89 °C")


def test_silence_makes_stale_and_a_sample_ends_it() -> None:
    found = run([seen(0), seen(12, silence="the driver does not answer", fresh=False, age_s=12.0), seen(13)])
    assert found[1].health.state is HealthState.STALE
    assert found[1].health.reasons == ("no sample for 12 s: the driver does not answer",)
    assert found[2].health.state is HealthState.OK
    never = advance(None, seen(2, silence="the driver does not answer", fresh=False, age_s=None))
    assert never.health.reasons == ("no sample yet: the driver does not answer",)


def test_lost_says_the_drivers_words_and_outranks_everything() -> None:
    health = run([seen(0, 1.0, (CAP,), lost="GPU is lost", silence="the driver does not answer")])[0].health
    assert health.state is HealthState.LOST
    assert health.reasons == ("lost: GPU is lost",)


def test_without_a_new_sample_nothing_moves() -> None:
    first = advance(None, seen(0, throttle=(CAP,)))
    assert advance(first, seen(30, fresh=False)) is first


margins = st.sampled_from([Absent.TIMED_OUT]) | st.floats(-20, 60)
activities = st.builds(ThrottleActivity, st.sampled_from(ThrottleReason), st.booleans(), st.none() | st.floats(0, 1))
observations = st.lists(
    st.builds(
        seen,
        st.just(0.0),
        margins,
        st.lists(activities, max_size=3, unique_by=lambda activity: activity.reason),
        fresh=st.booleans(),
        lost=st.sampled_from(["", "", "", "gone"]),
        silence=st.sampled_from(["", "", "", "no answer"]),
        age_s=st.none() | st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=30,
)


@given(observations)
def test_any_state_but_ok_has_a_reason_and_since_is_when_it_began(found: list[Observation]) -> None:
    timed = [
        Observation(
            float(n),
            START + timedelta(seconds=n),
            o.fresh,
            o.readings,
            o.throttle,
            o.limits,
            o.lost,
            o.silence,
            o.age_s,
        )
        for n, o in enumerate(found)
    ]
    before: Condition | None = None
    for observation, condition in zip(timed, run(timed), strict=True):
        health = condition.health
        assert (health.state is HealthState.OK) == (not health.reasons)
        assert all(reason and "\n" not in reason for reason in health.reasons)
        if before is None or before.health.state is not health.state:
            assert health.since == observation.at
        else:
            assert health.since == before.health.since
        before = condition


@given(st.lists(st.floats(10.01, 12.0), min_size=2, max_size=50), st.booleans())
def test_a_margin_that_wavers_inside_the_band_never_changes_the_state(noise: list[float], warm: bool) -> None:
    start = [5.0 if warm else 30.0]
    found = states([seen(n, margin) for n, margin in enumerate(start + noise)])
    assert set(found) == {"warm" if warm else "ok"}


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.floats(0.1, 2.0))
def test_throttling_that_comes_and_goes_changes_the_state_only_after_a_quiet_time(
    flags: list[bool], interval: float
) -> None:
    found = run([seen(n * interval, throttle=(CAP,) if flag else ()) for n, flag in enumerate(flags)])
    quiet = 0
    for flag, before, after in zip(flags[1:], found, found[1:], strict=False):
        quiet = 0 if flag else quiet + 1
        if before.health.state is HealthState.THROTTLED and after.health.state is HealthState.OK:
            assert quiet >= 3
            assert quiet * interval >= 2.0 - 1e-6
        if flag:
            assert after.health.state is HealthState.THROTTLED
