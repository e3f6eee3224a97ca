"""A throw-away home for the whole program: XDG directories with a socket path that is short enough."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def home(**extra: str) -> Iterator[dict[str, str]]:
    """An environment for a subprocess, with fresh state, config, cache and runtime directories."""
    with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as place:
        (Path(place) / "r").mkdir(mode=0o700)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HWDASH_", "XDG_"))}
        yield inherited | {
            "HOME": place,
            "XDG_RUNTIME_DIR": f"{place}/r",
            "XDG_STATE_HOME": f"{place}/s",
            "XDG_CONFIG_HOME": f"{place}/c",
            "XDG_CACHE_HOME": f"{place}/k",
            **extra,
        }


def hwdash(environment: Mapping[str, str], *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """``hwdash ARGUMENTS`` to its end, its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "hwdash", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False, **options  # type: ignore[call-overload]
    )  # fmt: skip
