"""What the control groups of a process leave it of the machine's memory (kernel documents "cgroup-v2" and "cgroup-v1")."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

ROOT = "sys/fs/cgroup"
_UNLIMITED = 2**60
"""Version 1 writes a limit that nobody set as the largest number of pages."""
_DEEPEST = 32

ReadText: TypeAlias = Callable[[str], str | None]
"""Gives the text of the file with that path below the machine's root; None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class GroupPaths:
    """The group of this process in version 2 and, in version 1, in the hierarchies of cpu and memory."""

    v2: str = "/"
    cpu: str = "/"
    memory: str = "/"


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """One group that bounds memory: its folder, and the names of what to read there."""

    folder: str
    limit: str
    usage: str
    cached: str


def group_paths(text: str | None) -> GroupPaths:
    """The groups that ``/proc/self/cgroup``, whose *text* is given, tells of."""
    paths = {"": "/", "cpu": "/", "memory": "/"}
    for line in (text or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller in paths and path.startswith("/"):
                paths[controller] = path
    return GroupPaths(paths[""], paths["cpu"], paths["memory"])


def levels(root: str, path: str) -> list[str]:
    """The folder of a group and of all its parents; for one outside of what this container sees, the root alone."""
    parts = [part for part in path.split("/") if part and part != "."][:_DEEPEST]
    parts = [] if ".." in parts else parts
    return ["/".join([root, *parts[:length]]) for length in range(len(parts), -1, -1)]


def memory_levels(read: ReadText) -> list[MemoryLevel]:
    """The groups around this process that may bound its memory, in both versions."""
    paths = group_paths(read("proc/self/cgroup"))
    found = [MemoryLevel(folder, "memory.max", "memory.current", "inactive_file") for folder in levels(ROOT, paths.v2)]
    found += [
        MemoryLevel(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in levels(f"{ROOT}/memory", paths.memory)
    ]
    return [level for level in found if read(f"{level.folder}/{level.limit}") is not None]


def memory_room(groups: list[MemoryLevel], read: ReadText) -> int | None:
    """How many more bytes *groups* let this process have; None without a limit.

    Cached file pages that are not in use can be reclaimed and do not count as taken.
    """
    rooms = []
    for level in groups:
        limit = _number(read(f"{level.folder}/{level.limit}"))
        usage = _number(read(f"{level.folder}/{level.usage}"))
        if limit is not None and usage is not None:
            cached = re.search(
                rf"^{level.cached} ([0-9]{{1,18}})$", read(f"{level.folder}/memory.stat") or "", re.MULTILINE
            )
            rooms.append(limit - usage + min(usage, int(cached[1]) if cached else 0))
    return max(0, min(rooms)) if rooms else None


def _number(text: str | None) -> int | None:
    """A number of bytes; None for ``max`` and what stands for it, and for what is none."""
    if text is None or re.fullmatch(r"[0-9]{1,20}", line := text.strip(), re.ASCII) is None:
        return None
    value = int(line)
    return value if value < _UNLIMITED else None
