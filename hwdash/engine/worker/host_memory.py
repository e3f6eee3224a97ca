"""How much memory of the host this process may still take."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_CACHED = re.compile(r"^inactive_file ([0-9]{1,18})$", re.MULTILINE)


def host_bytes(root: Path = Path("/")) -> int | None:
    """What the kernel calls available, or less where a control group bounds this process; None where it tells nothing.

    *root* is where ``/proc`` and ``/sys`` are.
    """
    rooms = list(_group_rooms(root))
    with contextlib.suppress(OSError, ValueError), (root / "proc/meminfo").open() as lines:
        rooms += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return max(0, min(rooms)) if rooms else None


def _group_rooms(root: Path) -> Iterator[int]:
    """What each group around this process still allows it (kernel document "cgroup-v2"); nothing for one without a limit.

    Cached file pages that are not in use can be reclaimed and do not count as taken.
    """
    top = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if not line.startswith("0::/"):
                continue
            name = line.removeprefix("0::/")
            folder = top if ".." in name.split("/") else top / name  # a group outside of what this container sees
            for group in (folder, *folder.parents):
                if not group.is_relative_to(top):
                    break
                with contextlib.suppress(OSError, ValueError):
                    room = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
                    cached = _CACHED.search((group / "memory.stat").read_text())
                    yield room + (int(cached[1]) if cached else 0)
