"""The host's memory by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hwdash.core.clock import ManualClock
from hwdash.core.device import MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.snapshot import DeviceStatus
from hwdash.sources.fake import fake_gpu
from hwdash.sources.host import HostSource
from hwdash.sources.numa import find_nodes, read_node
from hwdash.sources.sysfs import Tree
from tests.sources.test_host import MACHINE

NODES = "sys/devices/system/node"
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
