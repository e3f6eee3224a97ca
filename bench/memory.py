"""Resident memory of a daemon that watches and does nothing else."""

from __future__ import annotations

import time

from bench.place import daemon, home, resident_mb
from bench.report import Figure, write


def run(seconds: float = 10) -> None:
    """Measure after *seconds* of watching and write ``memory.json``."""
    with home() as environment, daemon(environment) as pid:
        time.sleep(seconds)
        value = resident_mb(pid)
    write("memory", [Figure("resident memory of the daemon without a worker", value, 75, "MB")], {"daemon_mb": value})
