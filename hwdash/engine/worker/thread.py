"""How many threads compute in a worker on a CPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_CPUS = "sys/devices/system/cpu"
_MOST = 1 << 16


def thread_count(most: int | None, allowed: Iterable[int] | None = None, root: Path = Path("/")) -> int:
    """A thread for each core among the processors *allowed* (None: those that this process may use), *most* at most.

    Two threads of one core share its arithmetic units: a second one adds nothing to a product of matrices and makes
    the first wait at every barrier. *most* is what a quota leaves; processors that tell of no core count as one each.
    """
    processors = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    cores = {_core(processor, root) for processor in processors}
    return max(1, min(len(cores), len(cores) if most is None else most))


def _core(processor: int, root: Path) -> int:
    """The first processor of the core that *processor* belongs to (kernel document "cputopology")."""
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is the older name
        try:
            with (root / _CPUS / f"cpu{processor}" / "topology" / name).open(
                encoding="ascii", errors="replace"
            ) as file:
                text = file.read(4096)
        except OSError:
            continue
        if (match := re.match(r"[0-9]{1,6}", text)) is not None and int(match[0]) < _MOST:
            return int(match[0])
    return processor
