"""What goes over the wire comes back the same, and has the names that the contract fixes."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args, get_type_hints

import pytest

import hwdash.core
from hwdash.core.errors import DeviceFull, HwdashError, UnknownDevice, error_from_wire
from hwdash.core.health import Health, HealthState
from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, ThrottledPeriod
from hwdash.core.inference import (
    Conditions,
    Energy,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    Route,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.core.status import DaemonStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.core.wire import answer_to_wire, dumps, event_from_wire, event_to_wire, from_wire, loads, to_wire
from hwdash.sources.fake import fake_gpu, fake_readings

OF_ANOTHER_SHAPE: set[type] = {DeviceStatus, Sample}
"""Dataclasses that are not written as they are."""
NOW = datetime(2026, 11, 22, 9, 0, 38, tzinfo=UTC)


def status(**readings: float | Absent) -> DeviceStatus:
    return DeviceStatus(
        device=fake_gpu(id="gpu0", visible_as=None),
        readings=fake_readings(**readings),
        pools=(),
        throttle=(ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=1.0),),
        health=Health(HealthState.THROTTLED, ("power cap for 38 s: clock 1395 of 1980 MHz",), NOW),
        sampled_at=NOW,
        age_s=0.4,
        last_request=LastRequest("m", NOW, 0.1, 40.0),
    )


def record() -> InferenceRecord:
    return InferenceRecord(
        id="r1",
        started_at=NOW,
        model="m",
        device="gpu0",
        device_key="fake:gpu-0",
        route=Route("auto", ("first in the ranking",)),
        tokens=TokenCounts(31, 64),
        timing=Timing(queue_s=0.0, ttft_s=0.1, total_s=1.0),
        energy=Energy(12.3, "device", 0.19),
        conditions=Conditions(("power_cap",), 54.0, 1.395e9),
        finish_reason=FinishReason.STOP,
    )


def test_device_object_has_the_contract_s_names_and_nesting() -> None:
    data = loads(dumps(to_wire(status(fan_ratio=Absent.NOT_SUPPORTED))))
    assert data["id"] == "gpu0"
    assert data["limits"]["clock_hz"] == 1.98e9
    assert data["capabilities"]["dtypes"] == ["fp32", "fp16", "bf16", "fp8"]
    assert data["absent"] == {"fan_ratio": "not_supported"}
    assert "fan_ratio" not in data["metrics"]
    assert data["throttle"] == [{"reason": "power_cap", "class": "power", "active": True, "duty": 1.0}]
    assert data["health"]["since"] == "2026-11-22T09:00:38Z"
    assert "visible_as" not in data


def test_snapshot_round_trip() -> None:
    snapshot = Snapshot(7, NOW, 1.0, (status(power_w=Absent.TIMED_OUT), status()))
    assert from_wire(loads(dumps(to_wire(snapshot))), Snapshot) == snapshot


@pytest.mark.parametrize(
    "event", [StageEvent(Stage.LOADING, "gpu0", "x", 0.5), TokenEvent("héllo", 1, 0.2), FinishedEvent(record())]
)
def test_event_round_trip(event: PromptEvent) -> None:
    assert event_from_wire(loads(dumps(event_to_wire(event)))) == event


def test_what_is_none_comes_back_as_none() -> None:
    bare = replace(record(), energy=None)
    assert from_wire(loads(dumps(to_wire(bare))), InferenceRecord) == bare
    assert event_from_wire(loads(dumps(event_to_wire(FinishedEvent(bare))))) == FinishedEvent(bare)
    bucket = LatencyBucket(NOW, 1, 1)
    series = LatencySeries("gpu0", "k", "m", bucket, (bucket,))
    history = LatencyHistory(
        NOW, NOW, 1.0, (series,), (ThrottledPeriod("gpu0", "k", NOW, None, ("power cap",), ("power_cap",)),)
    )
    assert from_wire(loads(dumps(to_wire(history))), LatencyHistory) == history
    state = DaemonStatus(1, "0", 1.0, 1.0, "/s", None, ())
    assert from_wire(loads(dumps(to_wire(state))), DaemonStatus) == state


def test_answer_is_flat_and_keeps_nulls_that_scripts_index() -> None:
    data = loads(dumps(answer_to_wire(record(), "hello")))
    assert list(data)[:3] == ["text", "model", "device"]
    assert data["route"] == {"requested": "auto", "why": ["first in the ranking"], "fallback_from": None}
    assert data["tokens"] == {"prompt": 31, "completion": 64}
    unmeasured = replace(record(), energy=None, timing=Timing(), conditions=Conditions())
    bare = loads(dumps(answer_to_wire(unmeasured, "")))
    assert bare["energy"] is None
    assert bare["timing"] == dict.fromkeys(
        ("queue_s", "cold_start_s", "ttft_s", "itl_p50_s", "itl_p99_s", "total_s", "tokens_per_s")
    )
    assert bare["conditions"] == {"throttle": [], "temperature_max_c": None, "clock_min_hz": None}


@pytest.mark.parametrize("error", [DeviceFull("full"), UnknownDevice("x", ["gpu0"]), HwdashError("plain")])
def test_errors_travel_by_code(error: HwdashError) -> None:
    back = error_from_wire(error.code, error.message, error.param)
    assert (type(back), back.message, back.exit_code) == (type(error), error.message, error.exit_code)


def test_numbers_that_json_cannot_hold_become_null() -> None:
    assert dumps(float("nan")) == b"null"


def test_wrong_data_names_the_field() -> None:
    data = to_wire(Snapshot(1, NOW, 1.0, (status(),)))
    data["devices"][0]["health"]["state"] = "odd"
    with pytest.raises(ValueError, match="health"):
        from_wire(data, Snapshot)


def vocabulary() -> list[type]:
    """Every dataclass of the core."""
    modules = [
        importlib.import_module(f"hwdash.core.{item.name}") for item in pkgutil.iter_modules(hwdash.core.__path__)
    ]
    found = {item for module in modules for item in vars(module).values() if isinstance(item, type)}
    return sorted((item for item in found if dataclasses.is_dataclass(item)), key=lambda item: item.__name__)


@pytest.mark.parametrize("kind", vocabulary(), ids=lambda kind: kind.__name__)
def test_what_is_not_written_when_none_is_none_when_read(kind: type) -> None:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if type(None) in get_args(hints[field.name]) and kind not in OF_ANOTHER_SHAPE:
            assert field.default is None, f"{kind.__name__}.{field.name} would be missing on the wire"
