"""The NVML source against a scripted driver."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pynvml
import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import DeviceKind, MemoryPool
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleReason
from hwdash.sources import nvml_session
from hwdash.sources.nvml import NvmlSource
from hwdash.sources.source import DeviceLost, SourceUnavailable
from tests.sources.nvml_rig import KEY, Rig
from tests.sources.nvml_stand_in import SINT, ULONGLONG, FakeCard, NvmlStandIn

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
LOST = pynvml.NVML_ERROR_GPU_IS_LOST


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
        "pcie_tx_bytes_per_s": Absent.FIRST_SAMPLE,
        "pcie_rx_bytes_per_s": Absent.FIRST_SAMPLE,
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


def test_memory_clock_and_link_are_asked_for_when_work_begins() -> None:
    rig = Rig()
    rig.read()
    rig.card.numbers["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    rig.card.numbers["nvmlDeviceGetCurrPcieLinkGeneration"] = 1
    rig.card.clocks[2] = 405
    readings = rig.read().readings
    assert (readings["memory_clock_hz"], readings["pcie_link_generation"]) == (405e6, 1.0)


def test_a_card_off_the_bus_is_lost_and_can_come_back() -> None:
    rig = Rig()
    rig.read()
    rig.card.errors["*"] = LOST
    with pytest.raises(DeviceLost, match="lost"):
        rig.read()
    with pytest.raises(DeviceLost):
        rig.read()
    del rig.card.errors["*"]
    assert rig.read().readings["temperature_c"] == 34.0


def test_a_card_lost_between_two_fields_is_lost() -> None:
    rig = Rig()
    rig.card.errors[82] = LOST
    with pytest.raises(DeviceLost):
        rig.read()


def test_a_card_the_driver_dropped_is_lost() -> None:
    rig = Rig()
    rig.driver.cards.clear()
    with pytest.raises(DeviceLost, match="no longer"):
        rig.read()
    with pytest.raises(DeviceLost):
        rig.source.read("nvidia:GPU-none")


def test_a_lost_card_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    lost, well = FakeCard("GPU-0", errors={"*": LOST}), FakeCard("GPU-1")
    with caplog.at_level(logging.WARNING):
        rig = Rig(lost, well)
        rig.source.discover()
    assert [device.key for device in rig.devices] == ["nvidia:GPU-1"]
    assert len(caplog.records) == 1, "the same failure is logged once"
    assert rig.source.problem.startswith("GPU 0: ")
    assert "lost" in rig.source.problem
    lost.errors.clear()
    assert len(rig.source.discover()) == 2
    assert rig.source.problem == ""
    assert rig.read("nvidia:GPU-1").readings["temperature_c"] == 34.0


def test_when_all_cards_are_lost_the_source_says_so() -> None:
    with pytest.raises(SourceUnavailable, match="no NVIDIA GPU answers"):
        Rig(FakeCard(errors={"*": LOST}))


def test_a_driver_reload_is_survived() -> None:
    rig = Rig()
    rig.read()
    rig.clock.advance(60)
    rig.driver.running = False
    rig.driver.starts += 1
    assert rig.read().readings["temperature_c"] == 34.0
    assert rig.driver.running


def test_a_driver_update_under_a_running_daemon_is_named_and_survived() -> None:
    rig = Rig()
    rig.read()
    rig.clock.advance(60)
    rig.card.errors["nvmlDeviceGetFieldValues"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    rig.driver.errors["nvmlInit"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    sample = rig.read()
    assert set(sample.readings.values()) == {Absent.DRIVER_MISMATCH}
    assert len(sample.readings) == 17
    starts = rig.driver.calls["nvmlInit"]
    rig.read()
    assert rig.driver.calls["nvmlInit"] == starts, "a failed start is not repeated at every read"
    with pytest.raises(SourceUnavailable, match="different versions"):
        rig.source.discover()
    rig.driver.errors.clear()
    del rig.card.errors["nvmlDeviceGetFieldValues"]
    rig.clock.advance(10)
    assert rig.read().readings["temperature_c"] == 34.0


def test_a_session_that_ends_at_once_is_not_started_over_and_over() -> None:
    rig = Rig()
    rig.clock.advance(60)
    rig.card.errors["nvmlDeviceGetFieldValues"] = pynvml.NVML_ERROR_UNINITIALIZED
    for _ in range(4):
        assert rig.read().readings["temperature_c"] is Absent.ERROR
    assert rig.driver.calls["nvmlInit"] == 2
    rig.driver.errors["nvmlDeviceGetCount"] = pynvml.NVML_ERROR_UNINITIALIZED
    with pytest.raises(SourceUnavailable, match="ends every session"):
        rig.source.discover()


@pytest.mark.parametrize(
    ("code", "loaded", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, False, ""),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, True, "libnvidia-ml.so.1 is missing"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False, "modprobe nvidia"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, True, "--gpus all"),
        (pynvml.NVML_ERROR_NO_PERMISSION, True, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, True, "different versions"),
        (pynvml.NVML_ERROR_UNKNOWN, True, "did not start"),
    ],
)
def test_a_driver_that_cannot_be_reached_is_explained(tmp_path: Path, code: int, loaded: bool, words: str) -> None:
    if loaded:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text("580")
    driver = NvmlStandIn(FakeCard())
    driver.errors["nvmlInit"] = code
    source = NvmlSource(ManualClock(), driver, tmp_path)
    with pytest.raises(SourceUnavailable) as caught:
        source.discover()
    message = str(caught.value)
    assert words in message
    assert bool(message) == bool(words)
    assert "\n" not in message


def test_a_container_without_gpus_is_explained() -> None:
    source = NvmlSource(ManualClock(), NvmlStandIn())
    with pytest.raises(SourceUnavailable, match="--gpus all"):
        source.discover()


def test_without_nvml_and_driver_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_session, "_library_is_installed", lambda: False)
    with pytest.raises(SourceUnavailable) as caught:
        NvmlSource(ManualClock(), sysroot=tmp_path).discover()
    assert str(caught.value) == ""


def test_a_driver_that_goes_away_loses_its_cards() -> None:
    rig = Rig()
    rig.clock.advance(60)
    rig.driver.running = False
    rig.driver.errors["nvmlInit"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(DeviceLost):
        rig.read()


def test_a_call_that_hangs_holds_up_no_other_card() -> None:
    rig = Rig(FakeCard("GPU-0"), FakeCard("GPU-1"))
    rig.driver.hanging["GPU-0"] = released = threading.Event()
    samples: list[Sample] = []
    stuck = threading.Thread(target=lambda: samples.append(rig.source.read(KEY)))
    stuck.start()
    try:
        assert rig.source.read("nvidia:GPU-1").readings["temperature_c"] == 34.0
        assert not samples
    finally:
        released.set()
        stuck.join(10)
    assert samples[0].key == KEY


def test_many_threads_restart_the_driver_once() -> None:
    cards = [FakeCard(f"GPU-{index}") for index in range(8)]
    rig = Rig(*cards)
    for card in cards:
        rig.read(f"nvidia:{card.uuid}")
    rig.clock.advance(60)
    rig.driver.running = False
    barrier = threading.Barrier(len(cards))
    samples: dict[str, Sample] = {}

    def read(key: str) -> None:
        barrier.wait(10)
        samples[key] = rig.source.read(key)

    threads = [threading.Thread(target=read, args=(f"nvidia:{card.uuid}",)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(samples) == 8
    assert rig.driver.calls["nvmlInit"] == 2
    assert all(sample.readings["power_w"] == 81.0 for sample in samples.values())


def test_close_shuts_down_once() -> None:
    rig = Rig()
    rig.source.close()
    rig.source.close()
    assert rig.driver.calls["nvmlShutdown"] == 1
    with pytest.raises(DeviceLost):
        rig.read()
