"""The sources that every daemon has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwdash.core.server import ServerConfig
from hwdash.sources.amdgpu import AmdgpuSource
from hwdash.sources.chips.source import ChipSource
from hwdash.sources.host import HostSource
from hwdash.sources.intel import IntelGpuSource
from hwdash.sources.nvml import NvmlSource
from hwdash.sources.source import Source


def builtin_sources(
    sysroot: Path, chip_folder: Path | None = None, servers: Sequence[ServerConfig] = ()
) -> list[Source]:
    """All built-in sources, which read ``/sys`` and ``/proc`` below *sysroot*; accelerators first.

    *chip_folder* holds the user's own chip profiles. Those of *servers* that compute on no device here are devices.
    """
    apart = [server for server in servers if server.device is None]
    return [
        NvmlSource(sysroot=sysroot),
        AmdgpuSource(sysroot),
        IntelGpuSource(sysroot),
        ChipSource(sysroot, user_folder=chip_folder),
        HostSource(sysroot),
        *([_server_source(apart)] if apart else []),
    ]


def _server_source(servers: Sequence[ServerConfig]) -> Source:
    from hwdash.sources.server import ServerSource  # its HTTP takes longer to load than all other sources

    return ServerSource(servers)
