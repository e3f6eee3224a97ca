"""Groups of devices: which there can be, by what names, and what is known of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool, Runtime
from hwdash.core.errors import UnknownDevice, UsageError
from hwdash.core.group import group_sample, id_of
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.core.wire import from_wire, to_wire

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 2**30


def gpu(number: int, **changes: object) -> Device:
    return replace(
        Device(
            f"nvidia:GPU-{number}",
            DeviceKind.GPU,
            "NVIDIA",
            "NVIDIA H200",
            "nvml",
            f"gpu{number}",
            driver="580.1",
            capabilities=Capabilities("9.0", ("fp32", "bf16"), 132, inference=True),
            limits=Limits(power_w=700.0, temperature_slowdown_c=89.0 - number, memory_bandwidth_bytes_per_s=4.8e12),
            visible_as=f"GPU-{number}",
        ),
        **changes,  # type: ignore[arg-type]
    )


def status(
    device: Device, free: int = 100 * GIB, state: HealthState = HealthState.OK, **readings: float
) -> DeviceStatus:
    pool = MemoryPool("hbm", 140 * GIB, 140 * GIB - free, free)
    return DeviceStatus(device, readings, (pool,), (), Health(state, (), NOW), NOW, 0.1)


def found(name: str, *statuses: DeviceStatus) -> DeviceStatus:
    return Snapshot(1, NOW, 1.0, statuses).find(name)


def test_a_group_has_one_name_and_one_key_in_whatever_order_it_is_named() -> None:
    statuses = [status(gpu(number)) for number in (0, 2, 10)]
    for names in permutations(("gpu0", "nvidia:GPU-2", "gpu10")):
        device = found("+".join(names), *statuses).device
        assert device.id == "gpu0+gpu2+gpu10"
        assert device.key == "nvidia:GPU-0+nvidia:GPU-10+nvidia:GPU-2"
        assert found(device.key, *statuses).device == found(device.id, *statuses).device == device
        assert [member.id for member in device.members] == ["gpu0", "gpu2", "gpu10"]
        assert device.visible_as == "GPU-0,GPU-2,GPU-10"
        assert device.name == "3 x NVIDIA H200"
        assert (device.limits.power_w, device.limits.temperature_slowdown_c) == (2100.0, 79.0)


def test_what_can_be_no_group_is_named() -> None:
    others = [
        gpu(1, name="NVIDIA L4"),
        gpu(2, driver="570.9"),
        gpu(3, parent="nvidia:GPU-0"),
        gpu(4, kind=DeviceKind.NPU),
        gpu(5, visible_as=None),
        gpu(6, capabilities=Capabilities()),
        gpu(7, runtime=Runtime(url="http://localhost:1")),
    ]
    words = {
        1: "gpu1 is a NVIDIA L4, and gpu0 a NVIDIA H200",
        2: "gpu2 has the driver 570.9, and gpu0 has 580.1",
        3: "gpu3 is a part of a GPU",
        4: "gpu4 is of kind npu, not a GPU",
        5: "gpu5 is not driven by hwdash's own workers",
        6: "gpu6 is not driven",
        7: "gpu7 is not driven",
    }
    statuses = [status(device) for device in (gpu(0), *others)]
    for number, reason in words.items():
        with pytest.raises(UsageError, match=reason) as caught:
            found(f"gpu0+gpu{number}", *statuses)
        assert caught.value.param == "device"
        assert caught.value.message.startswith("device: ")
    with pytest.raises(UsageError, match="names a device twice"):
        found("gpu0+nvidia:GPU-0", *statuses)
    for name in ("gpu0+", "+gpu0", "gpu0+gpu9", "gpu0++gpu1"):
        with pytest.raises(UnknownDevice) as unknown:
            found(name, *statuses)
        assert unknown.value.param == "device"
    nine = [status(gpu(number)) for number in range(9)]
    with pytest.raises(UsageError, match="joins 9 devices; a group has 2 to 8"):
        found("+".join(f"gpu{number}" for number in range(9)), *nine)


@given(st.lists(st.integers(0, 140 * GIB), min_size=2, max_size=8))
def test_the_memory_of_a_group_is_what_equal_parts_may_take(frees: list[int]) -> None:
    statuses = [status(gpu(number), free) for number, free in enumerate(frees)]
    whole = found("+".join(item.device.id for item in statuses), *statuses)
    (pool,) = whole.pools
    assert pool.free_bytes // len(frees) == min(frees)
    assert pool.total_bytes == len(frees) * 140 * GIB
    assert whole.largest_pool == pool


def test_the_state_of_a_group_is_the_worst_of_its_devices() -> None:
    capped = ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=0.7)
    hot = replace(
        status(gpu(1), state=HealthState.LOST, power_w=500.0, temperature_c=60.0, clock_hz=1e9),
        throttle=(replace(capped, duty=0.2), ThrottleActivity(ThrottleReason.THERMAL_SW, active=False)),
    )
    cool = replace(status(gpu(0), power_w=300.0, temperature_c=50.0, clock_hz=2e9, utilization=0.5), throttle=(capped,))
    whole = found("gpu0+gpu1", cool, hot)
    assert whole.health.state is HealthState.LOST
    assert (whole.number("power_w"), whole.number("temperature_c"), whole.number("clock_hz")) == (800.0, 60.0, 1e9)
    assert whole.readings["utilization"] is Absent.NOT_SUPPORTED
    assert whole.limiting == (capped,)


def test_a_sample_of_a_group_adds_up_its_counters() -> None:
    one = Sample("a", 1.0, NOW, {"energy_j": 5.0, "temperature_c": 40.0}, throttle_flags=frozenset())
    two = Sample(
        "b", 1.1, NOW, {"energy_j": 7.0, "temperature_c": 44.0}, throttle_seconds={ThrottleReason.POWER_CAP: 2.0}
    )
    both = group_sample("a+b", [one, two])
    assert (both.monotonic_s, both.readings["energy_j"], both.readings["temperature_c"]) == (1.0, 12.0, 44.0)
    assert both.throttle_flags is None
    assert both.throttle_seconds == {ThrottleReason.POWER_CAP: 2.0}
    dumb = replace(two, readings={"energy_j": Absent.TIMED_OUT, "temperature_c": 44.0})
    assert group_sample("a+b", [one, dumb]).readings["energy_j"] is Absent.TIMED_OUT


def test_history_names_a_group_by_the_ids_of_today() -> None:
    ids = {"k10": "gpu10", "k2": "gpu2"}
    assert id_of(ids, "k10+k2") == "gpu2+gpu10"
    assert id_of(ids, "k2") == "gpu2"
    assert [id_of(ids, key) for key in ("k2+gone", "gone", "")] == ["k2+gone", "gone", ""]


def test_a_group_never_travels_inside_a_device() -> None:
    one = status(gpu(0))
    assert "members" not in to_wire(one)
    crafted = to_wire(one) | {"members": [to_wire(one)]}
    assert from_wire(crafted, DeviceStatus).device.members == ()
