"""The machine's load, from ``/proc`` (manual page proc(5)). Parsers are pure; what does not fit gives None."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdash.sources.sysfs import ReadFailure, Tree

_JIFFIES = re.compile(r"^cpu +((?:[0-9]{1,19} ?){4,12})", re.MULTILINE)
_MEMORY = re.compile(r"^(MemTotal|MemAvailable|MemFree|Buffers|Cached): *([0-9]{1,15}) kB$", re.MULTILINE)
_MAX_CPUS = 65_536
_LOAD = re.compile(r"([0-9]{1,7}\.[0-9]{1,4}) ")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Time of all cores together since boot, in any one unit: all of it, and the part in which they worked."""

    total: float
    busy: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory in bytes; ``available`` is what can be had without swapping."""

    total: int
    available: int


def parse_cpu_times(text: str) -> CpuTimes | None:
    """The times in ``/proc/stat``. Waiting for a disk is not work; a guest's time is within user time already."""
    if (match := _JIFFIES.search(text)) is None:
        return None
    ticks = [int(part) for part in match[1].split()][:8]
    total = sum(ticks)
    return CpuTimes(total, total - sum(ticks[3:5]))


def parse_memory(text: str) -> Memory | None:
    """The memory in ``/proc/meminfo``. Kernels before 3.14 do not state what is available; their estimate is used."""
    values = {name: int(kibibytes) * 1024 for name, kibibytes in _MEMORY.findall(text)}
    total = values.get("MemTotal", 0)
    available = values.get("MemAvailable")
    if available is None and "MemFree" in values:
        available = min(total, sum(values.get(name, 0) for name in ("MemFree", "Buffers", "Cached")))
    if available is None or not 0 <= available <= total or total == 0:
        return None
    return Memory(total, available)


def read_memory(tree: Tree) -> Memory | None:
    """The memory of the machine that *tree* shows; None when it does not tell."""
    try:
        return parse_memory(tree.text("proc/meminfo", 4096))
    except ReadFailure:
        return None


def parse_load(text: str) -> float | None:
    """The mean number of runnable tasks over the last minute, from ``/proc/loadavg``."""
    match = _LOAD.match(text)
    return float(match[1]) if match else None


def parse_cpu_list(text: str) -> frozenset[int] | None:
    """The numbers in a list such as ``0-3,8``; no kernel lists more than 65536."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None:
            return None
        numbers.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
        if len(numbers) > _MAX_CPUS:
            return None
    return frozenset(numbers) or None
