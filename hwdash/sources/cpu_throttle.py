"""How long the processors were slowed down by heat (kernel: arch/x86/kernel/cpu/mce/therm_throt.c; Intel only).

Every processor of a package repeats the package's counters, and every thread of a core the core's: each is read once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwdash.core.reading import is_present
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.pace import Pace
from hwdash.sources.sysfs import Tree

_CPUS = "sys/devices/system/cpu"
_LARGEST = 2.0**64

REASON = ThrottleReason.THERMAL_HW
"""The processor itself limits its clock when it, or its package, reaches its critical temperature."""


_PERIOD_S = 10.0
"""How often the cores are looked at while nothing moves: there can be hundreds, with two files each."""

_Count = tuple[float, float | None]
"""Events and seconds of one unit; None on kernels before 5.6, which count events only."""


@dataclass(frozen=True, slots=True)
class HeatLimit:
    """What the counters tell: whether one of them grew since the last read, and the accumulated seconds.

    ``seconds`` follows the unit that was slowed down longest between two looks at all of them, so that its growth never
    counts a moment twice. None where not all were looked at in this read, and on kernels before 5.6.
    """

    active: bool
    seconds: float | None


class ThrottleCounters:
    """The counters of all packages and cores of *tree*. For use by one thread.

    Those of the packages are read every time; those of the cores with them when one of a package moved, when one of a
    core moved before, and every 10 s.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._packages, self._cores = _units(tree)
        self._pace = Pace(_PERIOD_S)
        self._last: dict[str, _Count] = {}
        self._hot = False
        self._seconds = 0.0

    def read(self, now_s: float) -> HeatLimit | None:
        """How it went since the last read, at *now_s* on the monotonic clock; None where nothing is counted."""
        packages = self._look(self._packages)
        moved = any(now != self._last.get(unit) for unit, now in packages.items())
        if not (self._pace.due(now_s) or moved or self._hot):
            return HeatLimit(False, None) if self._last else None
        cores = self._look(self._cores)
        counts = packages | cores
        grown = {unit: _growth(self._last[unit], now) for unit, now in counts.items() if unit in self._last}
        self._last = counts
        if not counts:
            return None
        self._hot = any(active for unit, (active, _) in grown.items() if unit in cores)
        self._seconds += max((spent for _, spent in grown.values()), default=0.0)
        timed = any(spent is not None for _, spent in counts.values())
        return HeatLimit(any(active for active, _ in grown.values()), self._seconds if timed else None)

    def _look(self, units: Sequence[str]) -> dict[str, _Count]:
        counts: dict[str, _Count] = {}
        for unit in units:
            events = self._tree.number(f"{unit}_count", 0.0, _LARGEST)
            if is_present(events):
                spent = self._tree.number(f"{unit}_total_time_ms", 0.0, _LARGEST, 1e-3)
                counts[unit] = (events, spent if is_present(spent) else None)
        return counts


def _growth(before: _Count, now: _Count) -> tuple[bool, float]:
    spent = now[1] - before[1] if now[1] is not None and before[1] is not None else 0.0
    return now[0] > before[0] or spent > 0, max(0.0, spent)


def _units(tree: Tree) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The stems of the counter files: one for each package, and one for each core."""
    packages: dict[tuple[str, ...], str] = {}
    cores: dict[tuple[str, ...], str] = {}
    for name in tree.names(_CPUS):
        if re.fullmatch(r"cpu[0-9]{1,6}", name) is None:
            continue
        folder = f"{_CPUS}/{name}"
        package = tree.line(f"{folder}/topology/physical_package_id") or "0"
        core = tree.line(f"{folder}/topology/core_id") or name
        for found, identity, stem in (
            (packages, (package,), "package_throttle"),
            (cores, (package, core), "core_throttle"),
        ):
            if identity not in found and tree.line(f"{folder}/thermal_throttle/{stem}_count") is not None:
                found[identity] = f"{folder}/thermal_throttle/{stem}"
    return tuple(packages.values()), tuple(cores.values())
