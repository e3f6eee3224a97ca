"""What the daemon says of itself and of its workers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process: what it serves, its pid while it lives, how many requests run and wait, and what went wrong last.

    Of one whose model is loaded: ``decoder`` names its way of decoding, ``choices`` say in words why it computes as it
    does, ``memory_bytes`` is what the weights take.
    """

    device: str
    model: str
    state: WorkerState
    pid: int | None = None
    dtype: str | None = None
    queued: int = 0
    restarts: int = 0
    problem: str = ""
    running: int = 0
    decoder: str = ""
    choices: tuple[str, ...] = ()
    memory_bytes: int | None = None


class BreakerState(StrEnum):
    """Whether requests go to a device: yes, not for now, or one to try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class AdmissionStatus:
    """What goes to one device: requests that run and wait, how many may run at once and why, and what keeps them away.

    ``limit`` is 0 while somebody has the device alone, as ``why`` says then. ``verdicts`` are sentences of what a
    model cannot do on it.
    """

    device: str
    running: int = 0
    waiting: int = 0
    limit: int = 1
    why: str = ""
    breaker: BreakerState = BreakerState.CLOSED
    problem: str = ""
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's own state. ``listen`` is its TCP address, None while it only has its socket.

    ``watchers`` are the open streams of snapshots: each dashboard has one. ``problems`` are sentences about what is degraded (a source
    without permission, a store that cannot write). ``admission`` has every device that a request went to.
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
    watchers: int = 0
    admission: tuple[AdmissionStatus, ...] = ()
