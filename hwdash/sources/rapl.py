"""Energy of the processor packages, from the powercap class (kernel document "power/powercap")."""

from __future__ import annotations

import re

from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.sources.rate import unwrapped_growth
from hwdash.sources.sysfs import Tree

_CLASS = "sys/class/powercap"
_PACKAGE = re.compile(r"intel-rapl:[0-9a-f]+")
"""A top-level zone; AMD uses the same name. ``intel-rapl-mmio`` shows the same packages a second time."""

_MAX_RANGE_UJ = 2.0**64


class PackageEnergy:
    """One growing energy counter over all packages, with the wraps of each taken out. For use by one thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._ranges: dict[str, Reading] = {}
        self._last: dict[str, float] = {}
        self._total_uj = 0.0
        self._counting = False

    def find(self) -> None:
        """Look for packages; what is known of those that stay is kept."""
        packages = [
            path
            for name in self._tree.names(_CLASS)
            if _PACKAGE.fullmatch(name)
            and (self._tree.line(path := f"{_CLASS}/{name}/name") or "").startswith("package")
        ]
        folders = [path.removesuffix("/name") for path in packages]
        self._ranges = {
            folder: self._tree.number(f"{folder}/max_energy_range_uj", 1.0, _MAX_RANGE_UJ) for folder in folders
        }
        self._last = {folder: value for folder, value in self._last.items() if folder in self._ranges}

    def read(self) -> Reading:
        """Joules since some moment before the first read; absent as a whole when one package cannot be read."""
        if not self._ranges:
            return Absent.NOT_SUPPORTED
        values = {folder: self._tree.number(f"{folder}/energy_uj", 0.0, _MAX_RANGE_UJ) for folder in self._ranges}
        for value in values.values():
            if isinstance(value, Absent):
                return value
        for folder, value in values.items():
            if is_present(value):
                self._total_uj += self._growth(folder, value)
                self._last[folder] = value
        self._counting = True
        return self._total_uj * 1e-6

    def limit_w(self) -> float | None:
        """The long-term power limit over all packages in watts; None when one of them does not tell."""
        limits = [
            present(self._tree.number(f"{folder}/constraint_0_power_limit_uw", 1.0, 1e12, 1e-6))
            for folder in self._ranges
            if self._tree.line(f"{folder}/constraint_0_name") == "long_term"
        ]
        known = [limit for limit in limits if limit is not None]
        return sum(known) if known and len(known) == len(self._ranges) else None

    def _growth(self, folder: str, value: float) -> float:
        """The microjoules since the last read; all at the very first; none for a package that joins or was reset."""
        last = self._last.get(folder)
        if last is None:
            return 0.0 if self._counting else value
        wrap = self._ranges[folder]
        growth = unwrapped_growth(last, value, wrap + 1.0 if is_present(wrap) else None)
        return 0.0 if growth is None else growth
