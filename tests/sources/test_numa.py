"""The host's memory by node, and the counters of its heat limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.cpu_throttle import HeatLimit, ThrottleCounters
from hwdash.sources.fake import fake_gpu
from hwdash.sources.host import HostSource
from hwdash.sources.numa import find_nodes, read_node
from hwdash.sources.sysfs import Tree
from tests.sources.test_host import MACHINE

NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"
MIB = 2**20


def meminfo(number: int, total_mib: int, free_mib: int, file_mib: int = 0) -> str:
    return (
        f"Node {number} MemTotal:       {total_mib * 1024} kB\nNode {number} MemFree:        {free_mib * 1024} kB\n"
        f"Node {number} Inactive(file): {file_mib * 1024} kB\nNode {number} Dirty: 4 kB\n"
    )


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def test_each_node_is_a_pool_of_the_host(tmp_path: Path) -> None:
    write(tmp_path, {**MACHINE} | {f"{NODES}/node{n}/meminfo": meminfo(n, 1024, 256, 128) for n in (0, 1)})
    source = HostSource(tmp_path, ManualClock())
    device = source.discover()[0]
    sample = source.read(device.key)
    assert device.spans_pools
    assert sample.pools == tuple(MemoryPool(f"node{n}", 1024 * MIB, 640 * MIB, 384 * MIB, numa_node=n) for n in (0, 1))
    whole = DeviceStatus(device, {}, sample.pools, (), Health(HealthState.OK, (), datetime.now(UTC)), None, None)
    assert whole.largest_pool == MemoryPool("memory", 2048 * MIB, 1280 * MIB, 768 * MIB)


def test_a_device_that_cannot_span_its_pools_has_the_freest_one() -> None:
    pools = (MemoryPool("vram", 10, 9, 1), MemoryPool("gtt", 10, 2, 8, shared=True))
    status = DeviceStatus(fake_gpu(), {}, pools, (), Health(HealthState.OK, (), datetime.now(UTC)), None, None)
    assert status.largest_pool == pools[0], "memory of the host is not what a model is put into"
    assert replace(status, pools=pools[1:]).largest_pool == pools[1]


def test_one_node_and_nodes_without_memory_tell_nothing_apart(tmp_path: Path) -> None:
    write(tmp_path, {f"{NODES}/node0/meminfo": meminfo(0, 1024, 256), f"{NODES}/node1/meminfo": meminfo(1, 0, 0)})
    assert find_nodes(Tree(tmp_path)) == ()
    assert read_node(Tree(tmp_path), 1) is None
    assert read_node(Tree(tmp_path), 7) is None


def test_a_limit_over_all_nodes_leaves_one_pool(tmp_path: Path) -> None:
    files = {f"{NODES}/node{n}/meminfo": meminfo(n, 1024, 256) for n in (0, 1)}
    limit = {"sys/fs/cgroup/app/memory.max": f"{64 * MIB}\n", "sys/fs/cgroup/app/memory.current": "0\n"}
    write(tmp_path, {**MACHINE} | files | limit)
    source = HostSource(tmp_path, ManualClock())
    sample = source.read(source.discover()[0].key)
    assert [(pool.id, pool.free_bytes) for pool in sample.pools] == [("ram", 64 * MIB)]


def throttle(cpu: int, package: str, core: str, counts: tuple[int, int], times: tuple[int, int]) -> dict[str, str]:
    folder = f"{CPUS}/cpu{cpu}"
    return {
        f"{folder}/topology/physical_package_id": package,
        f"{folder}/topology/core_id": core,
        f"{folder}/thermal_throttle/package_throttle_count": f"{counts[0]}\n",
        f"{folder}/thermal_throttle/core_throttle_count": f"{counts[1]}\n",
        f"{folder}/thermal_throttle/package_throttle_total_time_ms": f"{times[0]}\n",
        f"{folder}/thermal_throttle/core_throttle_total_time_ms": f"{times[1]}\n",
    }


def test_packages_and_cores_are_counted_once(tmp_path: Path) -> None:
    for cpu in range(4):
        write(tmp_path, throttle(cpu, "0", str(cpu // 2), (30, 6), (1000, 500)))
    counters = ThrottleCounters(Tree(tmp_path))
    assert len(counters._units) == 3
    assert counters.read() == HeatLimit(False, 0.0)
    assert counters.read() == HeatLimit(False, 0.0)
    for cpu in range(4):
        write(tmp_path, throttle(cpu, "0", str(cpu // 2), (31, 7), (1400, 700)))
    grown = counters.read()
    assert grown is not None
    assert grown.active
    assert grown.seconds == pytest.approx(0.4)
    assert counters.read() == replace(grown, active=False)


def test_kernels_that_count_events_only_have_no_seconds(tmp_path: Path) -> None:
    name = f"{CPUS}/cpu0/thermal_throttle/core_throttle_count"
    write(tmp_path, {name: "3\n"})
    counters = ThrottleCounters(Tree(tmp_path))
    assert counters.read() == HeatLimit(False, None)
    write(tmp_path, {name: "4\n"})
    assert counters.read() == HeatLimit(True, None)
    write(tmp_path, {name: "garbage\n"})
    assert counters.read() is None


def test_the_host_tells_of_heat(tmp_path: Path) -> None:
    write(tmp_path, {**MACHINE} | throttle(0, "0", "0", (1, 1), (10, 10)))
    source = HostSource(tmp_path, ManualClock())
    key = source.discover()[0].key
    first = source.read(key)
    assert first.throttle_known == {ThrottleReason.THERMAL_HW}
    assert first.throttle_flags == frozenset()
    write(tmp_path, throttle(0, "0", "0", (2, 1), (510, 10)))
    second = source.read(key)
    assert second.throttle_flags == frozenset({ThrottleReason.THERMAL_HW})
    assert second.throttle_seconds == {ThrottleReason.THERMAL_HW: pytest.approx(0.5)}


def test_the_power_limit_is_that_of_all_packages(tmp_path: Path) -> None:
    limits = {
        f"sys/class/powercap/intel-rapl:{n}/{name}": text
        for n in (0, 1)
        for name, text in {"constraint_0_name": "long_term\n", "constraint_0_power_limit_uw": "350000000\n"}.items()
    }
    write(tmp_path, {**MACHINE} | limits)
    assert HostSource(tmp_path, ManualClock()).discover()[0].limits.power_w == 700.0
    write(tmp_path, {"sys/class/powercap/intel-rapl:1/constraint_0_power_limit_uw": "0\n"})
    assert HostSource(tmp_path, ManualClock()).discover()[0].limits.power_w is None


def test_without_counters_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    source = HostSource(tmp_path, ManualClock())
    sample = source.read(source.discover()[0].key)
    assert sample.throttle_flags is None
    assert sample == replace(sample, throttle_known=frozenset())
    assert sample.readings["utilization"] is Absent.FIRST_SAMPLE
