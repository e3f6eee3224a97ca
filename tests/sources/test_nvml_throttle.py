"""Throttling and the margin to it, as NVIDIA's driver tells them."""

from __future__ import annotations

import pynvml
import pytest

from hwdash.core.reading import Reading
from hwdash.core.throttle import ThrottleReason
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import SINT, ULONGLONG, FakeCard

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


def test_throttle_flags_and_counters() -> None:
    card = FakeCard()
    card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x1 | 0x2 | 0x100 | 0x8 | 0x40 | 0x20 | 0x4000
    card.fields |= {74: (ULONGLONG, 2_000_000_000), 270: (ULONGLONG, 500_000_000), 75: (ULONGLONG, 77)}
    sample = Rig(card).read()
    assert sample.throttle_flags == frozenset(
        {ThrottleReason.THERMAL_HW, ThrottleReason.THERMAL_SW, ThrottleReason.UNKNOWN}
    )
    assert sample.unknown_flags == "0x4000"
    assert sample.throttle_seconds == {
        ThrottleReason.POWER_CAP: 2.0,
        ThrottleReason.THERMAL_SW: 0.0,
        ThrottleReason.THERMAL_HW: 0.5,
        ThrottleReason.POWER_BRAKE: 0.0,
        ThrottleReason.SYNC_BOOST: 0.0,
        ThrottleReason.BOARD_LIMIT: 0.0,
        ThrottleReason.RELIABILITY: 0.0,
    }


def test_a_driver_without_separate_thermal_counters_gives_the_common_one() -> None:
    card = FakeCard()
    for id_ in (269, 270):
        del card.fields[id_]
    card.fields[75] = (ULONGLONG, 3_000_000_000)
    assert Rig(card).read().throttle_seconds[ThrottleReason.THERMAL_SW] == 3.0


def test_flags_are_unknown_where_the_card_does_not_tell() -> None:
    card = FakeCard()
    card.errors["nvmlDeviceGetCurrentClocksEventReasons"] = NOT_SUPPORTED
    card.errors["nvmlDeviceGetCurrentClocksThrottleReasons"] = NOT_SUPPORTED
    assert Rig(card).read().throttle_flags is None


def test_reasons_that_do_not_hold_are_told_too() -> None:
    sample = Rig().read()
    assert sample.throttle_flags == frozenset()
    assert hash(sample.throttle_known) == hash(frozenset(sample.throttle_known))
    assert sample.throttle_known == frozenset(
        {
            ThrottleReason.POWER_CAP,
            ThrottleReason.HW_SLOWDOWN,
            ThrottleReason.SYNC_BOOST,
            ThrottleReason.THERMAL_SW,
            ThrottleReason.THERMAL_HW,
            ThrottleReason.POWER_BRAKE,
            ThrottleReason.BOARD_LIMIT,  # not among the flags that the card supports, but it has the counter
            ThrottleReason.RELIABILITY,
        }
    )


def test_without_counters_the_supported_flags_are_what_is_known() -> None:
    card = FakeCard()
    card.errors["nvmlDeviceGetFieldValues"] = NOT_SUPPORTED
    card.numbers["nvmlDeviceGetSupportedClocksEventReasons"] = 0x1 | 0x4 | 0x40
    rig = Rig(card)
    rig.read()
    assert rig.read().throttle_known == frozenset({ThrottleReason.POWER_CAP, ThrottleReason.THERMAL_HW})
    assert rig.driver.calls["nvmlDeviceGetSupportedClocksEventReasons"] == 1
    del card.numbers["nvmlDeviceGetSupportedClocksEventReasons"]
    assert len(Rig(card).read().throttle_known) == 8


@pytest.mark.parametrize(("bits", "is_set"), [(0x1, False), (0x2, True), (0x100, True), (0x4, False), (0x6, True)])
def test_a_clock_that_somebody_set_is_no_throttling(bits: int, is_set: bool) -> None:
    card = FakeCard()
    card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = bits
    sample = Rig(card).read()
    assert sample.clock_is_set is is_set
    assert sample.throttle_flags == (frozenset({ThrottleReason.POWER_CAP}) if bits & 4 else frozenset())


def test_the_costly_counters_follow_the_flags() -> None:
    rig = Rig()
    asked = [bool({270, 271} & set(rig.driver.asked_fields)) for _ in range(11) if rig.read()]
    assert asked[0]
    assert sum(asked[1:6]) == sum(asked[6:]) == 1
    rig.card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x80
    rig.card.fields[271] = (ULONGLONG, 10**9)
    assert rig.read().throttle_seconds[ThrottleReason.POWER_BRAKE] == 1.0
    rig.card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    rig.card.fields[271] = (ULONGLONG, 2 * 10**9)
    assert rig.read().throttle_seconds[ThrottleReason.POWER_BRAKE] == 2.0, "the last moments of an event count"


def test_a_counter_that_was_not_asked_for_is_left_out() -> None:
    costly = {ThrottleReason.THERMAL_HW, ThrottleReason.POWER_BRAKE}
    rig = Rig()
    for _ in range(11):
        sample = rig.read()
        asked = {270, 271} <= set(rig.driver.asked_fields)
        assert costly & sample.throttle_seconds.keys() == (costly if asked else set())
        assert costly <= sample.throttle_known
        assert ThrottleReason.POWER_CAP in sample.throttle_seconds


def margins(rig: Rig, *temperatures: int) -> list[Reading]:
    found = []
    for celsius in temperatures:
        rig.card.numbers["nvmlDeviceGetTemperatureV"] = celsius
        found.append(rig.read().readings["temperature_margin_c"])
    return found


def test_the_margin_is_that_to_slowdown() -> None:
    # As measured on an H200: 34 °C, slowdown at 89 °C, margin 53 °C to T.Limit 0, slowdown at T.Limit -2.
    rig = Rig()
    assert margins(rig, 34) == [89.0 - 34.0]
    assert 194 in rig.driver.asked_fields
    rig.clock.advance(60.0)
    margins(rig, 34)
    assert 194 not in rig.driver.asked_fields, "asked once"


@pytest.mark.parametrize("told", [(SINT, 5), (0, float("nan")), (SINT, -2000), None])
def test_without_a_sane_limit_the_margin_is_the_drivers_own(told: tuple[int, float] | None) -> None:
    rig = Rig()
    if told is None:
        del rig.card.fields[194]
    else:
        rig.card.fields[194] = told
    assert margins(rig, 34) == [53.0]


def test_far_from_the_limit_the_margin_follows_the_temperature() -> None:
    rig = Rig()
    assert margins(rig, 34, 36, 33) == [55.0, 53.0, 55.0]
    assert rig.driver.calls["nvmlDeviceGetMarginTemperature"] == 1
    rig.card.fields[82] = (1, 43)
    assert margins(rig, 34) == [45.0], "the memory grew warm"


def test_near_the_limit_the_driver_is_asked_for_the_margin() -> None:
    rig = Rig()
    margins(rig, 34)
    rig.card.numbers["nvmlDeviceGetMarginTemperature"] = 10
    assert margins(rig, 76, 76) == [12.0, 12.0]
    assert rig.driver.calls["nvmlDeviceGetMarginTemperature"] == 2
    rig.card.numbers["nvmlDeviceGetMarginTemperature"] = 1
    assert margins(rig, 85) == [3.0]
