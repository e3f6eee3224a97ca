"""Where the profile of a chip says that a value lies, and how the text there is understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from hwdash.sources.chips.quantity import Unit


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
