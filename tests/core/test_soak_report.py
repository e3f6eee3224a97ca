"""From samples to the report of a soak."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.soak import SoakEnd, SoakFinished, SoakReport, SoakSample, SoakStarted
from hwdash.core.soak_event import soak_event_from_wire, soak_event_to_wire
from hwdash.core.soak_report import MOST_SAMPLES, onset_of, rate_words, report_of, thinned, throttles
from hwdash.core.wire import dumps, loads, to_wire

STARTED = SoakStarted(
    "id", datetime(2026, 1, 1, tzinfo=UTC), "gpu0", "pci:1", "Card", "m", "decode", "tok/s", max_temperature_c=90.0
)


def sample(at_s: float, rate: float | None = 600.0, **changes: object) -> SoakSample:
    facts: dict[str, object] = {"temperature_c": 62.0, "power_w": 500.0, "clock_hz": 1.98e9}
    return SoakSample(at_s, rate, **(facts | changes))  # type: ignore[arg-type]


def report(samples: list[SoakSample], end: SoakEnd = SoakEnd.TIME, **changes: object) -> SoakReport:
    total_s = samples[-1].at_s if samples else 0.0
    return report_of(STARTED, samples, end, total_s, **changes)  # type: ignore[arg-type]


def test_a_device_that_held_its_rate() -> None:
    found = report([sample(float(second)) for second in range(1, 301)])
    assert found.verdict == "held 600 tok/s for 5 min at 62 °C, no throttling"
    assert found.onset is None
    assert found.duty == ()
    assert found.start is not None
    assert (found.start.from_s, found.start.to_s) == (1.0, 10.0)
    assert found.steady is not None
    assert (found.steady.from_s, found.steady.rate, found.steady.temperature_c) == (225.0, 600.0, 62.0)


def throttled() -> list[SoakSample]:
    calm = [sample(float(second), 611.0) for second in range(1, 42)]
    bound = [
        sample(
            float(second),
            611.0 if second < 45 else 540.0,
            clock_hz=1.98e9 if second < 45 else 1.395e9,
            throttle=("power_cap",),
            temperature_c=71.0,
            power_w=700.0,
        )
        for second in range(42, 102)
    ]
    return [*calm, *bound]


def test_a_device_that_throttled_tells_when_why_and_how_much() -> None:
    found = report(throttled(), SoakEnd.THROTTLED)
    assert found.onset is not None
    assert (found.onset.at_s, found.onset.reasons) == (42.0, ("power_cap",))
    assert (found.onset.before.from_s, found.onset.before.to_s) == (32.0, 41.0)
    assert found.onset.after is not None
    assert found.onset.after.from_s == 45.0
    assert found.verdict == (
        "throttled after 42 s (power cap): clock 1980 → 1395 MHz, 611 → 540 tok/s (-12%); steady at 700 W, 71 °C"
    )
    assert dict(found.duty) == {"power_cap": pytest.approx(60 / 101)}


@pytest.mark.parametrize(
    ("end", "changes", "words"),
    [
        (SoakEnd.LOST, {}, "the device was lost after 5 s; held 600 tok/s"),
        (SoakEnd.CANCELLED, {}, "cancelled after 5 s; held 600 tok/s"),
        (SoakEnd.FAILED, {"problem": "gpu0: killed"}, "failed after 5 s (gpu0: killed); held 600 tok/s"),
    ],
)
def test_how_it_ended_stands_first(end: SoakEnd, changes: dict[str, object], words: str) -> None:
    assert report([sample(float(second)) for second in range(1, 6)], end, **changes).verdict.startswith(words)


@pytest.mark.parametrize(("temperature_c", "words"), [(90.0, "of 90 °C"), (80.0, "of the device itself")])
def test_which_temperature_limit_ended_it(temperature_c: float, words: str) -> None:
    seen = [sample(float(second), temperature_c=temperature_c) for second in range(1, 6)]
    verdict = report(seen, SoakEnd.TEMPERATURE).verdict
    assert verdict.startswith(f"stopped after 5 s at the temperature limit {words}; held 600 tok/s")


def test_time_without_samples_is_not_called_free_of_throttling() -> None:
    seen = [sample(float(second)) for second in range(1, 31)]
    blind = report_of(STARTED, seen, SoakEnd.TIME, 100.0)
    assert blind.verdict == "held 600 tok/s for 1 min 40 s at 62 °C, no throttling in the 30 s with readings"
    between = report([*seen, *(sample(float(second)) for second in range(71, 101))])
    assert between.verdict.endswith("no throttling in the 59 s with readings")
    never = report([SoakSample(2.0, 20.0, watched=False)])
    assert never.verdict == "held 20.0 tok/s for 2 s, there were no readings that tell of throttling"


def test_of_many_samples_those_that_matter_are_kept() -> None:
    seen = [sample(float(second), temperature_c=60.0) for second in range(1, 86_401)]
    seen[50_001] = sample(50_002.0, temperature_c=88.5)
    seen[30_001] = sample(30_002.0, temperature_c=21.5)
    seen[70_003] = sample(70_004.0, throttle=("power_cap",))
    found = report(seen)
    assert 3590 < len(found.samples) <= MOST_SAMPLES
    assert (found.samples[0], found.samples[-1]) == (seen[0], seen[-1])
    assert {seen[50_001], seen[30_001], seen[70_003]} <= set(found.samples)
    times = [item.at_s for item in found.samples]
    assert max(after - before for before, after in pairwise(times)) <= 25.0
    assert dict(found.duty) == {"power_cap": pytest.approx(1 / 86_400)}
    assert thinned(found.samples) == found.samples
    assert len(dumps(to_wire(found))) < 1_000_000


def test_a_rate_that_fell_was_not_held_though_no_reason_was_told() -> None:
    samples = [sample(float(second), 100.0 if second <= 20 else 60.0) for second in range(1, 101)]
    assert report(samples).verdict == "100 → 60.0 tok/s (-40%) over 1 min 40 s at 62 °C, no throttling"


def test_what_is_not_known_is_left_out() -> None:
    bare = [SoakSample(float(second), 20.0) for second in range(1, 31)]
    found = report_of(
        SoakStarted("id", STARTED.started_at, "cpu0", "cpu", "C", "m", "decode", "tok/s", tells_throttle=False),
        bare,
        SoakEnd.TIME,
        30.0,
    )
    assert found.verdict == "held 20.0 tok/s for 30 s, this device does not tell of throttling"
    assert found.steady is not None
    assert found.steady.power_w is None
    late = [SoakSample(1.0, None, throttle=("power_cap",)), SoakSample(2.0, None, throttle=("power_cap",))]
    assert report(late).verdict == "throttled after 1 s (power cap)"
    assert report([], SoakEnd.CANCELLED).verdict == (
        "cancelled after 0 s; nothing was measured in 0 s, there were no readings that tell of throttling"
    )


def test_a_suspicion_counts_and_clocks_kept_in_step_do_not() -> None:
    assert not throttles(sample(1.0, throttle=("sync_boost",)))
    samples = [sample(float(second), throttle=("sync_boost",)) for second in range(1, 10)]
    assert onset_of(samples) is None
    samples.append(sample(10.0, throttle=("sync_boost",), suspected="clock 20 % below what it was"))
    found = report(samples)
    assert found.onset is not None
    assert found.onset.reasons == ()
    assert found.verdict.startswith("suspected of throttling after 10 s (clock 20 % below what it was)")


def test_a_reason_counts_for_as_long_as_the_driver_counted() -> None:
    samples = [sample(1.0), sample(2.0, throttle=("power_cap",), duty=(("power_cap", 0.25),)), sample(4.0)]
    assert report(samples).duty == (("power_cap", 0.0625),)


def test_no_steady_state_while_it_warms_or_its_rate_moves() -> None:
    warming = [sample(float(second), temperature_c=40.0 + second / 10) for second in range(1, 101)]
    assert report(warming).steady is None
    moving = [sample(float(second), 600.0 + 30.0 * (second % 2)) for second in range(1, 101)]
    assert report(moving).steady is None


@pytest.mark.parametrize(
    ("rate", "unit", "text"),
    [(593.2, "tok/s", "593 tok/s"), (5.12e13, "FLOP/s", "51.2 TFLOP/s"), (0.0, "FLOP/s", "0.00 FLOP/s")],
)
def test_rates_in_words(rate: float, unit: str, text: str) -> None:
    assert rate_words(rate, unit) == text


numbers = st.one_of(st.none(), st.floats(0.0, 1e15))
reasons = st.lists(st.sampled_from(["power_cap", "thermal_hw", "sync_boost", "newer"]), max_size=3, unique=True)
samples = st.lists(
    st.builds(
        SoakSample,
        at_s=st.floats(0.0, 1e4),
        rate=numbers,
        temperature_c=st.one_of(st.none(), st.floats(-20.0, 150.0)),
        power_w=numbers,
        clock_hz=numbers,
        throttle=reasons.map(tuple),
        duty=st.lists(st.tuples(st.just("power_cap"), st.floats(0.0, 1.0)), max_size=1).map(tuple),
        suspected=st.sampled_from(["", "", "slow"]),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=lambda item: item.at_s))


@given(samples, st.sampled_from(SoakEnd), st.one_of(st.none(), st.floats(0.0, 1e9)))
def test_whatever_was_seen_there_is_a_report_that_travels(
    found: list[SoakSample], end: SoakEnd, joules: float | None
) -> None:
    made = report(found, end, joules=joules)
    assert made.verdict
    assert "\n" not in made.verdict
    assert "nan" not in made.verdict
    assert all(0.0 <= share <= 1.0 + 1e-9 for _, share in made.duty)
    assert (made.onset is None) == (not any(map(throttles, found)))
    if made.onset is not None:
        assert made.onset.before.to_s <= made.onset.at_s
        assert made.onset.after is None or made.onset.after.from_s >= made.onset.at_s + 3.0
    for phase in (made.start, made.steady):
        if phase is not None and phase.rate is not None:
            rates = [item.rate for item in found if item.rate is not None]
            assert min(rates) - 1e-6 <= phase.rate or math.isclose(min(rates), phase.rate)
            assert phase.rate <= max(rates) + 1e-6 or math.isclose(max(rates), phase.rate)
    event = SoakFinished(made)
    assert soak_event_from_wire(loads(dumps(soak_event_to_wire(event)))) == event
