"""The clock of the cores, from cpufreq (kernel document "pm/cpufreq"; kHz)."""

from __future__ import annotations

import re

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.sources.sysfs import Tree

_CPUS = "sys/devices/system/cpu"
_MAX_FILES = 16
_MAX_KHZ = 1e8


class CoreClocks:
    """The clocks of the cores that are online, as far as the machine has frequency scaling."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        folders = [
            f"{_CPUS}/{name}/cpufreq"
            for name in tree.names(_CPUS)
            if re.fullmatch(r"cpu[0-9]+", name) and tree.line(f"{_CPUS}/{name}/online") != "0"
        ]
        self._folders = [folder for folder in folders if tree.line(f"{folder}/scaling_cur_freq") is not None]

    @property
    def found(self) -> bool:
        """True when there is a clock to be read."""
        return bool(self._folders)

    def highest(self) -> float | None:
        """The highest clock that any core can reach, in Hz."""
        limits = [self._tree.number(f"{folder}/cpuinfo_max_freq", 1.0, _MAX_KHZ, 1e3) for folder in self._folders]
        return max((limit for limit in limits if is_present(limit)), default=None)

    def mean(self) -> Reading:
        """The mean clock in Hz. Of a large machine at most 16 cores, evenly spread, stand for all, to keep it cheap."""
        step = -(-len(self._folders) // _MAX_FILES) or 1
        readings = [
            self._tree.number(f"{folder}/scaling_cur_freq", 1.0, _MAX_KHZ, 1e3) for folder in self._folders[::step]
        ]
        if values := [reading for reading in readings if is_present(reading)]:
            return sum(values) / len(values)
        return readings[0] if readings else Absent.NOT_SUPPORTED
