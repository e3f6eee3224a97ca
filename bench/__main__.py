"""``python -m bench [NAME…]``: run the benchmarks, all or the named ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench import api, clients, dashboard, decode, isolation, memory, poll, quality, rank, streaming, tick

BENCHMARKS: dict[str, Callable[[], None]] = {
    "memory": memory.run,
    "streaming": streaming.run,
    "api": api.run,
    "decode": decode.run,
    "quality": quality.run,
    "tick": tick.run,
    "rank": rank.run,
    "isolation": isolation.run,
    "clients": clients.run,
    "poll": lambda: poll.run(Path(os.environ.get("RIG", "../shared/rig"))),
    "dashboard": lambda: dashboard.run(Path(os.environ.get("RIG", "../shared/rig"))),
}

ON_GPU: dict[str, Callable[[], None]] = {"decode-gpu": decode.run_gpu}
"""What only `make bench-gpu` runs."""


def main(names: list[str]) -> int:
    """Run those of *names*, or all of `BENCHMARKS`, one after the other. 2 for an unknown name."""
    known = BENCHMARKS | ON_GPU
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(f"--- {name}")
        known[name]()
    return 0


raise SystemExit(main(sys.argv[1:]))
