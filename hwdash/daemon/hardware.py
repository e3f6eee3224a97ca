"""The sources of the machine that the environment names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hwdash.core.errors import UsageError
from hwdash.core.paths import Paths
from hwdash.core.server import ServerConfig
from hwdash.sources.builtin import builtin_sources
from hwdash.sources.source import Source


def machine_sources(paths: Paths, servers: Sequence[ServerConfig] = ()) -> list[Source]:
    """All built-in sources, with the user's own chip profiles, and those *servers* that are devices of their own.

    ``HWDASH_SYSROOT`` moves what is read of ``/sys``, ``/proc`` and ``/dev``. Raises `UsageError` when that is no
    directory.
    """
    return builtin_sources(sysroot(), paths.config / "chips", servers)


def sysroot() -> Path:
    """The directory that stands for ``/``. Raises `UsageError` when ``HWDASH_SYSROOT`` is no directory."""
    root = Path(os.environ.get("HWDASH_SYSROOT") or "/")
    if not root.is_dir():
        raise UsageError(f"HWDASH_SYSROOT: {root} is not a directory", param="HWDASH_SYSROOT")
    return root
