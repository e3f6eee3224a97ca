"""A chip profile as it is after its text was checked: what to look for, what to read, and how to understand it.

The loader makes these from TOML; the rest of the package only reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.device import DeviceKind, Runtime
from hwdash.sources.chips.metric import Metric, Pids, Pool, Throttle
from hwdash.sources.chips.origin import Condition, Fact, Number, Parse, Template

MAX_TEXT = 64 * 1024
"""The most characters of one profile."""
MAX_METRICS = 200
"""The most metrics, pools and throttle entries together of one profile."""
MAX_INSTANCES = 256
"""The most devices of one profile."""


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
class Identity:
    """Facts that say which device it is; of each the first that gives a text."""

    key: tuple[Fact, ...] = ()
    vendor: tuple[Fact, ...] = ()
    name: tuple[Fact, ...] = ()
    serial: tuple[Fact, ...] = ()
    firmware: tuple[Fact, ...] = ()
    driver: tuple[Fact, ...] = ()
    pci: tuple[Fact, ...] = ()


IDENTITY_FACTS = tuple(item.name for item in fields(Identity))
"""What an identity tells, by name."""


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
