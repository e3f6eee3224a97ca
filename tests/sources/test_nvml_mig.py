"""MIG: the instances of a partitioned NVIDIA GPU."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pynvml
import pytest

from hwdash.core.device import DeviceKind, Limits, MemoryPool
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.source import DeviceLost
from tests.sources.nvml_rig import KEY, Rig
from tests.sources.nvml_stand_in import FakeCard

SLICE = "nvidia:MIG-1"


def instance(uuid: str, number: int) -> FakeCard:
    card = FakeCard(uuid, name="NVIDIA H200 MIG 1g.18gb", memory=(18 * 2**30, 2**30, 17 * 2**30))
    card.gpm = {1: 75.0, 2: 50.0, 5: 25.0, 10: 12.5}
    card.numbers["nvmlDeviceGetGpuInstanceId"] = number
    card.numbers["nvmlDeviceGetAttributes_v2"] = SimpleNamespace(
        multiprocessorCount=16, gpuInstanceSliceCount=1, memorySizeMB=18432
    )
    card.processes = {"Compute": [(2**22, 512)]}
    return card


def partitioned() -> FakeCard:
    card = FakeCard(gpm={}, instances=[instance("MIG-1", 7), instance("MIG-2", 9)])
    card.numbers["nvmlDeviceGetMigMode"] = [1, 1]
    card.errors["nvmlDeviceGetUtilizationRates"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    return card


def test_instances_are_devices_after_their_parent() -> None:
    parent, first, second = Rig(partitioned()).devices
    assert (parent.key, first.key, second.key) == (KEY, SLICE, "nvidia:MIG-2")
    assert (parent.parent, first.parent, second.parent) == (None, KEY, KEY)
    assert first.name == "NVIDIA H200 MIG 1g.18gb"
    assert first.visible_as == "MIG-1"
    assert (first.kind, first.driver, first.pci) == (DeviceKind.GPU, parent.driver, parent.pci)
    assert first.capabilities.compute_units == 16
    assert first.capabilities.dtypes == parent.capabilities.dtypes
    assert (parent.capabilities.inference, first.capabilities.inference) == (False, True)
    assert first.limits == Limits()


def test_a_driver_that_names_only_the_card() -> None:
    card = partitioned()
    card.instances[0].name = "NVIDIA H200"
    card.instances[1].name = "NVIDIA H200"
    del card.instances[1].numbers["nvmlDeviceGetAttributes_v2"]
    _, first, second = Rig(card).devices
    assert (first.name, second.name) == ("NVIDIA H200 MIG 1g.18gb", "NVIDIA H200 MIG")
    assert second.capabilities.compute_units is None


def test_what_is_an_instances_own() -> None:
    rig = Rig(partitioned())
    rig.read(SLICE)
    sample = rig.read(SLICE)
    assert sample.readings == {
        "utilization": 0.75,
        "sm_utilization": 0.5,
        "tensor_utilization": 0.25,
        "memory_bandwidth_utilization": 0.125,
        "memory_used_bytes": 2.0**30,
        "memory_total_bytes": 18.0 * 2**30,
        "temperature_c": Absent.NOT_SUPPORTED,
        "power_w": Absent.NOT_SUPPORTED,
        "clock_hz": Absent.NOT_SUPPORTED,
    }
    assert sample.pools == (MemoryPool("hbm", 18 * 2**30, 2**30, 17 * 2**30),)
    assert sample.processes == (DeviceProcess(2**22, memory_bytes=512),)
    assert sample.throttle_seconds == {}


def test_without_gpm_an_instance_has_no_utilisation() -> None:
    card = partitioned()
    card.gpm = None
    rig = Rig(card)
    rig.read(SLICE)
    assert rig.read(SLICE).readings["utilization"] is Absent.NOT_SUPPORTED


def test_the_parents_throttling_is_the_instances_too() -> None:
    card = partitioned()
    card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x4 | 0x2 | 0x4000
    rig = Rig(card)
    assert rig.read(SLICE).throttle_flags is None, "not read yet"
    parent = rig.read(KEY)
    rig.driver.calls.clear()
    sample = rig.read(SLICE)
    assert sample.throttle_flags == frozenset({ThrottleReason.POWER_CAP, ThrottleReason.UNKNOWN})
    assert sample.throttle_flags == parent.throttle_flags
    assert sample.unknown_flags == "0x4000"
    assert sample.clock_is_set
    assert ThrottleReason.THERMAL_HW in sample.throttle_known
    assert rig.driver.calls["nvmlDeviceGetCurrentClocksEventReasons"] == 0


def test_the_parent_keeps_what_only_it_tells() -> None:
    readings = Rig(partitioned()).read(KEY).readings
    assert readings["utilization"] is Absent.NOT_SUPPORTED
    assert readings["temperature_c"] == 34.0
    assert readings["power_w"] == 81.0


def test_mig_switched_on_and_off() -> None:
    card = partitioned()
    card.numbers["nvmlDeviceGetMigMode"] = [0, 1]
    del card.errors["nvmlDeviceGetUtilizationRates"]
    rig = Rig(card)
    assert len(rig.devices) == 1
    assert rig.devices[0].capabilities.inference
    assert rig.read().readings["utilization"] == 0.37
    card.numbers["nvmlDeviceGetMigMode"] = [1, 1]
    card.errors["nvmlDeviceGetUtilizationRates"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    rig.clock.advance(30.0)
    assert len(rig.source.discover()) == 3
    assert rig.read().readings["utilization"] is Absent.NOT_SUPPORTED
    card.numbers["nvmlDeviceGetMigMode"] = [0, 0]
    del card.errors["nvmlDeviceGetUtilizationRates"]
    card.instances.clear()
    rig.clock.advance(30.0)
    (device,) = rig.source.discover()
    assert device.capabilities.inference
    assert rig.read().readings["utilization"] == 0.37, "asked again, although it was not supported for a while"
    with pytest.raises(DeviceLost, match="no longer lists"):
        rig.read(SLICE)


def test_an_instance_that_is_made_is_found_at_the_next_rescan() -> None:
    card = partitioned()
    rig = Rig(card)
    rig.read(SLICE)
    card.instances.append(instance("MIG-3", 11))
    assert [device.key for device in rig.source.discover()][-1] == "nvidia:MIG-3"
    rig.driver.calls.clear()
    rig.read(SLICE)
    assert rig.driver.calls["nvmlDeviceGetHandleByUUID"] == 0, "what was there goes on as before"


def test_a_card_without_mig_is_asked_once() -> None:
    card = FakeCard()
    del card.numbers["nvmlDeviceGetMigMode"]
    rig = Rig(card)
    for _ in range(3):
        rig.clock.advance(30.0)
        rig.source.discover()
    assert rig.driver.calls["nvmlDeviceGetMigMode"] == 1


def test_an_instance_of_a_driver_that_restarts() -> None:
    rig = Rig(partitioned())
    rig.read(SLICE)
    rig.clock.advance(60)
    rig.driver.errors["nvmlInit"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    rig.card.instances[0].errors["nvmlDeviceGetMemoryInfo_v2"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    sample = rig.read(SLICE)
    assert set(sample.readings.values()) == {Absent.DRIVER_MISMATCH}
    assert len(sample.readings) == 6


def test_instances_that_are_gone_give_back_what_they_held() -> None:
    rig = Rig(partitioned())
    for key in (SLICE, "nvidia:MIG-2"):
        rig.read(key)
    assert rig.driver.gpm_samples == 4
    for number in range(5):
        rig.card.instances[:] = [instance(f"MIG-x{number}", number)]
        rig.source.discover()
        assert rig.driver.gpm_samples == 0
        rig.read(f"nvidia:MIG-x{number}")
    with pytest.raises(DeviceLost):
        rig.read(SLICE)
    assert rig.driver.gpm_samples == 2


def test_a_card_that_is_partitioned_gives_back_what_it_held() -> None:
    card = FakeCard(gpm={2: 1.0})
    rig = Rig(card)
    rig.read()
    assert rig.driver.gpm_samples == 2
    card.numbers["nvmlDeviceGetMigMode"] = [1, 1]
    rig.clock.advance(30.0)
    rig.source.discover()
    assert rig.driver.gpm_samples == 0


def test_what_an_instance_holds_is_given_back_when_its_last_read_is_over() -> None:
    rig = Rig(partitioned())
    rig.read(SLICE)
    rig.driver.hanging["MIG-1"] = released = threading.Event()
    waits = rig.driver.calls["nvmlDeviceGetMemoryInfo_v2"]
    rig.clock.advance(5.0)
    reader = threading.Thread(target=rig.source.read, args=(SLICE,))
    reader.start()
    try:
        while rig.driver.calls["nvmlDeviceGetMemoryInfo_v2"] == waits:
            time.sleep(0.002)
        rig.card.instances.pop(0)
        rig.source.discover()
        assert rig.driver.gpm_samples == 2, "in use"
    finally:
        released.set()
        reader.join(10)
    assert rig.driver.gpm_samples == 0


def test_a_reader_that_is_being_made_is_kept_by_a_rescan() -> None:
    rig = Rig(partitioned())
    known = rig.source._known[SLICE]
    rig.source.discover()
    assert rig.source._known[SLICE] is known
