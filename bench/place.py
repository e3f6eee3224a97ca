"""A throw-away home for the program under measurement, and a daemon in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HWDASH = str(Path(sys.executable).with_name("hwdash"))


@contextmanager
def home(**extra: str) -> Iterator[dict[str, str]]:
    """An environment whose XDG directories are fresh, short and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hwb", dir="/tmp") as place:
        runtime = Path(place) / "run"
        runtime.mkdir(mode=0o700)
        names = {
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_STATE_HOME": f"{place}/state",
            "XDG_CONFIG_HOME": f"{place}/config",
        }
        yield {**os.environ, **names, **extra}


@contextmanager
def daemon(environment: Mapping[str, str]) -> Iterator[int]:
    """A running daemon in *environment*, ready to answer; gives its pid."""
    process = subprocess.Popen(
        [HWDASH, "daemon"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while subprocess.run([HWDASH, "status"], env=environment, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("the daemon did not come up")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def resident_mb(pid: int) -> float:
    """Resident memory of one process in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) * 1024 / 1e6
