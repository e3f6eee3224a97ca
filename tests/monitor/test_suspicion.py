"""Throttling that no flag shows: when it is suspected, when not, and when that ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Device, DeviceKind, Limits
from hwdash.core.probe import Usual
from hwdash.core.reading import Reading
from hwdash.core.sample import Sample
from hwdash.core.snapshot import LastRequest
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.monitor.suspicion import RECENT_S, Suspicion
from hwdash.sources.fake import fake_gpu

START = datetime(2026, 1, 1, tzinfo=UTC)
CAP = (ThrottleActivity(ThrottleReason.POWER_CAP, True, 1.0),)
FAST, SLOW = 1.755e9, 1.21e9
HBM = fake_gpu(limits=Limits(memory_temperature_max_c=95.0))


@dataclass
class Bench:
    """A device on which time passes."""

    device: Device = field(default_factory=fake_gpu)
    step_s: float = 1.0
    now_s: float = 100.0

    def __post_init__(self) -> None:
        self.suspicion = Suspicion(self.device.kind)

    def run(
        self,
        seconds: float,
        clock: float = FAST,
        utilization: float = 0.9,
        throttle: tuple[ThrottleActivity, ...] = (),
        memory: float = 50.0,
        **changes: bool,
    ) -> list[tuple[str, ...]]:
        """What is suspected after each sample of *seconds* under the same conditions."""
        found = []
        for _ in range(round(seconds / self.step_s)):
            self.now_s += self.step_s
            readings: dict[str, Reading] = {
                "clock_hz": clock,
                "utilization": utilization,
                "memory_temperature_c": memory,
            }
            sample = Sample("k", self.now_s, START + timedelta(seconds=self.now_s), readings)
            sample = replace(sample, **changes)  # type: ignore[arg-type]
            suspects = self.suspicion.observe(sample, readings, throttle, self.device)
            found.append(tuple(f"suspected: {suspect.words}" for suspect in suspects))
        return found

    def answer(self, gap_s: float, model: str = "m", after_s: float = 1.0) -> None:
        self.now_s += after_s
        at = START + timedelta(seconds=self.now_s)
        self.suspicion.note(self.now_s, LastRequest(model, at, 0.1, 1 / gap_s, gap_s))


def test_a_busy_device_whose_clock_falls_is_suspected_with_both_clocks() -> None:
    bench = Bench()
    assert not any(bench.run(90))
    found = bench.run(20, SLOW)
    assert found[-1] == ("suspected: clock 1210 MHz while busy, usually 1755 MHz",)
    assert 4 <= [bool(words) for words in found].index(True) <= 10
    assert any(bench.run(4))
    assert not bench.run(20)[-1]


@pytest.mark.parametrize("step_s", [0.1, 1.0, 10.0, 60.0])
def test_the_same_at_every_interval(step_s: float) -> None:
    bench = Bench(step_s=step_s)
    assert not any(bench.run(60 * max(10.0, step_s)))
    assert bench.run(10 * max(5.0, step_s), SLOW)[-1]
    assert not bench.run(10 * max(5.0, step_s))[-1]


def test_between_the_two_edges_nothing_changes() -> None:
    bench = Bench()
    bench.run(90)
    assert not any(bench.run(60, 0.88 * FAST))
    assert bench.run(20, 0.8 * FAST)[-1]
    assert all(bench.run(60, 0.9 * FAST))
    assert not bench.run(20, 0.94 * FAST)[-1]


def test_no_alarm_in_the_first_minute_whatever_the_clock_does() -> None:
    bench = Bench()
    found = [bench.run(10, clock) for clock in (FAST, SLOW, FAST, SLOW, SLOW)]
    assert not any(any(part) for part in found)


def test_a_flag_or_a_setting_explains_a_low_clock() -> None:
    bench = Bench()
    bench.run(90)
    assert not any(bench.run(60, SLOW, throttle=CAP))
    assert not any(bench.run(60, SLOW, clock_is_set=True))
    assert bench.run(30, SLOW)[-1]
    assert not any(bench.run(1, SLOW, throttle=CAP))


def test_what_throttles_with_a_flag_is_not_learned_as_usual() -> None:
    bench = Bench()
    bench.run(90)
    bench.run(3600, SLOW, throttle=CAP)
    assert bench.run(30, SLOW)[-1] == ("suspected: clock 1210 MHz while busy, usually 1755 MHz",)


def test_idle_is_never_suspected_and_waking_up_is_not_either() -> None:
    bench = Bench()
    bench.run(120)
    for _ in range(10):
        assert not any(bench.run(30, 3.45e8, 0.0))
        assert not any(bench.run(3, 3.45e8))  # busy already, the clock still on its way up
        assert not any(bench.run(20))


def test_a_suspicion_ends_with_ten_seconds_of_rest() -> None:
    bench = Bench()
    bench.run(90)
    bench.run(20, SLOW)
    found = [bool(words) for words in bench.run(15, SLOW, 0.1)]
    assert found == [True] * 9 + [False] * 6


def test_a_load_that_changes_slowly_is_not_suspected() -> None:
    bench = Bench(step_s=5.0)
    bench.run(600)
    for minute in range(600):  # a third less in ten hours
        assert not any(bench.run(60, FAST * (1 - 0.33 * minute / 600)))


def test_what_lasts_becomes_usual_within_the_hour() -> None:
    bench = Bench()
    bench.run(600)
    assert bench.run(60, SLOW)[-1]
    assert not bench.run(3600, SLOW)[-1]


def test_a_processor_is_compared_within_its_band_of_load() -> None:
    bench = Bench(Device("cpu", DeviceKind.CPU, "v", "n", "host"))
    bench.run(120, 3.5e9, 0.92)
    assert not any(bench.run(60, 2.4e9, 0.99))  # all cores: slower by design
    assert not any(bench.run(60, 1.0e9, 0.7))
    assert bench.run(30, 2.4e9, 0.92)[-1] == ("suspected: clock 2400 MHz while busy, usually 3500 MHz",)


def test_slow_answers_are_suspected_with_both_paces() -> None:
    bench = Bench()
    for _ in range(12):
        bench.answer(0.0081)
    bench.answer(0.0123)
    assert not bench.run(1)[-1]
    bench.answer(0.0123)
    assert bench.run(1)[-1] == ("suspected: 12.3 ms a token of m, usually 8.10 ms",)
    for _ in range(2):
        bench.answer(0.0098)  # between the edges
    assert bench.run(1)[-1]
    for _ in range(2):
        bench.answer(0.0085)
    assert not bench.run(1)[-1]


def test_slow_answers_are_forgotten_after_ten_minutes() -> None:
    bench = Bench()
    for gap in [0.008] * 12 + [0.02] * 3:
        bench.answer(gap)
    assert all(bench.run(590))
    assert not bench.run(20)[-1]


def test_each_model_has_its_own_pace_and_few_answers_say_nothing() -> None:
    bench = Bench()
    for gap in [0.008] * 7 + [0.02] * 3:
        bench.answer(gap)
    assert not bench.run(1)[-1]
    for _ in range(12):
        bench.answer(0.008, "small")
    for _ in range(5):
        bench.answer(0.05, "large")
    assert not bench.run(1)[-1]


def test_answers_under_a_real_reason_are_not_held_against_the_device() -> None:
    bench = Bench()
    for _ in range(12):
        bench.answer(0.008)
    bench.run(2, throttle=CAP)
    for _ in range(5):
        bench.answer(0.02)
    assert not bench.run(1)[-1]


def test_hot_memory_is_suspected_only_under_load() -> None:
    bench = Bench(HBM)
    assert not any(bench.run(30, memory=94.0, utilization=0.0))
    assert bench.run(1, memory=92.0)[-1] == ("suspected: memory at 92 °C while busy, limit 95 °C",)
    assert bench.run(1, memory=90.0)[-1]
    assert not bench.run(1, memory=89.9)[-1]
    assert not bench.run(1, memory=91.0)[-1]
    assert not any(Bench().run(5, memory=200.0))  # no limit is known


def test_what_is_remembered_is_bounded() -> None:
    bench = Bench(step_s=0.1)
    for number in range(200):
        bench.answer(0.01, f"model-{number}")
    bench.run(120)
    suspicion = bench.suspicion
    assert len(suspicion._answers._usual) <= 16
    assert len(suspicion._clock._recent) <= 25


steps = st.lists(
    st.tuples(
        st.floats(0.05, 70),
        st.floats(1e6, 1e10),
        st.floats(0, 1),
        st.booleans(),
        st.booleans(),
        st.floats(-50, 150),
    ),
    max_size=80,
)


@given(steps)
def test_a_suspicion_needs_work_without_a_reason_and_gives_two_numbers(
    path: Sequence[tuple[float, float, float, bool, bool, float]],
) -> None:
    bench = Bench(HBM)
    for step_s, clock, utilization, capped, held, memory in path:
        bench.step_s = step_s
        (words,) = bench.run(step_s, clock, utilization, CAP if capped else (), memory, clock_is_set=held)
        for text in words:
            assert text.startswith("suspected: ")
            assert sum(character.isdigit() for character in text) >= 2
        if capped or held:
            assert not any("clock" in text for text in words)


@given(st.lists(st.booleans(), min_size=60, max_size=300))
def test_a_clock_that_jumps_does_not_make_the_suspicion_flap(slow: Sequence[bool]) -> None:
    bench = Bench()
    bench.run(120)
    found = [(bool(bench.run(1, SLOW if low else FAST)[-1]), bench.now_s) for low in slow]
    changes = [at_s for (before, _), (after, at_s) in pairwise(found) if before != after]
    assert all(later - earlier >= RECENT_S for earlier, later in pairwise(changes))


def test_a_processor_busier_than_can_be_has_the_uppermost_band() -> None:
    bench = Bench(fake_gpu(kind=DeviceKind.CPU))
    bench.run(120, utilization=1e308)
    assert bench.run(30, SLOW, utilization=0.99)[-1]


USUAL = Usual(0.010, 0.15)


def probes(bench: Bench, *gaps_s: float, model: str = "m") -> tuple[str, ...]:
    """What is suspected after a probe a minute with these gaps, on an idle device."""
    found: list[tuple[str, ...]] = []
    for gap_s in gaps_s:
        found = bench.run(60, utilization=0.0)
        bench.suspicion.note_probe(bench.now_s, model, gap_s, USUAL, 180.0)
        found = bench.run(1, utilization=0.0)
    return found[-1]


def test_three_slow_probes_in_a_row_are_suspected_until_one_is_well() -> None:
    bench = Bench()
    assert probes(bench, 0.012, 0.012) == ()
    assert probes(bench, 0.0125) == ("suspected: a probe of m takes 12.5 ms a token, at best 10.0 ms",)
    assert probes(bench, 0.0112)
    assert probes(bench, 0.0105) == ()
    assert probes(bench, 0.012, 0.012, 0.011, 0.012, 0.012) == ()


def test_a_throttle_reason_explains_slow_probes() -> None:
    bench = Bench()
    for _ in range(5):
        bench.run(5, SLOW, throttle=CAP)
        bench.suspicion.note_probe(bench.now_s, "m", 0.02, USUAL, 180.0)
    assert bench.run(1)[-1] == ()


def test_slow_probes_say_nothing_of_a_day_later() -> None:
    bench = Bench()
    assert probes(bench, 0.02, 0.02, 0.02)
    assert bench.run(500, utilization=0.0)[-1]
    assert not bench.run(120, utilization=0.0)[-1]
