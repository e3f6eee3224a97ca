"""What the control groups of this process leave of the machine (kernel documents "cgroup-v2" and "cgroup-v1")."""

from __future__ import annotations

import math
import re

from hwdash.core.cgroup import ROOT, group_paths, levels, memory_levels, memory_room
from hwdash.core.reading import present
from hwdash.sources.sysfs import ReadFailure, Tree

_MOST_BYTES = 16_384


class ControlGroups:
    """The limits over this process in *tree*, looked up once in its groups and all their parents."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        paths = group_paths(self._text("proc/self/cgroup"))
        self._v2 = levels(ROOT, paths.v2)
        self._cpu_v1 = levels(f"{ROOT}/cpu", paths.cpu)
        self._memory = memory_levels(self._text)

    def cpu_limit(self) -> int | None:
        """How many cores the quotas allow, rounded up; None without a quota."""
        quotas = [self._quota_v2(folder) for folder in self._v2] + [self._quota_v1(folder) for folder in self._cpu_v1]
        known = [quota for quota in quotas if quota is not None]
        return max(1, math.ceil(min(known))) if known else None

    def memory_room(self) -> int | None:
        """How many more bytes the limits let this process have; None without a limit."""
        return memory_room(self._memory, self._text)

    def _text(self, path: str) -> str | None:
        try:
            return self._tree.text(path, _MOST_BYTES)
        except ReadFailure:
            return None

    def _quota_v2(self, folder: str) -> float | None:
        match = re.fullmatch(r"([0-9]{1,15}) ([0-9]{1,15})", self._tree.line(f"{folder}/cpu.max") or "")
        return int(match[1]) / int(match[2]) if match and int(match[2]) > 0 else None

    def _quota_v1(self, folder: str) -> float | None:
        quota = present(self._tree.number(f"{folder}/cpu.cfs_quota_us", 1.0, 1e15))
        period = present(self._tree.number(f"{folder}/cpu.cfs_period_us", 1.0, 1e15))
        return quota / period if quota and period else None
