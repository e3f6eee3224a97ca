"""How much memory of the host this process may still take."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hwdash.core.cgroup import memory_levels, memory_room

_MOST_BYTES = 64 * 1024


def host_bytes(root: Path = Path("/")) -> int | None:
    """What the kernel calls available, or less where a control group bounds this process; None where it tells nothing.

    *root* is where ``/proc`` and ``/sys`` are.
    """

    def read(path: str) -> str | None:
        try:
            with (root / path).open("rb") as file:
                return file.read(_MOST_BYTES).decode(errors="replace")
        except (OSError, ValueError):
            return None

    group = memory_room(memory_levels(read), read)
    rooms = [] if group is None else [group]
    for line in (read("proc/meminfo") or "").splitlines():
        with contextlib.suppress(ValueError, IndexError):
            if line.startswith("MemAvailable:"):
                rooms.append(int(line.split()[1]) * 1024)
    return max(0, min(rooms)) if rooms else None
