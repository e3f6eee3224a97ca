"""What a source read from one device at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.device import MemoryPool
from hwdash.core.event import Severity
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent, Reading
from hwdash.core.throttle import ThrottleReason


class FaultLevel(StrEnum):
    """What a fault means for the use of a device.

    ``warning``: it works and wants attention. ``stalled``: it does not move, its readings are not of now. ``failed``:
    it says itself that it cannot be used.
    """

    WARNING = "warning"
    STALLED = "stalled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a device for as long as its samples say so.

    ``code`` names it across samples (``row_remap_pending``); ``words`` is a sentence with numbers and what to do.
    """

    code: str
    words: str
    level: FaultLevel = FaultLevel.WARNING


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened once since the sample before (an XID, a reset): it becomes an event."""

    words: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Sample:
    """The raw state of one device, before any rate is derived from it.

    ``monotonic_s`` is taken on the monotonic clock next to the read and is what rates are derived from; ``taken_at``
    is the same moment in UTC, for people. ``readings`` maps metric names (`hwdash.core.metric.METRICS`) to a number
    or the reason for its absence; a metric that the device cannot have at all is simply not a key. A source that has
    only a counter for a rate derives the rate itself, from the time next to its own read.

    ``throttle_flags`` are the reasons active right now, None when the device does not tell; ``throttle_known`` all
    reasons that it would tell of; ``throttle_seconds`` the accumulated seconds per reason where the driver counts
    them; ``unknown_flags`` is driver text such as ``0x4000`` for bits without a name. ``clock_is_set`` is true while a
    user's setting holds the clock down: a low clock is then nobody's fault.

    ``processes`` are the programs on the device, or why they are not known; None when the device cannot tell.
    """

    key: str
    monotonic_s: float
    taken_at: datetime
    readings: Mapping[str, Reading]
    pools: tuple[MemoryPool, ...] = ()
    throttle_flags: frozenset[ThrottleReason] | None = None
    throttle_seconds: Mapping[ThrottleReason, float] = field(default_factory=lambda: MappingProxyType({}))
    unknown_flags: str | None = None
    throttle_known: frozenset[ThrottleReason] = frozenset()
    clock_is_set: bool = False
    processes: tuple[DeviceProcess, ...] | Absent | None = None
    faults: tuple[Fault, ...] = ()
    notices: tuple[Notice, ...] = ()
