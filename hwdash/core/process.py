"""Programs that use a device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProcessKind(StrEnum):
    """What a program uses the device for."""

    COMPUTE = "compute"
    GRAPHICS = "graphics"


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """One program on a device. ``name`` is its command, safe for a terminal; None where the system does not tell.

    ``memory_bytes`` is what it holds of the device's memory.
    """

    pid: int
    kind: ProcessKind = ProcessKind.COMPUTE
    name: str | None = None
    user: str | None = None
    memory_bytes: int | None = None
