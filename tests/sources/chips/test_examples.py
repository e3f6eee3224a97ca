"""The five example profiles parse, and read right from trees such as their drivers make."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.core.reading import Absent
from hwdash.core.sample import FaultLevel
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.chips.loader import parse_profile
from hwdash.sources.sysfs import Tree
from tests.sources.chips.examples import ACME, ALL, AMDGPU, GAUDI, NEURON, TENSTORRENT
from tests.sources.chips.tree import Bench


@pytest.mark.parametrize("name", ALL)
def test_all_parse(name: str) -> None:
    assert parse_profile(ALL[name], f"{name}.toml").id == name


def test_tenstorrent(tmp_path: Path) -> None:
    pci = "sys/devices/pci0000:00/0000:00:01.0/0000:3b:00.0"
    chip = f"{pci}/tenstorrent/tenstorrent!0"
    bench = Bench(
        tmp_path,
        TENSTORRENT,
        {
            "sys/class/tenstorrent/tenstorrent!0": f"-> ../../../{chip}",
            f"{chip}/device": "-> ../../../0000:3b:00.0",
            f"{pci}/vendor": "0x1e52\n",
            f"{pci}/device": "0xb140\n",
            f"{chip}/tt_card_type": "p150a\n",
            f"{chip}/tt_serial": "0100014511704001\n",
            f"{chip}/tt_fw_bundle_ver": "18.7.0.0\n",
            f"{chip}/tt_aiclk": "1350\n",
            f"{chip}/tt_heartbeat": "100\n",
            f"{chip}/tt_therm_trip_count": "2\n",
            f"{chip}/pcie_perf_counters/mst_rd_data_word_received0": "4294967290\n",
            f"{chip}/pcie_perf_counters/mst_rd_data_word_received1": "1000\n",
            f"{pci}/hwmon/hwmon10/name": "blackhole\n",
            f"{pci}/hwmon/hwmon9/name": "nvme\n",
            f"{pci}/hwmon/hwmon9/temp1_input": "11000\n",
            f"{pci}/hwmon/hwmon9/temp1_label": "asic_temp\n",
            f"{pci}/hwmon/hwmon10/temp1_input": "12000\n",
            f"{pci}/hwmon/hwmon10/temp1_label": "board\n",
            f"{pci}/hwmon/hwmon10/temp1_max": "90000\n",
            f"{pci}/hwmon/hwmon10/temp2_input": "45500\n",
            f"{pci}/hwmon/hwmon10/temp2_label": "asic_temp\n",
            f"{pci}/hwmon/hwmon10/power1_input": "38000000\n",
            f"{pci}/hwmon/hwmon10/power1_label": "power\n",
            "proc/driver/tenstorrent/0/pids": "4242\n17 4242\n",
            "proc/4242/comm": "vllm\n",
        },
    )
    device = bench.devices[0]
    assert (device.key, device.name, device.pci) == ("tenstorrent:0000:3b:00.0", "Blackhole p150a", "0000:3b:00.0")
    assert (device.source, device.firmware) == ("chips:tenstorrent", "18.7.0.0")
    assert device.limits.temperature_slowdown_c == 90.0
    sample = bench.read()
    assert sample.readings["temperature_c"] == 45.5
    assert sample.readings["power_w"] == 38.0
    assert sample.readings["clock_hz"] == 1.35e9
    assert sample.readings["pcie_rx_bytes_per_s"] is Absent.FIRST_SAMPLE
    assert sample.throttle_flags == frozenset()
    assert sample.throttle_known == frozenset({ThrottleReason.THERMAL_HW})
    assert isinstance(sample.processes, tuple)
    assert [(process.pid, process.name) for process in sample.processes] == [(17, None), (4242, "vllm")]
    sample = bench.read(
        {
            f"{chip}/pcie_perf_counters/mst_rd_data_word_received0": "4\n",
            f"{chip}/pcie_perf_counters/mst_rd_data_word_received1": "1010\n",
            f"{chip}/tt_therm_trip_count": "3\n",
        },
        after_s=2.0,
    )
    assert sample.readings["pcie_rx_bytes_per_s"] == (10 + 10) * 32 / 2
    assert sample.throttle_flags == frozenset({ThrottleReason.THERMAL_HW})
    assert "thermal_trip" in sample.notices[0].words
    assert not sample.faults
    sample = bench.read(after_s=9.0)
    assert [(fault.code, fault.level) for fault in sample.faults] == [("heartbeat_stalled", FaultLevel.STALLED)]
    assert sample.throttle_flags == frozenset()
    assert not sample.notices
    assert not bench.read({f"{chip}/tt_heartbeat": "101\n"}, after_s=1.0).faults


def test_neuron(tmp_path: Path) -> None:
    chip = "sys/devices/virtual/neuron_device/neuron0"
    power = f"{chip}/stats/power/utilization"
    bench = Bench(
        tmp_path,
        NEURON,
        {
            f"{chip}/info/serial_number": "abc\n",
            f"{chip}/info/architecture/device_name": "Inferentia2\n",
            f"{chip}/neuron_core0/stats/memory_usage/device_mem/total": "1024\n",
            f"{chip}/neuron_core1/stats/memory_usage/device_mem/total": "2048\n",
            f"{chip}/neuron_core0/stats/status/hw_error/total": "1\n",
            f"{chip}/neuron_core1/stats/status/timeout/total": "2\n",
            power: "POWER_STATUS_VALID,1700000000,1,9,42\n",
        },
    )
    assert bench.devices[0].name == "Inferentia2"
    sample = bench.read()
    assert sample.readings["memory_used_bytes"] == 3072.0
    assert sample.readings["memory_total_bytes"] == 32 * 2**30
    assert sample.pools[0].free_bytes == 32 * 2**30 - 3072
    assert sample.readings["power_ratio"] == pytest.approx(0.42)
    assert sample.readings["errors_total"] == 3.0
    later = bench.read({power: "POWER_STATUS_VALID,1700000060,1,9,50\n"}, after_s=30.0)
    assert later.readings["power_ratio"] == pytest.approx(0.42), "not asked again within 60 s"
    assert bench.read(after_s=31.0).readings["power_ratio"] == pytest.approx(0.5)
    same = bench.read({power: "POWER_STATUS_VALID,1700000060,1,9,99\n"}, after_s=61.0)
    assert same.readings["power_ratio"] == pytest.approx(0.5), "the stamp says that it is the same"
    bad = bench.read({power: "POWER_STATUS_INVALID,1700000120,0,0,0\n"}, after_s=61.0)
    assert bad.readings["power_ratio"] is Absent.BAD_VALUE


def test_gaudi(tmp_path: Path) -> None:
    chip = "sys/class/accel/accel0/device"
    bench = Bench(
        tmp_path,
        GAUDI,
        {
            "sys/class/accel/accel1/device/device_type": "OTHER\n",
            f"{chip}/device_type": "GAUDI2\n",
            f"{chip}/status": "Operational\n",
            f"{chip}/pci_addr": "0000:19:00.0\n",
            f"{chip}/clk_cur_freq_mhz": "1650\n",
            f"{chip}/clk_max_freq_mhz": "1650\n",
            f"{chip}/max_power": "600000\n",
            f"{chip}/hwmon/hwmon3/power1_input": "98000000\n",
            f"{chip}/hwmon/hwmon3/temp1_input": "31000\n",
            f"{chip}/hwmon/hwmon3/temp1_crit": "100000\n",
        },
    )
    limits = bench.devices[0].limits
    assert len(bench.devices) == 1
    assert (limits.power_w, limits.clock_hz, limits.temperature_slowdown_c) == (600.0, 1.65e9, 100.0)
    assert bench.read().readings == {"clock_hz": 1.65e9, "power_w": 98.0, "temperature_c": 31.0}
    resetting = bench.read({f"{chip}/status": "In reset\n"})
    assert set(resetting.readings.values()) == {Absent.ERROR}
    assert resetting.faults[0].level is FaultLevel.STALLED
    failed = bench.read({f"{chip}/status": "Malfunction\n"})
    assert failed.faults[0].level is FaultLevel.FAILED
    assert failed.readings["power_w"] == 98.0
    strange = bench.read({f"{chip}/status": "[red]Odd\n"})
    assert strange.faults[0].level is FaultLevel.WARNING


def test_amdgpu(tmp_path: Path) -> None:
    card = "sys/devices/pci0000:00/0000:03:00.0"
    profile = AMDGPU.replace('id = "amdgpu"', 'id = "toy"')
    files: dict[str, str | bytes | None] = {
        "sys/class/drm/card0-DP-1/status": "connected\n",
        "sys/class/drm/card10/device": "-> ../../../devices/pci0000:00/0000:03:00.0",
        f"{card}/driver": "-> ../../../bus/pci/drivers/amdgpu",
        f"{card}/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n",
        f"{card}/device": "0x744c\n",
        f"{card}/product_name": "\n",
        f"{card}/power/runtime_status": "active\n",
        f"{card}/power_state": "D0\n",
        f"{card}/gpu_busy_percent": "37\n",
        f"{card}/pp_dpm_sclk": "0: 500Mhz\n1: 2304Mhz *\n2: 2371Mhz\n",
        f"{card}/mem_info_vram_used": "1000\n",
        f"{card}/mem_info_vram_total": "17163091968\n",
        f"{card}/mem_info_gtt_used": "50\n",
        f"{card}/mem_info_gtt_total": "100\n",
        f"{card}/gpu_metrics": b"garbage",
        f"{card}/hwmon/hwmon2/temp1_input": "40000\n",
        f"{card}/hwmon/hwmon2/temp1_label": "edge\n",
        f"{card}/hwmon/hwmon2/temp2_input": "51000\n",
        f"{card}/hwmon/hwmon2/temp2_label": "junction\n",
        f"{card}/hwmon/hwmon2/temp2_crit": "110000\n",
        f"{card}/hwmon/hwmon2/power1_input": "77000000\n",
        f"{card}/hwmon/hwmon2/power1_cap": "327000000\n",
    }
    bench = Bench(tmp_path, profile, files)
    device = bench.devices[0]
    assert (device.key, device.name, device.limits.power_w) == ("toy:0000:03:00.0", "0x744c", 327.0)
    assert device.limits.temperature_slowdown_c == 110.0
    sample = bench.read()
    assert sample.readings == {
        "utilization": 0.37,
        "clock_hz": 2.304e9,
        "hotspot_temperature_c": 51.0,
        "temperature_margin_c": 59.0,
        "power_w": 77.0,
        "memory_used_bytes": 1000.0,
        "memory_total_bytes": 17163091968.0,
    }
    assert [(pool.id, pool.shared) for pool in sample.pools] == [("vram", False), ("gtt", True)]
    assert sample.throttle_flags is None
    asleep = bench.read({f"{card}/power_state": "D3cold\n"})
    assert set(asleep.readings.values()) == {Absent.SUSPENDED}
    assert asleep.pools == ()


def test_a_sleeping_card_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = "sys/class/drm/card0/device"
    files: dict[str, str | bytes | None] = {
        f"{card}/driver": "-> ../../../bus/pci/drivers/amdgpu",
        f"{card}/uevent": "PCI_SLOT_NAME=0000:03:00.0\n",
        f"{card}/device": "0x744c\n",
        f"{card}/power/runtime_status": "suspended\n",
        f"{card}/hwmon/hwmon2/name": "amdgpu\n",
        f"{card}/hwmon/hwmon2/power1_cap": "327000000\n",
        f"{card}/gpu_busy_percent": "0\n",
        f"{card}/mem_info_vram_used": "1000\n",
    }
    opened: list[str] = []
    plain = Tree._read

    def note(full: str, path: str, limit: int, flags: int = 0) -> bytes:
        opened.append(path.rpartition("/")[2])
        return plain(full, path, limit, flags)

    monkeypatch.setattr(Tree, "_read", staticmethod(note))
    bench = Bench(tmp_path, AMDGPU.replace('id = "amdgpu"', 'id = "toy"'), files)
    bench.source.discover()
    bench.read()
    assert set(opened) <= {"runtime_status", "power_state", "uevent", "product_name", "device"}
    sample = bench.read({f"{card}/power/runtime_status": "active\n"})
    assert sample.readings["utilization"] == 0.0


def test_acme(tmp_path: Path) -> None:
    chip = "sys/class/acmechip/acme0"
    bench = Bench(
        tmp_path,
        ACME,
        {
            f"{chip}/identity": "model: ACME X1\nserial: S-7\n",
            f"{chip}/energy_pj": "5000000000000\n",
            f"{chip}/engines": "NPU load: Core0: 45%, Core1: 15%,\n",
            f"{chip}/state.json": '{"clk": {"core": 1200}, "temps": [{"mc": 55250}]}',
            f"{chip}/bw": "rd 100\nwr 7\n",
            f"{chip}/mem/hbm": "used=25\ntotal=100\n",
            f"{chip}/throttle": "0x5\n",
        },
    )
    assert (bench.devices[0].key, bench.devices[0].name) == ("acme:S-7", "ACME X1")
    sample = bench.read()
    assert sample.readings["power_w"] is Absent.FIRST_SAMPLE
    assert sample.readings["utilization"] == pytest.approx(0.3)
    assert sample.readings["clock_hz"] == 1.2e9
    assert sample.readings["temperature_c"] == 55.25
    assert sample.throttle_flags == frozenset({ThrottleReason.THERMAL_HW, ThrottleReason.POWER_CAP})
    sample = bench.read({f"{chip}/energy_pj": "105000000000000\n", f"{chip}/bw": "rd 356\n"}, after_s=2.0)
    assert sample.readings["power_w"] == pytest.approx(50.0)
    assert sample.readings["memory_read_bytes_per_s"] == 256 * 1024 / 2
    sample = bench.read({f"{chip}/energy_pj": "0\n", f"{chip}/throttle": "0x12\n"}, after_s=2.0)
    assert sample.throttle_flags == frozenset()
    assert sample.unknown_flags == "0x12"
