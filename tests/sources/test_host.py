"""The host source over generated trees, hostile ones among them, and over the machine it runs on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.device import DeviceKind, MemoryPool
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent, is_present
from hwdash.core.sample import Sample
from hwdash.sources.builtin import builtin_sources
from hwdash.sources.host import HostSource
from hwdash.sources.source import DeviceLost

RAPL = "sys/class/powercap/intel-rapl:0"
CPU = "sys/devices/system/cpu"
GIB = 2**30

MACHINE: Mapping[str, str] = {
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "proc/cpuinfo": (
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\n"
        "cpu MHz\t\t: 2000.000\nflags\t\t: fpu avx512_bf16 avx512_fp16 amx_int8\n\n"
    ),
    "proc/stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 100 0 100 700 100 0 0 0 0 0\n",
    "proc/loadavg": "1.50 1.00 0.50 1/100 4242\n",
    "proc/meminfo": "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n",
    "proc/self/cgroup": "0::/app\n",
    "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-5\n",
    f"{CPU}/online": "0-7\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2000000\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3800000\n",
    f"{CPU}/cpu1/online": "1\n",
    f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "3000000\n",
    f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "3800000\n",
    f"{CPU}/cpu2/online": "0\n",
    f"{CPU}/cpu2/cpufreq/scaling_cur_freq": "9000000\n",
    "sys/class/hwmon/hwmon0/name": "acpitz\n",
    "sys/class/hwmon/hwmon0/temp1_input": "-44000\n",
    "sys/class/hwmon/hwmon2/name": "coretemp\n",
    "sys/class/hwmon/hwmon2/temp1_label": "Package id 0\n",
    "sys/class/hwmon/hwmon2/temp1_input": "51000\n",
    "sys/class/hwmon/hwmon2/temp1_crit": "100000\n",
    "sys/class/hwmon/hwmon2/temp2_label": "Core 0\n",
    "sys/class/hwmon/hwmon2/temp2_input": "99000\n",
    "sys/class/hwmon/hwmon10/name": "coretemp\n",
    "sys/class/hwmon/hwmon10/temp1_label": "Package id 1\n",
    "sys/class/hwmon/hwmon10/temp1_input": "63000\n",
    "sys/class/hwmon/hwmon10/temp1_crit": "98000\n",
    f"{RAPL}/name": "package-0\n",
    f"{RAPL}/energy_uj": "5000000\n",
    f"{RAPL}/max_energy_range_uj": "9999999\n",
    "sys/class/powercap/intel-rapl:1/name": "package-1\n",
    "sys/class/powercap/intel-rapl:1/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:1/max_energy_range_uj": "9999999\n",
    "sys/class/powercap/intel-rapl:0:0/name": "dram\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "777\n",
    "sys/class/powercap/intel-rapl:2/name": "psys\n",
    "sys/class/powercap/intel-rapl:2/energy_uj": "777\n",
    "sys/class/powercap/intel-rapl-mmio:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl-mmio:0/energy_uj": "777\n",
    "sys/class/powercap/intel-rapl/name": "not a zone\n",
}


class Machine:
    """A tree with a source over it."""

    def __init__(self, root: Path, files: Mapping[str, str | bytes] = MACHINE) -> None:
        self.root = root
        self.write(files)
        self.source = HostSource(root, ManualClock())

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def read(self) -> Sample:
        (device,) = self.source.discover()
        return self.source.read(device.key)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_processor_as_a_device(machine: Machine) -> None:
    (device,) = machine.source.discover()
    assert device.kind is DeviceKind.CPU
    assert (device.vendor, device.name, device.source) == ("Intel", "Intel Xeon Platinum 8480+", "host")
    assert device.capabilities.dtypes == ("fp32", "fp16", "bf16", "int8")
    assert device.capabilities.compute_units == 6
    assert device.capabilities.inference
    assert device.limits.clock_hz == 3.8e9
    assert device.limits.temperature_slowdown_c == 98.0
    assert device.limits.power_w is None


def test_a_sample_of_the_machine(machine: Machine) -> None:
    sample = machine.read()
    assert sample.readings == {
        "utilization": Absent.FIRST_SAMPLE,
        "load_1m": 1.5,
        "memory_used_bytes": 32.0 * GIB,
        "memory_total_bytes": 64.0 * GIB,
        "clock_hz": 2.5e9,
        "temperature_c": 63.0,
        "energy_j": 6.0,
        "power_w": Absent.FIRST_SAMPLE,
    }
    assert sample.pools == (MemoryPool("ram", 64 * GIB, 32 * GIB, 32 * GIB),)
    assert sample.throttle_flags is None
    assert set(sample.readings) <= set(METRICS)


def test_the_key_is_stable_and_does_not_give_the_machine_id_away(machine: Machine, tmp_path: Path) -> None:
    key = machine.source.discover()[0].key
    assert key == HostSource(tmp_path).discover()[0].key
    assert MACHINE["etc/machine-id"].strip()[:8] not in key
    machine.write({"etc/machine-id": "", "proc/sys/kernel/hostname": "node7\n"})
    other = machine.source.discover()[0].key
    assert other != key
    assert "node7" not in other
    with pytest.raises(DeviceLost):
        machine.source.read(key)


def test_utilization_is_what_happened_between_two_reads(machine: Machine) -> None:
    machine.read()
    machine.write({"proc/stat": "cpu  150 0 125 725 100 0 0 0 25 0\n"})
    assert machine.read().readings["utilization"] == 0.75
    assert machine.read().readings["utilization"] == 0.75, "within one tick of the kernel nothing new is known"
    machine.write({"proc/stat": "cpu  1 0 1 1 1 0 0 0 0 0\n"})
    assert machine.read().readings["utilization"] is Absent.FIRST_SAMPLE
    machine.write({"proc/stat": "cpu  what\n"})
    assert machine.read().readings["utilization"] is Absent.BAD_VALUE


def test_energy_goes_on_over_a_wrap(machine: Machine) -> None:
    assert machine.read().readings["energy_j"] == 6.0
    machine.write({f"{RAPL}/energy_uj": "9000000\n"})
    assert machine.read().readings["energy_j"] == 10.0
    machine.write({f"{RAPL}/energy_uj": "500000\n"})
    assert machine.read().readings["energy_j"] == pytest.approx(11.5)


def test_a_package_that_joins_later_makes_no_jump(machine: Machine) -> None:
    machine.read()
    machine.write(
        {
            "sys/class/powercap/intel-rapl:a/name": "package-10",
            "sys/class/powercap/intel-rapl:a/energy_uj": "9000000",
            "sys/class/powercap/intel-rapl:a/max_energy_range_uj": "9999999",
        }
    )
    assert machine.read().readings["energy_j"] == 6.0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_energy_without_permission(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / RAPL / "energy_uj").chmod(0)
    readings = machine.read().readings
    assert readings["energy_j"] is Absent.NO_PERMISSION
    assert readings["power_w"] is Absent.NO_PERMISSION


def test_permission_is_told_from_absence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int) -> int:
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "denied", path)
        return real(path, flags)

    monkeypatch.setattr("hwdash.sources.sysfs.os.open", refuse)
    readings = machine.read().readings
    assert readings["energy_j"] is Absent.NO_PERMISSION
    assert readings["power_w"] is Absent.NO_PERMISSION


def test_a_bare_machine_names_what_it_lacks(tmp_path: Path) -> None:
    sample = Machine(tmp_path, {}).read()
    assert set(sample.readings.values()) == {Absent.NOT_SUPPORTED}
    assert sample.pools == ()


def test_without_frequency_scaling_the_stated_clock_counts(tmp_path: Path) -> None:
    files = {name: text for name, text in MACHINE.items() if "cpufreq" not in name}
    assert Machine(tmp_path, files).read().readings["clock_hz"] == 2e9


def test_memory_without_an_estimate_of_what_is_available(machine: Machine) -> None:
    machine.write({"proc/meminfo": "MemTotal: 1024 kB\nMemFree: 256 kB\nBuffers: 128 kB\nCached: 128 kB\n"})
    assert machine.read().pools == (MemoryPool("ram", 1024 * 1024, 512 * 1024, 512 * 1024),)
    machine.write({"proc/meminfo": "MemTotal: 1024 kB\nMemAvailable: 4096 kB\n"})
    assert machine.read().readings["memory_total_bytes"] is Absent.BAD_VALUE


def test_limits_of_control_groups_version_2(machine: Machine) -> None:
    machine.write(
        {
            "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/app/memory.max": "max\n",
            "sys/fs/cgroup/app/memory.current": "1\n",
            "sys/fs/cgroup/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{5 * GIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
        }
    )
    assert machine.source.discover()[0].capabilities.compute_units == 2
    (pool,) = machine.read().pools
    assert (pool.total_bytes, pool.free_bytes) == (64 * GIB, 5 * GIB)


def test_limits_of_control_groups_version_1_seen_from_a_container(machine: Machine) -> None:
    machine.write(
        {
            "proc/self/cgroup": "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{1 * GIB}\n",
        }
    )
    assert machine.source.discover()[0].capabilities.compute_units == 4
    assert machine.read().pools[0].free_bytes == 3 * GIB
    machine.write({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert machine.read().pools[0].free_bytes == 32 * GIB


@pytest.mark.parametrize(
    ("files", "celsius", "slowdown", "shutdown"),
    [
        ({"name": "k10temp", "temp1_label": "Tctl", "temp1_input": "70000"}, 70.0, None, None),
        (
            {
                "name": "k10temp",
                "temp1_label": "Tctl",
                "temp1_input": "90000",
                "temp2_label": "Tdie",
                "temp2_input": "63000",
            },
            63.0,
            None,
            None,
        ),
        ({"name": "zenpower", "temp1_label": "Tdie", "temp1_input": "55500", "temp1_crit": "95000"}, 55.5, 95.0, None),
        ({"name": "cpu_thermal", "temp1_input": "48000", "temp1_crit": "105000"}, 48.0, None, 105.0),
        ({"name": "nvme", "temp1_input": "48000"}, Absent.NOT_SUPPORTED, None, None),
        ({"temp1_input": "48000"}, Absent.NOT_SUPPORTED, None, None),
        ({"name": "cpu_thermal", "temp1_input": "-44000"}, Absent.BAD_VALUE, None, None),
        ({"name": "cpu_thermal", "temp1_input": "1e30"}, Absent.BAD_VALUE, None, None),
        ({"name": "cpu_thermal", "temp1_input": ""}, Absent.BAD_VALUE, None, None),
    ],
)
def test_sensors_of_other_processors(
    tmp_path: Path, files: Mapping[str, str], celsius: float, slowdown: float | None, shutdown: float | None
) -> None:
    machine = Machine(tmp_path, {f"sys/class/hwmon/hwmon3/{name}": text for name, text in files.items()})
    assert machine.read().readings["temperature_c"] == celsius
    limits = machine.source.discover()[0].limits
    assert (limits.temperature_slowdown_c, limits.temperature_shutdown_c) == (slowdown, shutdown)


def test_a_thermal_zone_where_there_is_no_sensor_chip(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": "20000",
        "sys/class/thermal/thermal_zone11/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone11/temp": "44000",
    }
    assert Machine(tmp_path, files).read().readings["temperature_c"] == 44.0


def test_a_sensor_that_vanishes(machine: Machine) -> None:
    (device,) = machine.source.discover()
    machine.remove("sys/class/hwmon/hwmon10/temp1_input")
    assert machine.source.read(device.key).readings["temperature_c"] == 51.0
    machine.remove("sys/class/hwmon/hwmon2/temp1_input")
    assert machine.source.read(device.key).readings["temperature_c"] is Absent.NOT_SUPPORTED


HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"-1", b"nan", b"inf", b"1e308", b"9" * 5000, b"0x10", b"\x1b[2J", b"a" * 100_000, b"0-99999"]
    ),
    st.integers(-(2**70), 2**70).map(lambda number: str(number).encode()),
    st.sampled_from(sorted(MACHINE.values())).map(str.encode),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(MACHINE)), HOSTILE, max_size=12), HOSTILE)
def test_no_content_of_files_breaks_it_or_makes_it_lie(files: dict[str, bytes], stat: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(Path(root))
        machine.write(files)
        machine.read()
        machine.write({"proc/stat": stat})
        (device,) = machine.source.discover()
        sample = machine.source.read(device.key)
        assert not any(char < " " for char in device.name + device.vendor)
        assert device.name
        for name, reading in sample.readings.items():
            if is_present(reading):
                low, high = {"utilization": (0, 1), "temperature_c": (-40, 150)}.get(name, (0, 2**64))
                assert low <= reading <= high, name
        for pool in sample.pools:
            assert 0 <= pool.free_bytes <= pool.total_bytes
            assert 0 <= pool.used_bytes <= pool.total_bytes


def test_the_machine_this_runs_on() -> None:
    host = next(source for source in builtin_sources(Path("/")) if source.name == "host")
    (device,) = host.discover()
    first = host.read(device.key)
    assert first.readings["utilization"] is Absent.FIRST_SAMPLE
    assert is_present(first.readings["memory_total_bytes"])
    assert device.name
    assert device.capabilities.compute_units is not None
    assert 1 <= device.capabilities.compute_units <= (os.cpu_count() or 1)
    host.close()


def test_the_built_in_sources_read_below_the_root_they_are_given(tmp_path: Path) -> None:
    Machine(tmp_path)
    sources = builtin_sources(tmp_path)
    names = [source.name for source in sources]
    assert (names[0], names[-1]) == ("nvml", "host")
    assert {"amdgpu", "intel"} <= set(names)
    assert [source.name for source in sources if not source.per_device] == ["host"]
    assert sources[-1].discover()[0].name == "Intel Xeon Platinum 8480+"


@pytest.mark.parametrize(
    ("error", "reason"), [(PermissionError(13, "no"), Absent.NO_PERMISSION), (ValueError("x"), Absent.BAD_VALUE)]
)
def test_what_psutil_cannot_read_is_one_absent_metric(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Absent
) -> None:
    source = HostSource()
    (device,) = source.discover()

    def fail() -> None:
        raise error

    monkeypatch.setattr("psutil.virtual_memory", fail)
    sample = source.read(device.key)
    assert sample.readings["memory_used_bytes"] is reason
    assert isinstance(sample.readings["load_1m"], float)
