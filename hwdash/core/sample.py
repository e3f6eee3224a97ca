"""What a source read from one device at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Reading
from hwdash.core.throttle import ThrottleReason


@dataclass(frozen=True, slots=True)
class Sample:
    """The raw state of one device, before any rate is derived from it.

    ``monotonic_s`` is taken on the monotonic clock next to the read and is what rates are derived from; ``taken_at``
    is the same moment in UTC, for people. ``readings`` maps metric names (`hwdash.core.metric.METRICS`) to a number
    or the reason for its absence; a metric that the device cannot have at all is simply not a key.
    ``throttle_flags`` are the reasons active right now, None when the device does not tell; ``throttle_seconds``
    are the accumulated seconds per reason where the driver counts them; ``unknown_flags`` is driver text such as
    ``0x4000`` for bits without a name.
    """

    key: str
    monotonic_s: float
    taken_at: datetime
    readings: Mapping[str, Reading]
    pools: tuple[MemoryPool, ...] = ()
    throttle_flags: frozenset[ThrottleReason] | None = None
    throttle_seconds: Mapping[ThrottleReason, float] = field(default_factory=lambda: MappingProxyType({}))
    unknown_flags: str | None = None
