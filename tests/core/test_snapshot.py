"""What a row of the snapshot says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hwdash.core.health import Health, HealthState, SuspicionKind
from hwdash.core.metric import BOUNDS, METRICS, is_possible
from hwdash.core.reading import Absent
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.wire import from_wire, to_wire
from hwdash.sources.fake import fake_gpu, fake_readings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = fake_readings()
NONE = dict.fromkeys(NUMBERS, Absent.DEVICE_LOST)


def status(state: HealthState, *levels: FaultLevel) -> DeviceStatus:
    faults = tuple(Fault(level.value, "words", level) for level in levels)
    return DeviceStatus(fake_gpu(), NUMBERS, (), (), Health(state, (), NOW), NOW, 0.0, faults=faults)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (status(HealthState.OK), True),
        (status(HealthState.LOST, FaultLevel.FAILED), True),
        (status(HealthState.STALE, FaultLevel.WARNING, FaultLevel.STALLED), True),
        (status(HealthState.STALE, FaultLevel.WARNING), False),
        (replace(status(HealthState.LOST), readings=NONE), False),
    ],
)
def test_numbers_are_of_now_also_of_a_device_that_failed_and_is_read_on(found: DeviceStatus, expected: bool) -> None:
    assert found.has_numbers is expected


def test_asleep_is_who_shows_no_sign_of_life() -> None:
    sleeper = replace(status(HealthState.OK), readings=dict.fromkeys(NUMBERS, Absent.SUSPENDED))
    assert sleeper.asleep
    assert not replace(sleeper, readings={**sleeper.readings, "power_w": 3.0}).asleep
    assert not status(HealthState.OK).asleep


def test_suspicions_are_told_only_where_there_are_some() -> None:
    calm = status(HealthState.OK)
    assert "suspicions" not in to_wire(calm)["health"]
    health = Health(HealthState.THROTTLED, ("slow",), NOW, True, (SuspicionKind.CLOCK, SuspicionKind.ANSWERS))
    wired = to_wire(replace(calm, health=health))
    assert list(wired["health"]["suspicions"]) == ["clock", "answers"]
    assert from_wire(wired, DeviceStatus).health == health


def test_every_metric_has_bounds() -> None:
    assert {metric.unit for metric in METRICS.values()} <= BOUNDS.keys()
    assert is_possible("utilization", 1.0)
    assert is_possible("temperature_margin_c", -90.0)
    assert not is_possible("temperature_c", -90.0)
    assert not any(is_possible(name, value) for name in METRICS for value in (1e308, float("nan"), float("-inf")))
