"""What the control groups of this process leave of the machine (kernel documents "cgroup-v2" and "cgroup-v1")."""

from __future__ import annotations

import math
import re

from hwdash.core.reading import present
from hwdash.sources.sysfs import ReadFailure, Tree

_ROOT = "sys/fs/cgroup"
_UNLIMITED = 2.0**60
"""Version 1 writes a limit that nobody set as the largest number of pages."""


class ControlGroups:
    """The limits over this process in *tree*, looked up once in its groups and all their parents."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        v2, cpu, memory = _paths(tree)
        self._v2 = _levels(_ROOT, v2)
        self._cpu_v1 = _levels(f"{_ROOT}/cpu", cpu)
        self._memory = [
            *((folder, "memory.max", "memory.current", "inactive_file") for folder in self._v2),
            *(
                (folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                for folder in _levels(f"{_ROOT}/memory", memory)
            ),
        ]
        self._memory = [level for level in self._memory if tree.line(f"{level[0]}/{level[1]}") is not None]

    def cpu_limit(self) -> int | None:
        """How many cores the quotas allow, rounded up; None without a quota."""
        quotas = [self._quota_v2(folder) for folder in self._v2] + [self._quota_v1(folder) for folder in self._cpu_v1]
        known = [quota for quota in quotas if quota is not None]
        return max(1, math.ceil(min(known))) if known else None

    def memory_room(self) -> int | None:
        """How many more bytes the limits let this process have; None without a limit.

        Cached file pages that are not in use can be reclaimed and do not count as taken.
        """
        rooms = []
        for folder, limit_name, usage_name, cache_name in self._memory:
            limit = present(self._tree.number(f"{folder}/{limit_name}", 0.0, _UNLIMITED))
            usage = present(self._tree.number(f"{folder}/{usage_name}", 0.0, _UNLIMITED))
            if limit is not None and usage is not None and limit < _UNLIMITED:
                rooms.append(limit - usage + min(usage, self._statistic(folder, cache_name)))
        return max(0, int(min(rooms))) if rooms else None

    def _statistic(self, folder: str, name: str) -> float:
        try:
            match = re.search(rf"^{name} ([0-9]{{1,18}})$", self._tree.text(f"{folder}/memory.stat"), re.MULTILINE)
        except ReadFailure:
            return 0.0
        return float(match[1]) if match else 0.0

    def _quota_v2(self, folder: str) -> float | None:
        match = re.fullmatch(r"([0-9]{1,15}) ([0-9]{1,15})", self._tree.line(f"{folder}/cpu.max") or "")
        return int(match[1]) / int(match[2]) if match and int(match[2]) > 0 else None

    def _quota_v1(self, folder: str) -> float | None:
        quota = present(self._tree.number(f"{folder}/cpu.cfs_quota_us", 1.0, 1e15))
        period = present(self._tree.number(f"{folder}/cpu.cfs_period_us", 1.0, 1e15))
        return quota / period if quota and period else None


def _paths(tree: Tree) -> tuple[str, str, str]:
    """The path of this process's group in version 2 and, in version 1, in the cpu and in the memory hierarchy."""
    paths = {"": "/", "cpu": "/", "memory": "/"}
    try:
        lines = tree.text("proc/self/cgroup", 16_384).splitlines()
    except ReadFailure:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller in paths and path.startswith("/"):
                paths[controller] = path
    return paths[""], paths["cpu"], paths["memory"]


def _levels(root: str, path: str) -> list[str]:
    """The folder of a group and of all its parents; a group seen from inside a container may only have the root."""
    parts = [part for part in path.split("/") if part and part not in {".", ".."}][:32]
    return ["/".join([root, *parts[:length]]) for length in range(len(parts), -1, -1)]
