"""The machine's load and memory: of the live machine through psutil, of a tree of files by parsing them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Protocol, TypeVar

from hwdash.core.reading import Absent
from hwdash.sources.procfs import CpuTimes, Memory, parse_cpu_times, parse_load, parse_memory
from hwdash.sources.sysfs import ReadFailure, Tree

T = TypeVar("T")


class Counters(Protocol):
    """What ``/proc`` counts for the whole machine. Every call raises `ReadFailure`."""

    def cpu_times(self) -> CpuTimes:
        """Time of all cores since boot."""
        ...

    def memory(self) -> Memory:
        """Main memory in bytes."""
        ...

    def load(self) -> float:
        """Mean number of runnable tasks over the last minute."""
        ...


class LiveCounters:
    """The machine this process runs on, through psutil."""

    def cpu_times(self) -> CpuTimes:
        """Waiting for a disk is not work; a guest's time is within user time already."""
        times = _asked("proc/stat", lambda: _psutil().cpu_times())
        idle = times.idle + times.iowait
        busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return CpuTimes(idle + busy, busy)

    def memory(self) -> Memory:
        """``available`` is psutil's: what can be had without swapping."""
        memory = _asked("proc/meminfo", lambda: _psutil().virtual_memory())
        return Memory(memory.total, memory.available)

    def load(self) -> float:
        """The first of the three load averages."""
        return _asked("proc/loadavg", lambda: float(_psutil().getloadavg()[0]))


class TreeCounters:
    """The machine whose files lie below a root (``HWDASH_SYSROOT``), where any file may be missing, huge or garbage."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def cpu_times(self) -> CpuTimes:
        """From ``proc/stat``."""
        return _parsed("proc/stat", parse_cpu_times(self._tree.text("proc/stat")))

    def memory(self) -> Memory:
        """From ``proc/meminfo``."""
        return _parsed("proc/meminfo", parse_memory(self._tree.text("proc/meminfo")))

    def load(self) -> float:
        """From ``proc/loadavg``."""
        return _parsed("proc/loadavg", parse_load(self._tree.text("proc/loadavg", 4096)))


def counters_of(tree: Tree) -> Counters:
    """The counters of the machine that *tree* shows."""
    return LiveCounters() if tree.live else TreeCounters(tree)


def _parsed(path: str, value: T | None) -> T:
    if value is None:
        raise ReadFailure(path, Absent.BAD_VALUE)
    return value


def _psutil() -> ModuleType:
    # Imported late: a command that reads no hardware does not pay for it.
    import psutil

    return psutil


def _asked(path: str, ask: Callable[[], T]) -> T:
    """What *ask* gives; every failure of psutil is a failure to read *path*."""
    try:
        return ask()
    except OSError as error:
        raise ReadFailure.of(path, error) from error
    except (ValueError, IndexError, KeyError) as error:
        raise ReadFailure(path, Absent.BAD_VALUE) from error
