"""What the daemon says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.inference import WorkerStatus


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's own state. ``listen`` is its TCP address, None while it only has its socket.

    ``problems`` are sentences about what is degraded (a source without permission, a store that cannot write).
    """

    pid: int
    version: str
    uptime_s: float
    interval_s: float
    socket: str
    listen: str | None = None
    workers: tuple[WorkerStatus, ...] = ()
    owned: bool = False
    default_model: str = ""
    problems: tuple[str, ...] = ()
