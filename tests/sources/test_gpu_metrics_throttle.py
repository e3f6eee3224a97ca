"""AMD's throttlers: bits with a class each, the false positive, and counters as seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.sources.gpu_metrics import decode
from hwdash.sources.gpu_metrics_throttle import ThrottleMeter, flags_of
from tests.sources.gpu_metrics_table import table


def only(*reasons: ThrottleReason) -> frozenset[ThrottleReason]:
    return frozenset(reasons)


@pytest.mark.parametrize(
    ("bits", "category"),
    [(range(8), ThrottleClass.POWER), (range(16, 24), ThrottleClass.CURRENT), (range(32, 48), ThrottleClass.THERMAL)],
)
def test_each_bit_has_the_class_of_its_group(bits: range, category: ThrottleClass) -> None:
    for bit in bits:
        (reason,), unknown = flags_of(1 << bit)
        assert (reason.category, unknown) == (category, None), bit


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0, ThrottleReason.POWER_CAP),
        (34, ThrottleReason.MEMORY_THERMAL),
        (35, ThrottleReason.THERMAL_SW),
        (40, ThrottleReason.MEMORY_THERMAL),
        (44, ThrottleReason.THERMAL_HW),
        (46, ThrottleReason.PROCHOT),
        (57, ThrottleReason.RELIABILITY),
    ],
)
def test_named_bits(bit: int, reason: ThrottleReason) -> None:
    assert flags_of(1 << bit) == (only(reason), None)


def test_bits_without_a_word_are_shown() -> None:
    assert flags_of(0) == (frozenset(), None)
    assert flags_of(1 << 12 | 1) == (only(ThrottleReason.UNKNOWN, ThrottleReason.POWER_CAP), "0x1000")
    assert flags_of(1 << 56) == (only(ThrottleReason.UNKNOWN), "PPM")
    assert flags_of(1 << 56 | 1 << 63) == (only(ThrottleReason.UNKNOWN), "PPM 0x8000000000000000")


@given(st.integers(0, 2**64 - 1))
def test_no_bit_is_dropped(bits: int) -> None:
    reasons, unknown = flags_of(bits)
    assert bool(bits) == bool(reasons)
    assert (ThrottleReason.UNKNOWN in reasons) == bool(unknown)


def test_the_hotspot_bit_is_believed_near_the_critical_temperature_only() -> None:
    meter = ThrottleMeter()
    for hotspot, flags in ((104, only()), (105, only(ThrottleReason.THERMAL_SW))):
        metrics = decode(table((1, 3), hotspot=hotspot, indep_throttle=1 << 36))
        throttling = meter.update(metrics, 0.0, critical_c=110.0)
        assert throttling.flags == flags
        assert ThrottleReason.THERMAL_SW in throttling.known
        assert throttling.unknown is None
    cool = decode(table((1, 3), hotspot=60, indep_throttle=1 << 36))
    assert meter.update(cool, 0.0).flags == only(ThrottleReason.THERMAL_SW)
    both = decode(table((1, 3), hotspot=60, indep_throttle=1 << 36 | 1 << 35))
    assert meter.update(both, 0.0, critical_c=110.0).flags == only(ThrottleReason.THERMAL_SW)
    apu = decode(table((2, 2), indep_throttle=1 << 36))
    assert meter.update(apu, 0.0, critical_c=110.0).flags == only(ThrottleReason.THERMAL_SW)


def test_bits_of_one_chip_are_shown_as_they_are() -> None:
    meter = ThrottleMeter()
    throttling = meter.update(decode(table((1, 1), throttle_status=0x14)), 0.0)
    assert (throttling.flags, throttling.unknown) == (only(ThrottleReason.UNKNOWN), "0x14 of this chip")
    assert meter.update(decode(table((1, 4), throttle_status=0)), 0.0).flags is None


def seconds(
    meter: ThrottleMeter, at_s: float, accumulation: int, ppt: int, hbm: int = 0
) -> dict[ThrottleReason, float]:
    metrics = decode(table((1, 6), accumulation=accumulation % 2**32, ppt=ppt % 2**32, hbm_thm=hbm))
    throttling = meter.update(metrics, at_s)
    assert throttling.flags is None
    assert throttling.known == only(ThrottleReason.POWER_CAP, ThrottleReason.MEMORY_THERMAL)
    return dict(throttling.seconds)


def test_counters_become_seconds_of_the_time_gone_by() -> None:
    meter = ThrottleMeter()
    power, memory = ThrottleReason.POWER_CAP, ThrottleReason.MEMORY_THERMAL
    assert seconds(meter, 10.0, 5000, 700) == {power: 0.0, memory: 0.0}
    assert seconds(meter, 12.0, 7000, 1200) == {power: pytest.approx(0.5), memory: 0.0}
    assert seconds(meter, 12.1, 7000, 1200) == {power: pytest.approx(0.5), memory: 0.0}
    assert seconds(meter, 14.0, 8000, 2200, 250) == {power: pytest.approx(2.5), memory: pytest.approx(0.5)}


def test_counters_wrap_and_are_reset() -> None:
    meter = ThrottleMeter()
    power = ThrottleReason.POWER_CAP
    seconds(meter, 0.0, -500, -100)
    assert seconds(meter, 1.0, 500, 150)[power] == pytest.approx(0.25)
    assert seconds(meter, 2.0, 10, 0)[power] == pytest.approx(0.25)
    assert seconds(meter, 3.0, 1010, 1000)[power] == pytest.approx(1.25)


def test_counters_without_a_unit_tell_only_that_they_moved() -> None:
    meter = ThrottleMeter()

    def flags(**residencies: int) -> frozenset[ThrottleReason] | None:
        throttling = meter.update(decode(table((3, 0), **residencies)), 0.0)
        assert throttling.known == only(ThrottleReason.PROCHOT, ThrottleReason.POWER_CAP, ThrottleReason.THERMAL_SW)
        assert not throttling.seconds
        return throttling.flags

    assert flags(prochot=1, sppt=5, thm_gfx=9) == only()
    assert flags(prochot=1, sppt=6, thm_gfx=9) == only(ThrottleReason.POWER_CAP)
    assert flags(prochot=2, sppt=0, thm_gfx=9) == only(ThrottleReason.PROCHOT)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=20))
def test_seconds_never_fall_and_never_outrun_the_clock(steps: list[tuple[float, int, int]]) -> None:
    meter = ThrottleMeter()
    at_s = before = 0.0
    for gap, accumulation, ppt in steps:
        at_s += gap
        metrics = decode(table((1, 6), accumulation=accumulation, ppt=ppt))
        now = meter.update(metrics, at_s).seconds.get(ThrottleReason.POWER_CAP, before)
        assert before <= now <= at_s + 1e-6
        before = now
