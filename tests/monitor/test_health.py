"""The states, their words, and that they do not flap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Limits
from hwdash.core.health import Health, HealthState, SuspicionKind
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.throttle import HARMLESS, ThrottleActivity, ThrottleReason
from hwdash.monitor.health import Condition, Observation, Suspect, advance

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(temperature_slowdown_c=89.0, memory_temperature_max_c=95.0, clock_hz=1.98e9)
WARNING = Fault("rows", "a row remap is pending; reset the GPU")
STALLED = Fault("heartbeat", "no heartbeat for 12 s", FaultLevel.STALLED)
FAILED = Fault("status", "the driver calls it malfunctioning; reset it", FaultLevel.FAILED)
SLOW = Suspect(SuspicionKind.CLOCK, "clock 1210 MHz while busy, usually 1755 MHz")
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
    memory: Reading = Absent.NOT_SUPPORTED,
    faults: Sequence[Fault] = (),
    suspicions: Sequence[Suspect] = (),
) -> Observation:
    readings: dict[str, Reading] = {
        "temperature_margin_c": margin,
        "clock_hz": 1.395e9,
        "memory_temperature_c": memory,
    }
    at = START + timedelta(seconds=at_s)
    return Observation(
        at_s, at, fresh, readings, tuple(throttle), LIMITS, lost, silence, age_s, tuple(faults), tuple(suspicions)
    )


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
    limits = Limits(temperature_slowdown_c=89.0, temperature_shutdown_c=95.0)
    assert run([replace(seen(0, -8.0), limits=limits)])[0].health.reasons == ("2 °C above shutdown at 95 °C",)


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


def test_what_a_profile_names_is_not_unknown() -> None:
    named = ThrottleActivity(ThrottleReason.UNKNOWN, True, None, "gremlins")
    assert run([seen(0, throttle=(named,))])[0].health.reasons == ("gremlins: clock 1395 of 1980 MHz",)


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


def test_what_comes_and_goes_is_told_with_its_share_of_the_last_minute() -> None:
    found = run([seen(n, throttle=(CAP,) if n % 10 < 5 else ()) for n in range(121)])
    assert found[-1].health.reasons == ("power cap 30 s of the last 60 s, clock 1395 of 1980 MHz",)
    held = run([seen(n, throttle=(CAP,)) for n in range(202)])
    assert held[-1].health.reasons == ("power cap for 3 min 21 s: clock 1395 of 1980 MHz",)


@pytest.mark.parametrize("step_s", [0.1, 1.0, 20.0, 60.0])
def test_flags_without_counters_are_counted_by_time(step_s: float) -> None:
    flag = ThrottleActivity(ThrottleReason.THERMAL_SW, True)
    clear = ThrottleActivity(ThrottleReason.THERMAL_SW, False)
    found = run([seen(n * step_s, throttle=(flag if n % 2 else clear,)) for n in range(2, 700)])
    account = found[-1].throttling
    assert account is not None
    assert account.seconds(ThrottleReason.THERMAL_SW) == pytest.approx(30.0, abs=0.7) or step_s > 15
    assert len(account.spans.get(ThrottleReason.THERMAL_SW, ())) <= 70


def test_a_clock_that_jumped_back_begins_a_new_account() -> None:
    found = run([seen(n, throttle=(CAP,)) for n in (*range(100, 140), *range(50, 60))])
    assert found[-1].health.reasons == ("power cap for 9 s: clock 1395 of 1980 MHz",)


def test_a_warm_memory_is_warm_with_its_limit() -> None:
    found = run([seen(n, memory=temperature) for n, temperature in enumerate([80.0, 88.0, 84.0, 82.0])])
    assert [condition.health.state.value for condition in found] == ["ok", "warm", "warm", "ok"]
    assert found[1].health.reasons == ("memory 7 °C below its limit of 95 °C",)


def test_a_suspicion_is_throttling_called_suspected_and_a_flag_takes_over() -> None:
    found = [
        condition.health for condition in run([seen(0, suspicions=(SLOW,)), seen(1, 5.0, (CAP,), suspicions=(SLOW,))])
    ]
    assert found[0] == Health(HealthState.THROTTLED, (f"suspected: {SLOW.words}",), START, True, (SuspicionKind.CLOCK,))
    assert found[1].reasons == ("power cap for 1 s: clock 1395 of 1980 MHz", "5 °C to slowdown at 89 °C")
    assert (found[1].state, found[1].suspected, found[1].since) == (HealthState.THROTTLED, False, START)


def test_a_fault_that_fails_or_stalls_a_device_is_its_state() -> None:
    found = [
        condition.health
        for condition in run([seen(0, faults=(WARNING, FAILED, STALLED)), seen(1, faults=(STALLED,)), seen(2)])
    ]
    assert found[0].state is HealthState.LOST
    assert found[0].reasons == (f"failed: {FAILED.words}", WARNING.words, STALLED.words)
    assert (found[1].state, found[1].reasons) == (HealthState.STALE, ("stalled: no heartbeat for 12 s",))
    assert found[2].state is HealthState.OK


def test_a_warning_is_added_to_any_state() -> None:
    assert run([seen(0, faults=(WARNING,))])[0].health == Health(HealthState.OK, (WARNING.words,), START)
    throttled = run([seen(0, throttle=(CAP,), faults=(WARNING,))])[0].health
    assert throttled.reasons == ("power cap: clock 1395 of 1980 MHz", WARNING.words)


def test_a_suspended_device_is_asleep_and_well() -> None:
    readings: dict[str, Reading] = dict.fromkeys(("utilization", "power_w", "clock_hz"), Absent.SUSPENDED)
    asleep = advance(None, Observation(1.0, START, readings=readings | {"memory_total_bytes": 1e9}))
    assert (asleep.health.state, asleep.health.reasons) == (HealthState.OK, ("asleep",))
    awake = advance(asleep, Observation(2.0, START, readings=readings | {"power_w": 7.0}))
    assert awake.health.reasons == ()


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
        memory=margins,
        faults=st.lists(st.sampled_from([WARNING, STALLED, FAILED]), max_size=2, unique=True),
        suspicions=st.sampled_from([(), (), (SLOW,)]),
    ),
    min_size=1,
    max_size=30,
)


@given(observations, st.lists(st.floats(-1, 90), min_size=30, max_size=30))
def test_any_path_leads_to_a_valid_health(found: list[Observation], steps: list[float]) -> None:
    before: Condition | None = None
    now_s = 1000.0
    at = START
    for step_s, raw in zip(steps, found, strict=False):
        now_s += step_s  # also backwards: a recording may be wound back without a word
        at += timedelta(seconds=abs(step_s))
        observation = replace(raw, at_s=now_s, at=at)
        condition = advance(before, observation)
        health = condition.health
        assert health.reasons or health.state is HealthState.OK
        assert all(reason and "\n" not in reason for reason in health.reasons)
        assert health.since <= at
        if before is None or before.health.state is not health.state:
            assert health.since == at
        else:
            assert health.since == before.health.since
        if health.suspected and observation.fresh:
            assert health.state is HealthState.THROTTLED
            assert not any(activity.active and activity.reason not in HARMLESS for activity in observation.throttle)
            assert health.reasons[0].startswith("suspected: ")
        if condition.throttling is not None:
            for reason in ThrottleReason:
                assert -1e-6 <= condition.throttling.seconds(reason) <= 60.0 + 1e-6
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
