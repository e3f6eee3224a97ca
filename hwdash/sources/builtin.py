"""The sources that every daemon has."""

from __future__ import annotations

from pathlib import Path

from hwdash.sources.amdgpu import AmdgpuSource
from hwdash.sources.chips.source import ChipSource
from hwdash.sources.host import HostSource
from hwdash.sources.intel import IntelGpuSource
from hwdash.sources.nvml import NvmlSource
from hwdash.sources.source import Source


def builtin_sources(sysroot: Path, chip_folder: Path | None = None) -> list[Source]:
    """All built-in sources, which read ``/sys`` and ``/proc`` below *sysroot*; accelerators first.

    *chip_folder* holds the user's own chip profiles.
    """
    return [
        NvmlSource(sysroot=sysroot),
        AmdgpuSource(sysroot),
        IntelGpuSource(sysroot),
        ChipSource(sysroot, user_folder=chip_folder),
        HostSource(sysroot),
    ]
