"""The order of the devices: total, deterministic, monotone in each part, and explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Capabilities, Device, DeviceKind, MemoryPool, Runtime
from hwdash.core.errors import UsageError
from hwdash.core.health import Health, HealthState
from hwdash.core.ranking import ExcludedDevice, RankedDevice
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.routing.rank import rank

GIB = 2**30
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = {
    HealthState.OK: (),
    HealthState.WARM: ("7 °C to slowdown at 89 °C",),
    HealthState.THROTTLED: ("power cap for 38 s: clock 1395 of 1980 MHz",),
    HealthState.STALE: ("no sample for 12 s: the driver does not answer",),
    HealthState.LOST: ("lost: fell off the bus",),
}


def device_status(
    name: str,
    *,
    free: float | None = 130 * GIB,
    health: HealthState = HealthState.OK,
    inference: bool = True,
    load: float | None = 0.0,
    last: LastRequest | None = None,
) -> DeviceStatus:
    kind = DeviceKind(name.rstrip("0123456789"))
    device = Device(f"fake:{name}", kind, "Fake", name, "fake", name, capabilities=Capabilities(inference=inference))
    pools = () if free is None else (MemoryPool("hbm", int(max(free, 140 * GIB)), 0, int(free)),)
    readings = {"utilization": Absent.NOT_SUPPORTED if load is None else load}
    return DeviceStatus(device, readings, pools, (), Health(health, REASONS[health], NOW), NOW, 0.1, last)


def snapshot_of(*devices: DeviceStatus) -> Snapshot:
    return Snapshot(1, NOW, 1.0, devices)


def order_of(*devices: DeviceStatus) -> list[str]:
    return [ranked.device for ranked in rank(snapshot_of(*devices)).ranked]


lasts = st.none() | st.builds(
    LastRequest,
    st.sampled_from(["a", "b"]),
    st.just(NOW),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 1e4),
)
machines = st.lists(
    st.builds(
        device_status,
        st.builds("{}{}".format, st.sampled_from(["gpu", "cpu", "npu"]), st.integers(0, 12)),
        free=st.none() | st.integers(0, 2000 * GIB),
        health=st.sampled_from(HealthState),
        inference=st.booleans(),
        load=st.none() | st.floats(0, 1),
        last=lasts,
    ),
    unique_by=lambda status: status.device.id,
    max_size=8,
)


@given(machines)
def test_every_device_stands_in_exactly_one_list_with_reasons(devices: list[DeviceStatus]) -> None:
    ranking = rank(snapshot_of(*devices))
    entries: list[RankedDevice | ExcludedDevice] = [*ranking.ranked, *ranking.excluded]
    assert sorted(entry.device for entry in entries) == sorted(status.device.id for status in devices)
    assert all(entry.why and all(entry.why) for entry in entries)
    for entry in ranking.ranked:
        assert 0 <= entry.score <= 1
        assert all(0 <= part <= 1 for part in entry.parts.values())
        assert entry.score == round(entry.score, 3)
    scores = [entry.score for entry in ranking.ranked]
    assert scores == sorted(scores, reverse=True)


@given(machines, st.randoms(use_true_random=False))
def test_the_order_of_the_snapshot_does_not_matter(devices: list[DeviceStatus], random: object) -> None:
    shuffled = list(devices)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank(snapshot_of(*shuffled)) == rank(snapshot_of(*devices))


@given(machines, st.sampled_from([(HealthState.LOST, True), (HealthState.STALE, True), (HealthState.OK, False)]))
def test_an_unsuitable_device_changes_nothing_among_the_others(
    devices: list[DeviceStatus], unsuitable: tuple[HealthState, bool]
) -> None:
    health, inference = unsuitable
    fast = LastRequest("a", NOW, 0.001, 1e5)
    intruder = device_status("gpu99", free=9000 * GIB, health=health, inference=inference, last=fast)
    ranking = rank(snapshot_of(*devices, intruder))
    assert ranking.ranked == rank(snapshot_of(*devices)).ranked
    assert "gpu99" in {entry.device for entry in ranking.excluded}


@given(machines.filter(bool), st.data())
def test_less_free_memory_never_raises_the_score(devices: list[DeviceStatus], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(devices) - 1))
    chosen = replace(devices[index], health=Health(HealthState.OK, (), NOW))
    chosen = replace(chosen, device=replace(chosen.device, capabilities=Capabilities(inference=True)))
    more, less = sorted((data.draw(st.integers(0, 2000 * GIB)), data.draw(st.integers(0, 2000 * GIB))), reverse=True)

    def score(free: int) -> float:
        devices[index] = replace(chosen, pools=(MemoryPool("hbm", 2000 * GIB, 0, free),))
        ranked = rank(snapshot_of(*devices)).ranked
        return next(entry.score for entry in ranked if entry.device == chosen.device.id)

    assert score(less) <= score(more)


@given(machines)
def test_a_throttled_device_is_never_above_its_healthy_twin(devices: list[DeviceStatus]) -> None:
    for status in devices:
        healthy = replace(status, health=Health(HealthState.OK, (), NOW))
        healthy = replace(healthy, device=replace(healthy.device, capabilities=Capabilities(inference=True)))
        kind = status.device.kind.value
        throttled = replace(
            healthy,
            health=Health(HealthState.THROTTLED, REASONS[HealthState.THROTTLED], NOW),
            device=replace(healthy.device, id=f"{kind}50", key="fake:throttled"),
        )
        healthy = replace(healthy, device=replace(healthy.device, id=f"{kind}51", key="fake:healthy"))
        order = order_of(*devices, throttled, healthy)
        assert order.index(f"{kind}51") < order.index(f"{kind}50")


def test_equal_devices_stand_in_the_order_of_their_numbers() -> None:
    assert order_of(*(device_status(f"gpu{number}") for number in (10, 2, 9, 0))) == ["gpu0", "gpu2", "gpu9", "gpu10"]


def test_jitter_of_memory_and_load_does_not_turn_the_order_around() -> None:
    quiet = device_status("gpu0", free=130 * GIB - 300 * 2**20, load=0.02)
    assert order_of(quiet, device_status("gpu1", free=130 * GIB)) == ["gpu0", "gpu1"]


def test_a_gpu_comes_before_a_cpu_with_far_more_memory() -> None:
    cpu = device_status("cpu0", free=2000 * GIB)
    assert order_of(cpu, device_status("gpu0", free=20 * GIB)) == ["gpu0", "cpu0"]
    assert order_of(cpu, device_status("gpu0", free=20 * GIB, load=0.9)) == ["gpu0", "cpu0"]


def test_a_cpu_that_was_measured_faster_comes_first() -> None:
    cpu = device_status("cpu0", last=LastRequest("m", NOW, 0.01, 100.0))
    slow = device_status("gpu0", last=LastRequest("m", NOW, 0.1, 10.0))
    assert order_of(slow, cpu) == ["cpu0", "gpu0"]


def test_measured_latency_decides_between_equal_devices_but_only_for_the_same_model() -> None:
    slow, fast = LastRequest("m", NOW, 0.1, 50.0), LastRequest("m", NOW, 0.05, 100.0)
    assert order_of(device_status("gpu0", last=slow), device_status("gpu1", last=fast)) == ["gpu1", "gpu0"]
    other = replace(fast, model="tiny")
    assert order_of(device_status("gpu0", last=slow), device_status("gpu1", last=other)) == ["gpu0", "gpu1"]


def test_the_reasons_carry_the_numbers() -> None:
    last = LastRequest("m", NOW, 0.0421, 42.3)
    ranking = rank(
        snapshot_of(
            device_status("gpu0", health=HealthState.THROTTLED, load=0.5, last=last),
            device_status("gpu1", health=HealthState.STALE),
            device_status("npu0", inference=False),
        )
    )
    assert ranking.policy == "balanced"
    assert ranking.requirements == {}
    assert ranking.ranked[0].why == (
        "throttled: power cap for 38 s: clock 1395 of 1980 MHz",
        "130 GiB free",
        "TTFT 42.1 ms at last request, 42.3 tok/s",
        "50% busy",
    )
    assert {entry.device: entry.why for entry in ranking.excluded} == {
        "gpu1": ("no sample for 12 s: the driver does not answer",),
        "npu0": ("hwdash cannot run models on it",),
    }


def test_what_is_unknown_is_neutral_and_said() -> None:
    ranked = rank(snapshot_of(device_status("gpu0", free=None, load=None))).ranked[0]
    assert ranked.parts == {"latency": 0.5, "health": 1.0, "free_memory": 0.5, "load": 0.5}
    assert ranked.why == ("health ok", "free memory unknown", "no request measured yet", "load unknown")


def test_an_unknown_policy_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="balanced"):
        rank(snapshot_of(), "fastest")


def test_a_device_whose_driver_does_not_answer_is_left_out_before_it_is_stale() -> None:
    silent = replace(device_status("gpu0"), readings={"utilization": Absent.TIMED_OUT, "power_w": Absent.TIMED_OUT})
    found = rank(snapshot_of(silent, device_status("gpu1")))
    assert [item.device for item in found.ranked] == ["gpu1"]
    assert found.excluded[0].why == ("its driver does not answer",)


def test_above_its_slowdown_temperature_a_device_is_as_good_as_throttled() -> None:
    hot = device_status("gpu0", health=HealthState.WARM)
    hot = replace(hot, readings={**hot.readings, "temperature_margin_c": -9.0})
    warm = device_status("gpu1", health=HealthState.WARM)
    found = rank(snapshot_of(hot, warm)).ranked
    assert [item.device for item in found] == ["gpu1", "gpu0"]
    assert found[1].parts["health"] == 0.5


def test_a_chip_without_its_module_says_what_is_missing() -> None:
    chip = device_status("npu0", inference=False)
    chip = replace(chip, device=replace(chip.device, runtime=Runtime("hpu", "vendor.torch")))
    assert rank(snapshot_of(chip)).excluded[0].why == ("vendor.torch, by which torch computes on it, is not installed",)
