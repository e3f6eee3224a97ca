"""What the profile of a chip says can be measured: metrics, memories, throttling, processes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.sources.chips.origin import Number, Origin, Parse, Template
from hwdash.sources.chips.quantity import Unit


@dataclass(frozen=True, slots=True)
class Counter:
    """A number that grows. It wraps at 2**``bits``, or after the number in ``max_path``; with neither it never does."""

    bits: int | None = None
    max_path: Template | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a file says when its value was taken: while that stays the same, it is the same value."""

    parse: Parse
    path: Template | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold for a metric's value to count. Without a path it is about the metric's own file."""

    path: Template | None
    parse: Parse | None
    equals: str | None = None
    one_of: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest value of a metric: a number of its own, or the file beside the metric's with another ``suffix``."""

    number: Number | None = None
    suffix: str = ""
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` is its outside name, ``id`` what the profile calls it.

    ``rate``: the value is the counter's growth per second. ``slow`` is read by a thread of its own, ``optional`` is
    left out where its files are not there. ``stalled_after_s``: a counter that stands for longer is a fault.
    """

    id: str
    name: str
    number: Number
    counter: Counter | None = None
    rate: bool = False
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    min_interval_s: float = 0.0
    stamp: Stamp | None = None
    guard: Guard | None = None
    limit: Limit | None = None
    stalled_after_s: float | None = None
    optional: bool = False
    slow: bool = False
    requires: str = ""
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Pool:
    """One memory. ``shared``: it is the host's."""

    id: str
    shared: bool = False
    used: Number | None = None
    total: Number | None = None
    free: Number | None = None


@dataclass(frozen=True, slots=True)
class ThrottleBit:
    """What a bit, a flag or a counter means. ``id`` is the profile's own word for it."""

    id: str
    category: ThrottleClass
    reason: ThrottleReason


class ThrottleKind(StrEnum):
    """How a throttle entry tells."""

    BITS = "bits"
    FLAG = "flag"
    COUNTER = "counter"
    SECONDS = "seconds"
    DECODER = "decoder"


@dataclass(frozen=True, slots=True)
class Throttle:
    """One file, or set of files, that tells of throttling.

    ``bits`` by number for BITS (``ignored`` ones mean no throttling), one alone for the other kinds. ``equals`` is
    the text of a flag that holds (None: any number but 0). ``counter`` says how a counter wraps; ``origin`` has the
    unit of SECONDS.
    """

    kind: ThrottleKind
    origin: Origin
    bits: Mapping[int, ThrottleBit] = field(default_factory=lambda: MappingProxyType({}))
    ignored: frozenset[int] = frozenset()
    equals: str | None = None
    counter: Counter = Counter()
    decoder: str = ""
    optional: bool = False

    @property
    def id(self) -> str:
        """A name of the entry for people."""
        return self.decoder or ", ".join(bit.id for bit in self.bits.values())


@dataclass(frozen=True, slots=True)
class Pids:
    """Files that list the processes on the device."""

    origin: Origin
    requires: str = ""
