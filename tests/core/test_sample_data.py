"""What a real machine printed is still understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwdash.core.health import HealthState
from hwdash.core.inference import InferenceRecord
from hwdash.core.metric import METRICS
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleReason
from hwdash.core.wire import dumps, from_wire, loads, to_wire

H200 = Path(__file__).parent.parent.parent / "sample_data" / "nvidia-h200"


def devices(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((H200 / f"{name}.json").read_text())["devices"]
    return found


@pytest.mark.parametrize("name", ["devices-idle", "devices-decoding", "devices-power-cap", "devices-two-gpus"])
def test_devices_come_back_as_they_were_printed(name: str) -> None:
    for data in devices(name):
        assert loads(dumps(to_wire(from_wire(data, DeviceStatus)))) == data
        assert set(data["metrics"]) | set(data["absent"]) <= set(METRICS)


def test_the_power_cap_is_told_with_its_clock() -> None:
    (gpu,) = (from_wire(data, DeviceStatus) for data in devices("devices-power-cap") if data["kind"] == "gpu")
    assert gpu.health.state is HealthState.THROTTLED
    assert [(item.reason, item.active) for item in gpu.limiting] == [(ThrottleReason.POWER_CAP, True)]
    assert len(gpu.throttle) == 8, "what does not hold is told as well"
    assert "1470 of 1980 MHz" in gpu.health.reasons[0]


@pytest.mark.parametrize(("name", "throttle"), [("answer", ()), ("answer-throttled", ("power_cap",))])
def test_answers_are_records_with_a_text(name: str, throttle: tuple[str, ...]) -> None:
    data = json.loads((H200 / f"{name}.json").read_text())
    record = from_wire(data, InferenceRecord)
    assert data["text"]
    assert record.conditions.throttle == throttle
    assert record.energy is not None
    assert record.energy.joules > 100
