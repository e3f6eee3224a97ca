"""How long the processors were slowed down by heat (kernel: arch/x86/kernel/cpu/mce/therm_throt.c; Intel only).

Every processor of a package repeats the package's counters, and every thread of a core the core's: each is read once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdash.core.reading import is_present
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.sysfs import Tree

_CPUS = "sys/devices/system/cpu"
_LARGEST = 2.0**64

REASON = ThrottleReason.THERMAL_HW
"""The processor itself limits its clock when it, or its package, reaches its critical temperature."""


@dataclass(frozen=True, slots=True)
class HeatLimit:
    """What the counters tell: whether one of them grew since the last read, and the accumulated seconds.

    ``seconds`` follows the unit that was slowed down longest between two reads, so that its growth never counts a
    moment twice; None on kernels before 5.6, which count events only.
    """

    active: bool
    seconds: float | None


class ThrottleCounters:
    """The counters of all packages and cores of *tree*. For use by one thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._units = _units(tree)
        self._last: dict[str, tuple[float, float | None]] = {}
        self._seconds = 0.0

    def read(self) -> HeatLimit | None:
        """How it went since the last read; None where nothing is counted."""
        counts: dict[str, tuple[float, float | None]] = {}
        for unit in self._units:
            events = self._tree.number(f"{unit}_count", 0.0, _LARGEST)
            if is_present(events):
                spent = self._tree.number(f"{unit}_total_time_ms", 0.0, _LARGEST, 1e-3)
                counts[unit] = (events, spent if is_present(spent) else None)
        if not counts:
            return None
        grown = [_growth(self._last[unit], now) for unit, now in counts.items() if unit in self._last]
        self._last = counts
        self._seconds += max((spent for _, spent in grown), default=0.0)
        timed = any(spent is not None for _, spent in counts.values())
        return HeatLimit(any(active for active, _ in grown), self._seconds if timed else None)


def _growth(before: tuple[float, float | None], now: tuple[float, float | None]) -> tuple[bool, float]:
    spent = now[1] - before[1] if now[1] is not None and before[1] is not None else 0.0
    return now[0] > before[0] or spent > 0, max(0.0, spent)


def _units(tree: Tree) -> tuple[str, ...]:
    """The stems of the counter files: one for each package, one for each core."""
    found: dict[tuple[str, ...], str] = {}
    for name in tree.names(_CPUS):
        if re.fullmatch(r"cpu[0-9]{1,6}", name) is None:
            continue
        folder = f"{_CPUS}/{name}"
        package = tree.line(f"{folder}/topology/physical_package_id") or "0"
        core = tree.line(f"{folder}/topology/core_id") or name
        for identity, stem in (((package,), "package_throttle"), ((package, core), "core_throttle")):
            if identity not in found and tree.line(f"{folder}/thermal_throttle/{stem}_count") is not None:
                found[identity] = f"{folder}/thermal_throttle/{stem}"
    return tuple(found.values())
