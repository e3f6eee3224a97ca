"""The NVML source against a scripted driver."""

from __future__ import annotations

import pynvml
import pytest

from hwdash.core.device import DeviceKind, MemoryPool
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent
from hwdash.core.throttle import ThrottleReason
from tests.sources.nvml_rig import KEY, Rig
from tests.sources.nvml_stand_in import SINT, FakeCard

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


def test_a_card_and_its_fixed_facts() -> None:
    (device,) = Rig().devices
    assert device.key == KEY
    assert device.kind is DeviceKind.GPU
    assert (device.vendor, device.name, device.driver, device.source) == ("NVIDIA", "NVIDIA H200", "580.159.04", "nvml")
    assert device.pci == "00000000:00:06.0"
    assert device.visible_as == "GPU-0"
    assert device.capabilities.compute_capability == "9.0"
    assert device.capabilities.dtypes == ("fp32", "fp16", "bf16", "fp8", "int8")
    assert device.capabilities.compute_units == 132
    assert device.capabilities.inference
    limits = device.limits
    assert (limits.power_w, limits.temperature_slowdown_c, limits.temperature_shutdown_c) == (700.0, 89.0, 95.0)
    assert (limits.memory_temperature_max_c, limits.clock_hz) == (95.0, 1.98e9)
    assert (limits.pcie_link_generation, limits.pcie_link_width) == (5, 16)
    assert limits.memory_bandwidth_bytes_per_s == pytest.approx(4.917e12, rel=1e-3)
    assert device.firmware == "VBIOS 96.00.AF.00.01"
    assert device.parent is None


def test_a_sample_in_base_units() -> None:
    sample = Rig().read()
    assert sample.readings == {
        "utilization": 0.37,
        "memory_used_bytes": 0.0,
        "memory_total_bytes": 150754820096.0,
        "temperature_c": 34.0,
        "memory_temperature_c": 33.0,
        "temperature_margin_c": 55.0,
        "power_w": 81.0,
        "energy_j": 2**40 / 1000,
        "clock_hz": 345e6,
        "memory_clock_hz": 3201e6,
        "fan_ratio": Absent.NOT_SUPPORTED,
        "ecc_corrected_total": 7.0,
        "ecc_uncorrected_total": 2.0,
        "remapped_rows_total": 3.0,
        "pcie_replay_total": 4.0,
        "pcie_link_generation": 5.0,
        "pcie_link_width": 16.0,
        "nvlink_tx_bytes_per_s": Absent.FIRST_SAMPLE,
        "nvlink_rx_bytes_per_s": Absent.FIRST_SAMPLE,
    }
    assert set(sample.readings) <= set(METRICS)
    assert sample.pools == (MemoryPool("hbm", 150754820096, 0, 150109880320),)
    assert sample.throttle_flags == frozenset()
    assert sample.unknown_flags is None


@pytest.mark.parametrize(
    ("version", "cores", "dtypes", "units"),
    [
        ((5, 2), 2048, ("fp32",), 16),
        ((6, 1), 2560, ("fp32", "fp16", "int8"), 20),
        ((8, 0), 6912, ("fp32", "fp16", "bf16", "int8"), 108),
        ((8, 9), 16384, ("fp32", "fp16", "bf16", "fp8", "int8"), 128),
        ((99, 0), 16384, ("fp32", "fp16", "bf16", "fp8", "int8"), None),
    ],
)
def test_capabilities_by_compute_capability(
    version: tuple[int, int], cores: int, dtypes: tuple[str, ...], units: int | None
) -> None:
    card = FakeCard()
    card.numbers |= {"nvmlDeviceGetCudaComputeCapability": version, "nvmlDeviceGetNumGpuCores": cores}
    capabilities = Rig(card).devices[0].capabilities
    assert (capabilities.dtypes, capabilities.compute_units) == (dtypes, units)


@pytest.mark.parametrize(
    ("bits", "clock_mhz"), [(0, 3201), (6144, 0), (6144, 2**32 - 1), (2**32 - 1, 3201), ("wide", 3201), (6144, None)]
)
def test_a_memory_bandwidth_that_cannot_be_is_not_told(bits: object, clock_mhz: object) -> None:
    card = FakeCard()
    card.numbers["nvmlDeviceGetMemoryBusWidth"] = bits
    card.most_clocks[2] = clock_mhz  # type: ignore[assignment]
    (device,) = Rig(card).devices
    assert device.limits.memory_bandwidth_bytes_per_s is None
    assert device.limits.clock_hz == 1.98e9


def test_a_card_that_tells_nothing_of_itself_is_a_device_all_the_same() -> None:
    card = FakeCard(name=b"\xff\xfe")
    names = ["PciInfo_v3", "TemperatureThreshold", "MaxClockInfo", "EnforcedPowerLimit", "MemoryBusWidth"]
    card.errors |= {f"nvmlDeviceGet{name}": NOT_SUPPORTED for name in [*names, "CudaComputeCapability"]}
    rig = Rig(card)
    (device,) = rig.devices
    assert device.name == "NVIDIA GPU"
    assert device.pci is None
    assert device.limits.power_w is None
    assert device.limits.temperature_slowdown_c is None
    assert device.limits.memory_bandwidth_bytes_per_s is None
    assert device.capabilities.dtypes == ("fp32",)
    assert rig.read().pools[0].id == "vram"


def test_names_cannot_carry_escape_sequences() -> None:
    assert "\x1b" not in Rig(FakeCard(name="evil\x1b[2J")).devices[0].name


def test_fixed_facts_are_asked_once_and_the_power_limit_now_and_then() -> None:
    rig = Rig()
    thresholds = rig.driver.calls["nvmlDeviceGetTemperatureThreshold"]
    rig.card.numbers["nvmlDeviceGetEnforcedPowerLimit"] = 500_000
    rig.clock.advance(30.0)
    (device,) = rig.source.discover()
    assert device.limits.power_w == 500.0
    assert rig.driver.calls["nvmlDeviceGetTemperatureThreshold"] == thresholds


def test_a_card_in_steady_state_costs_few_calls() -> None:
    cards = [FakeCard(f"GPU-{number}", processes={"Compute": [(4242, 2**30)]}) for number in range(8)]
    rig = Rig(*cards)
    for device in rig.devices:
        rig.read(device.key)
    rig.driver.calls.clear()
    for second in range(60):
        rig.clock.advance(1.0)
        for card, device in zip(cards, rig.devices, strict=True):
            card.numbers["nvmlDeviceGetTemperatureV"] = 34 + second % 3
            rig.source.read(device.key)
        if second % 10 == 0:
            rig.source.discover()
    # pynvml asks the driver twice for a list of processes that is not empty.
    twice = rig.driver.calls["nvmlDeviceGetComputeRunningProcesses_v3"]
    assert (rig.driver.calls.total() + twice) / 60 / 8 <= 6.4
    assert "nvmlDeviceGetPcieThroughput" not in rig.driver.calls
    assert "nvmlGpmSampleGet" not in rig.driver.calls


def test_many_cards_do_not_ask_for_slow_values_in_one_tick() -> None:
    cards = [FakeCard(f"GPU-{number}") for number in range(64)]
    rig = Rig(*cards)
    asked = []
    for _ in range(16):
        rig.clock.advance(1.0)
        rig.driver.calls.clear()
        for device in rig.devices:
            rig.source.read(device.key)
        asked.append(rig.driver.calls["nvmlDeviceGetComputeRunningProcesses_v3"])
    assert asked[0] == 64
    assert sum(asked[6:11]) == sum(asked[11:16]) == 64
    assert max(asked[6:]) <= 32


def test_what_the_card_does_not_know_is_asked_once() -> None:
    rig = Rig()
    rig.card.errors |= {
        "nvmlDeviceGetUtilizationRates": NOT_SUPPORTED,
        "nvmlDeviceGetMarginTemperature": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        82: NOT_SUPPORTED,
        6: pynvml.NVML_ERROR_INVALID_ARGUMENT,
    }
    first = rig.read()
    rig.driver.calls.clear()
    second = rig.read()
    for sample in (first, second):
        for name in ("utilization", "temperature_margin_c", "memory_temperature_c", "ecc_uncorrected_total"):
            assert sample.readings[name] is Absent.NOT_SUPPORTED
    assert rig.driver.calls["nvmlDeviceGetUtilizationRates"] == 0
    assert rig.driver.calls["nvmlDeviceGetMarginTemperature"] == 0
    assert rig.driver.calls["nvmlDeviceGetFanSpeed_v2"] == 0
    assert not {82, 6} & set(rig.driver.asked_fields)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, Absent.NO_PERMISSION),
        (pynvml.NVML_ERROR_TIMEOUT, Absent.TIMED_OUT),
        (pynvml.NVML_ERROR_UNKNOWN, Absent.ERROR),
        (pynvml.NVML_ERROR_RESET_REQUIRED, Absent.ERROR),
    ],
)
def test_a_passing_error_leaves_the_rest_alone_and_is_forgotten(code: int, reason: Absent) -> None:
    rig = Rig()
    before = dict(rig.card.errors)
    rig.card.errors |= {"nvmlDeviceGetUtilizationRates": code, 82: code}
    sample = rig.read()
    assert sample.readings["utilization"] is reason
    assert sample.readings["memory_temperature_c"] is reason
    assert sample.readings["temperature_c"] == 34.0
    rig.card.errors = dict(before)
    assert rig.read().readings["utilization"] == 0.37


def test_when_the_batch_fails_power_and_energy_are_asked_for_directly() -> None:
    rig = Rig()
    rig.card.errors["nvmlDeviceGetFieldValues"] = NOT_SUPPORTED
    sample = rig.read()
    assert sample.readings["power_w"] == 116.0
    assert sample.readings["energy_j"] == 9.0
    assert sample.readings["memory_temperature_c"] is Absent.NOT_SUPPORTED
    assert sample.throttle_seconds == {}


def test_an_old_driver_is_asked_in_its_own_way() -> None:
    rig = Rig()
    rig.driver.missing = {
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetCurrentClocksEventReasons",
    }
    rig.card.numbers |= {"nvmlDeviceGetTemperature": 61, "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4}
    for _ in range(2):
        sample = rig.read()
        assert sample.readings["temperature_c"] == 61.0
        assert sample.readings["memory_used_bytes"] == 150754820096.0 - 150109880320.0
        assert sample.throttle_flags == frozenset({ThrottleReason.POWER_CAP})
    assert all(rig.driver.calls[name] == 1 for name in rig.driver.missing)


def test_absurd_values_are_absent() -> None:
    card = FakeCard(utilization=2**31, clocks={1: 2**32 - 1, 2: 3201}, memory=(0, 0, 0))
    card.fields |= {82: (1, 0), 83: (9, 0), 186: (0, float("nan"))}
    card.numbers["nvmlDeviceGetTemperatureV"] = 255
    readings = Rig(card).read().readings
    for name in ("utilization", "clock_hz", "memory_used_bytes", "memory_temperature_c", "energy_j", "temperature_c"):
        assert readings[name] is Absent.BAD_VALUE, name
    assert readings["memory_clock_hz"] == 3201e6


def test_the_union_is_read_by_its_type() -> None:
    card = FakeCard()
    card.fields |= {82: (SINT, 51), 186: (0, 700_500.0), 83: (6, 1000)}
    readings = Rig(card).read().readings
    assert (readings["memory_temperature_c"], readings["power_w"], readings["energy_j"]) == (51.0, 700.5, 1.0)


def test_memory_clock_and_link_are_asked_for_when_work_begins() -> None:
    rig = Rig()
    rig.read()
    rig.card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    rig.card.numbers["nvmlDeviceGetCurrPcieLinkGeneration"] = 1
    rig.card.clocks[2] = 405
    readings = rig.read().readings
    assert (readings["memory_clock_hz"], readings["pcie_link_generation"]) == (405e6, 1.0)


def test_the_costly_energy_counter_is_of_now_when_that_is_asked_for() -> None:
    rig = Rig()
    rig.read()
    rig.read(after_s=6.0)
    before = rig.card.fields[83]
    rig.card.fields[83] = (before[0], before[1] + 5000)
    assert rig.read().readings["energy_j"] == before[1] / 1000
    assert 83 not in rig.driver.asked_fields
    assert rig.read(fresh=True).readings["energy_j"] == before[1] / 1000 + 5
    rig.card.fields[83] = (before[0], before[1] + 9000)
    assert rig.read(after_s=6.0).readings["energy_j"] == before[1] / 1000 + 9


def test_where_power_is_not_told_energy_is_read_each_time() -> None:
    card = FakeCard(errors={"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_NOT_SUPPORTED})
    del card.fields[186]
    rig = Rig(card)
    for joules in (1.0, 2.0, 3.0):
        card.fields[83] = (card.fields[83][0], int(joules * 1000))
        assert rig.read().readings["energy_j"] == joules
