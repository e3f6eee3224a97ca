"""The processors and the main memory of this machine, as one device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.sources.cgroup import ControlGroups
from hwdash.sources.counters import counters_of
from hwdash.sources.cpu_throttle import REASON, ThrottleCounters
from hwdash.sources.cpufreq import CoreClocks
from hwdash.sources.cpuinfo import CpuInfo, parse_cpuinfo
from hwdash.sources.hwmon import Sensor, find_sensors, read_hottest
from hwdash.sources.numa import find_nodes, read_node
from hwdash.sources.procfs import CpuTimes, parse_cpu_list
from hwdash.sources.rapl import PackageEnergy
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import ReadFailure, Tree

_SOURCE_NAME = "host"
_IDENTITIES = ("etc/machine-id", "var/lib/dbus/machine-id", "sys/class/dmi/id/product_uuid", "proc/sys/kernel/hostname")
_CPUINFO_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class _Parts:
    """What discovery found out about where to read."""

    key: str
    groups: ControlGroups
    clocks: CoreClocks
    sensors: tuple[Sensor, ...]
    nodes: tuple[int, ...]


class HostSource:
    """The machine below *sysroot*, read from its ``/proc`` and ``/sys``. For use by one thread at a time."""

    name = _SOURCE_NAME
    per_device = False
    problem = ""

    def __init__(self, sysroot: Path = Path("/"), clock: Clock = SYSTEM_CLOCK) -> None:
        self._tree = Tree(sysroot)
        self._clock = clock
        self._counters = counters_of(self._tree)
        self._energy = PackageEnergy(self._tree)
        self._heat: ThrottleCounters | None = None
        self._parts: _Parts | None = None
        self._times: CpuTimes | None = None
        self._utilization: Reading = Absent.FIRST_SAMPLE

    def discover(self) -> Sequence[Device]:
        """The one device there always is."""
        tree = self._tree
        info = self._cpuinfo()
        parts = _Parts(_key(tree), ControlGroups(tree), CoreClocks(tree), find_sensors(tree), find_nodes(tree))
        self._energy.find()
        self._heat = self._heat or ThrottleCounters(tree)
        self._parts = parts
        slowdowns = [sensor.slowdown_c for sensor in parts.sensors if sensor.slowdown_c is not None]
        shutdowns = [sensor.shutdown_c for sensor in parts.sensors if sensor.shutdown_c is not None]
        device = Device(
            key=parts.key,
            kind=DeviceKind.CPU,
            vendor=info.vendor,
            name=info.name,
            source=_SOURCE_NAME,
            capabilities=Capabilities(
                dtypes=info.dtypes, compute_units=_usable_cores(tree, parts.groups), inference=True
            ),
            limits=Limits(
                temperature_slowdown_c=min(slowdowns, default=None),
                temperature_shutdown_c=min(shutdowns, default=None),
                power_w=self._energy.limit_w(),
                clock_hz=parts.clocks.highest(),
            ),
            spans_pools=bool(parts.nodes),
        )
        return (device,)

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the machine.

        ``power_w`` is left to whoever derives it from ``energy_j``. Raises `DeviceLost` for any other key.
        """
        parts = self._parts
        if parts is None or key != parts.key:
            raise DeviceLost(f"no machine {key}")
        monotonic_s, taken_at = self._clock.monotonic(), self._clock.now()
        energy = self._energy.read()
        readings: dict[str, Reading] = {
            "utilization": self._read_utilization(),
            "load_1m": self._read_load(),
            "clock_hz": self._read_clock(parts.clocks),
            "temperature_c": read_hottest(self._tree, parts.sensors),
            "energy_j": energy,
            "power_w": energy if isinstance(energy, Absent) else Absent.FIRST_SAMPLE,
        }
        pools = self._read_memory(readings, parts)
        heat = None if self._heat is None else self._heat.read(monotonic_s)
        if heat is None:
            return Sample(key, monotonic_s, taken_at, readings, pools)
        return Sample(
            key,
            monotonic_s,
            taken_at,
            readings,
            pools,
            throttle_flags=frozenset({REASON}) if heat.active else frozenset(),
            throttle_seconds={} if heat.seconds is None else {REASON: heat.seconds},
            throttle_known=frozenset({REASON}),
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _cpuinfo(self) -> CpuInfo:
        try:
            return parse_cpuinfo(self._tree.text("proc/cpuinfo", _CPUINFO_BYTES))
        except ReadFailure:
            return parse_cpuinfo("")

    def _read_utilization(self) -> Reading:
        """The busy share of all cores since the last read; two reads within one tick of the kernel give the same."""
        try:
            times = self._counters.cpu_times()
        except ReadFailure as failure:
            return failure.reason
        last, self._times = self._times, times
        if last is None or times.total < last.total or times.busy < last.busy:
            self._utilization = Absent.FIRST_SAMPLE
        elif times.total > last.total:
            self._utilization = min(1.0, (times.busy - last.busy) / (times.total - last.total))
        return self._utilization

    def _read_load(self) -> Reading:
        try:
            return self._counters.load()
        except ReadFailure as failure:
            return failure.reason

    def _read_clock(self, clocks: CoreClocks) -> Reading:
        if clocks.found:
            return clocks.mean()
        return self._cpuinfo().clock_hz or Absent.NOT_SUPPORTED

    def _read_memory(self, readings: dict[str, Reading], parts: _Parts) -> tuple[MemoryPool, ...]:
        """Put used and total memory into *readings*; the pool's free bytes heed the limits of this process.

        A machine of several NUMA nodes has a pool for each, unless a limit holds for all of them together.
        """
        try:
            memory = self._counters.memory()
        except ReadFailure as failure:
            readings["memory_used_bytes"] = readings["memory_total_bytes"] = failure.reason
            return ()
        used = memory.total - memory.available
        readings["memory_used_bytes"] = float(used)
        readings["memory_total_bytes"] = float(memory.total)
        room = parts.groups.memory_room()
        if room is None and parts.nodes:
            pools = [read_node(self._tree, number) for number in parts.nodes]
            if all(pools):
                return tuple(pool for pool in pools if pool is not None)
        free = memory.available if room is None else min(room, memory.available)
        return (MemoryPool("ram", memory.total, used, free),)


def _key(tree: Tree) -> str:
    """A name for the machine that is the same after a reboot and does not give its machine-id away."""
    identity = next((text for path in _IDENTITIES if (text := tree.line(path))), "")
    return f"cpu:{hashlib.blake2b(identity.encode(), digest_size=8, key=b'hwdash').hexdigest()}"


def _usable_cores(tree: Tree, groups: ControlGroups) -> int | None:
    """The cores this process may run on: online, within its affinity and its quota."""
    online = parse_cpu_list(tree.line("sys/devices/system/cpu/online") or "")
    allowed = _affinity(tree)
    usable = (online & allowed or online) if online and allowed else online or allowed
    counts = [len(usable)] if usable else []
    if (quota := groups.cpu_limit()) is not None:
        counts.append(quota)
    return min(counts, default=None)


def _affinity(tree: Tree) -> frozenset[int] | None:
    try:
        status = tree.text("proc/self/status")
    except ReadFailure:
        return None
    match = re.search(r"^Cpus_allowed_list:(.*)$", status, re.MULTILINE)
    return parse_cpu_list(match[1]) if match else None
