"""The state of a recording that is being played, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The speeds that the dashboard steps through; any from 0.1 to 100 may be asked for."""


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Where a replay stands: seconds from the start of the recording *name*, of *duration_s* in all.

    ``at`` is the recorded time of that place, in UTC. ``speed`` is recorded seconds per second.
    """

    name: str
    at: datetime
    position_s: float
    duration_s: float
    speed: float = 1.0
    paused: bool = False
    loop: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to change; None leaves a thing as it is. ``seek_s`` is a place from the start, ``skip_s`` from here."""

    paused: bool | None = None
    seek_s: float | None = None
    skip_s: float | None = None
    speed: float | None = None
    loop: bool | None = None
