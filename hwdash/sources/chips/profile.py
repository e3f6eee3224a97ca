"""A chip profile as it is after its text was checked: what to look for, what to read, and how to understand it.

The loader makes these from TOML; the rest of the package only reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.device import DeviceKind, Runtime
from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.sources.chips.quantity import Unit

MAX_TEXT = 64 * 1024
"""The most characters of one profile."""
MAX_METRICS = 200
"""The most metrics, pools and throttle entries together of one profile."""
MAX_INSTANCES = 256
"""The most devices of one profile."""


class PartKind(StrEnum):
    """What a part of a path stands for."""

    TEXT = "text"
    ANCHOR = "anchor"
    READ = "read"
    INSTANCE = "instance"
    INSTANCE_NUMBER = "instance_number"


@dataclass(frozen=True, slots=True)
class Template:
    """A path, or another text, with places to fill in. ``parts`` are kinds with their text, name or file."""

    text: str
    parts: tuple[tuple[PartKind, str], ...]


class ParseKind(StrEnum):
    """How a file's text is understood."""

    FLOAT = "float"
    INT = "int"
    HEX = "hex"
    FIRST_TOKEN = "first_token"  # noqa: S105  a word of a text, no secret
    INTS = "ints"
    TEXT = "text"
    KV = "kv"
    CSV = "csv"
    JSON = "json"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Parse:
    """How pieces are cut out of a file's text, and with ``number`` how one piece is a number.

    ``key`` and ``separator`` are those of lines ``key: value``, ``column`` counts from 0, ``pointer`` is a JSON
    pointer's tokens in which ``*`` is every element, ``group`` the group of ``pattern``, ``every`` asks for all of
    its matches.
    """

    kind: ParseKind = ParseKind.FLOAT
    number: ParseKind = ParseKind.FLOAT
    key: str = ""
    separator: str = ":"
    column: int = 0
    pointer: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    group: int = 0
    every: bool = False


class Reduce(StrEnum):
    """How several values become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    MEAN = "mean"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a file says: exactly one of the tests is set. ``parse`` cuts a piece out of the file first."""

    path: Template
    parse: Parse | None = None
    exists: bool | None = None
    equals: str | None = None
    one_of: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None
    link_basename: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """Where devices are: globs of which the first with instances counts, and what each instance must satisfy."""

    roots: tuple[str, ...]
    require: tuple[Condition, ...] = ()


class AnchorKind(StrEnum):
    """How an anchor's directory is found."""

    LINK = "link"
    GLOB = "glob"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A directory with a name. ``pattern`` must match the whole of its file ``name``. Without one that is not
    ``optional`` there is no device."""

    id: str
    kind: AnchorKind
    path: Template
    pattern: re.Pattern[str] | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A text that does not change: a constant, the name of an anchor's directory, or what a file says.

    Texts of ``skip`` count as none; ``mapping`` translates the others.
    """

    constant: str | None = None
    basename_of: str | None = None
    path: Template | None = None
    parse: Parse | None = None
    skip: tuple[str, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Identity:
    """Facts that say which device it is; of each the first that gives a text."""

    key: tuple[Fact, ...] = ()
    vendor: tuple[Fact, ...] = ()
    name: tuple[Fact, ...] = ()
    serial: tuple[Fact, ...] = ()
    firmware: tuple[Fact, ...] = ()
    driver: tuple[Fact, ...] = ()
    pci: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """One way to a number: files, the label that picks among them (hwmon), how they are read, and their unit.

    Base unit = (number × ``scale`` + ``offset``) × the unit's factor.
    """

    paths: tuple[Template, ...]
    labels: tuple[str, ...] = ()
    parse: Parse = Parse()
    reduce: Reduce | None = None
    unit: Unit | None = None
    scale: float = 1.0
    offset: float = 0.0

    @property
    def factor(self) -> float:
        """What turns a number, scaled and offset, into the base unit."""
        return self.unit.factor if self.unit is not None else 1.0


@dataclass(frozen=True, slots=True)
class Declared:
    """A constant of the profile's author, in base units: one, or one for each text that the fact ``by`` can have."""

    value: float | None = None
    by: str = ""
    table: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Number:
    """A number to read, or a declared one. ``origins`` are tried in order until one can be read.

    ``valid`` and ``sentinels`` are in the file's own numbers, before scale and unit; ``mapping`` turns words into
    numbers.
    """

    origins: tuple[Origin, ...] = ()
    declared: Declared | None = None
    valid: tuple[float, float] | None = None
    sentinels: frozenset[float] = frozenset()
    mapping: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


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


class StatusWord(StrEnum):
    """What a device says of itself as a whole."""

    OK = "ok"
    RESETTING = "resetting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """A file with a word for the whole device. ``other`` is what a word means that is not in ``mapping``."""

    path: Template
    parse: Parse | None = None
    mapping: Mapping[str, StatusWord] = field(default_factory=lambda: MappingProxyType({}))
    other: StatusWord | None = None


@dataclass(frozen=True, slots=True)
class Edges:
    """The limits of a device by their name in `hwdash.core.device.Limits`; ``warm_margin_c`` below the slowdown a
    warning begins."""

    numbers: Mapping[str, Number] = field(default_factory=lambda: MappingProxyType({}))
    warm_margin_c: float | None = None


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the chip computes: precisions, declared or in a file, and the number of its cores."""

    dtypes: tuple[str, ...] = ()
    dtypes_from: Fact | None = None
    compute_units: Number | None = None


@dataclass(frozen=True, slots=True)
class Pids:
    """Files that list the processes on the device."""

    origin: Origin
    requires: str = ""


@dataclass(frozen=True, slots=True)
class Computing:
    """How to compute on the chip. ``visible_as`` is what its variable is set to: a text with places to fill, or a
    fact."""

    runtime: Runtime
    visible_as: Template | Fact | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of chip. ``origin`` is the file that it came from, for people; ``note`` a sentence of its author.

    While one of ``skip_when`` holds the device sleeps and nothing else is read.
    """

    id: str
    vendor: str
    kind: DeviceKind
    origin: str
    match: Match
    anchors: tuple[Anchor, ...] = ()
    identity: Identity = Identity()
    status: Status | None = None
    metrics: tuple[Metric, ...] = ()
    pools: tuple[Pool, ...] = ()
    throttle: tuple[Throttle, ...] = ()
    edges: Edges = Edges()
    abilities: Abilities = Abilities()
    pids: Pids | None = None
    computing: Computing | None = None
    skip_when: tuple[Condition, ...] = ()
    note: str = ""
