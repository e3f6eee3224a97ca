"""Checked parts of a profile that stand in many places: paths, rules of parsing, conditions, facts and numbers."""

from __future__ import annotations

import re
from types import MappingProxyType

from hwdash.sources.chips.origin import Condition, Declared, Fact, Number, Origin, Parse, ParseKind, Reduce, Template
from hwdash.sources.chips.pattern import BadPattern, compile_pattern
from hwdash.sources.chips.quantity import UNITS, Dimension, Unit, parse_quantity, symbols_of
from hwdash.sources.chips.table import Table, is_number
from hwdash.sources.chips.template import BadTemplate, anchors_of, parse_template

_WORDS = tuple(
    kind.value for kind in ParseKind if kind not in (ParseKind.KV, ParseKind.CSV, ParseKind.JSON, ParseKind.REGEX)
)
_NUMBER_WORDS = ("float", "int", "hex", "first_token")
_CUTTERS = ("kv", "csv", "json", "regex")
_DECLARED_BY = ("name", "serial", "firmware", "instance")
_MAX_PATHS = 64


def read_path(table: Table, key: str, *, required: bool = False) -> Template | None:
    """The path under *key*."""
    text = table.text(key, required=required)
    return checked_path(table, key, text) if key in table and isinstance(table.data[key], str) else None


def checked_path(table: Table, key: str, text: str) -> Template | None:
    """*text* as a path; its mistake is one of *key*."""
    try:
        template = parse_template(text)
    except BadTemplate as error:
        table.wrong(key, str(error))
        return None
    for name in anchors_of(template):
        table.report.needs_anchor((*table.path, key), name)
    return template


def read_pattern(table: Table, key: str) -> re.Pattern[str] | None:
    """The regular expression under *key*."""
    text = table.text(key)
    if key not in table or not isinstance(table.data[key], str):
        return None
    try:
        return compile_pattern(text)
    except BadPattern as error:
        table.wrong(key, str(error))
        return None


def read_parse(table: Table, *, default: ParseKind = ParseKind.FLOAT) -> Parse:
    """The rule under ``parse``: a word, or a table with one of kv, csv, json and regex."""
    if isinstance(table.data.get("parse"), str):
        word = table.choice("parse", _WORDS, default.value)
        kind = ParseKind(word)
        return Parse(kind, kind if word in _NUMBER_WORDS else ParseKind.FLOAT)
    inner = table.table("parse")
    if inner is None:
        return Parse(default)
    rule = read_cut(inner)
    if rule is None:
        inner.wrong("", f"needs exactly one of {', '.join(_CUTTERS)}")
    inner.finish()
    return rule or Parse(default)


def read_cut(table: Table) -> Parse | None:
    """What kv, csv, json or regex of *table* cut out of a text; None without exactly one of them."""
    given = [key for key in _CUTTERS if key in table]
    if len(given) != 1:
        for key in _CUTTERS:
            table.take(key)
        return None
    kind = ParseKind(given[0])
    number = ParseKind(table.choice("as", _NUMBER_WORDS, "float"))
    if kind is ParseKind.KV:
        key = table.text("kv", longest=100)
        separator = table.text("sep", longest=10) or ":"
        return Parse(kind, number, key=key, separator=separator)
    if kind is ParseKind.CSV:
        column = table.whole("csv", 0, 1000) or 0
        separator = table.text("sep", longest=10) or ","
        return Parse(kind, number, column=column, separator=separator)
    if kind is ParseKind.JSON:
        return Parse(kind, number, pointer=_pointer(table))
    pattern = read_pattern(table, "regex")
    every = table.flag("all")
    groups = pattern.groups if pattern is not None else 99
    group = table.whole("group", 0, groups)
    return Parse(kind, number, pattern=pattern, group=min(groups, 1) if group is None else group, every=every)


def _pointer(table: Table) -> tuple[str, ...]:
    text = table.text("json")
    if text and not text.startswith("/"):
        table.wrong("json", 'must be a JSON pointer such as "/clk/core" or "/cores/*/load"')
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def read_condition(table: Table) -> Condition | None:
    """A path and one test of it: exists, equals, in, regex or link_basename."""
    path = read_path(table, "path", required=True)
    tests = [key for key in ("exists", "equals", "in", "regex", "link_basename") if key in table]
    exists = table.flag("exists") if "exists" in table else None
    equals = table.text("equals") if "equals" in table else None
    one_of = table.strings("in") if "in" in table else None
    pattern = read_pattern(table, "regex")
    link = table.text("link_basename") if "link_basename" in table else None
    parse = read_parse(table, default=ParseKind.TEXT) if "parse" in table else None
    table.take("parse")
    table.finish()
    if len(tests) != 1:
        table.wrong("", "needs exactly one of exists, equals, in, regex, link_basename")
    return None if path is None else Condition(path, parse, exists, equals, one_of, pattern, link)


def read_facts(table: Table, key: str) -> tuple[Fact, ...]:
    """A fact, or a list of facts in the order in which they are tried; a string is a constant."""
    if isinstance(table.data.get(key), str):
        return (Fact(constant=table.text(key, longest=200)),)
    return tuple(fact for item in table.tables(key) if (fact := read_fact(item)) is not None)


def read_fact(table: Table) -> Fact | None:
    """What a table says of one fact."""
    given = [key for key in ("path", "basename_of", "text") if key in table]
    path = read_path(table, "path")
    basename_of = table.text("basename_of", longest=40)
    constant = table.text("text", longest=200) if "text" in table else None
    parse = read_parse(table, default=ParseKind.TEXT) if "parse" in table else None
    skip = table.strings("skip")
    mapping: dict[str, str] = {}
    if (words := table.table("map")) is not None:
        for word, value in words.items():
            if isinstance(value, str):
                mapping[word] = value
            else:
                words.wrong(word, "must be a string")
    table.take("parse")
    table.finish()
    if basename_of and basename_of != "instance":
        table.report.needs_anchor((*table.path, "basename_of"), basename_of)
    if len(given) != 1:
        table.wrong("", "needs exactly one of path, basename_of, text")
        return None
    return Fact(constant, basename_of or None, path, parse, skip, MappingProxyType(mapping))


def read_unit(table: Table, dimensions: tuple[Dimension, ...], key: str = "unit") -> Unit | None:
    """The unit under *key*, which must be of one of *dimensions*; None when it does not stand there."""
    symbol = table.text(key, longest=20)
    if not symbol:
        return None
    unit = UNITS.get(symbol)
    if unit is None:
        table.wrong(key, f"is no unit that is known: {symbol!r}; there are: {', '.join(UNITS)}")
    elif dimensions and unit.dimension not in dimensions:
        wanted = " or ".join(dimension.value for dimension in dimensions)
        table.wrong(key, f"{symbol} is a unit of {unit.dimension.value}, not of {wanted} ({symbols_of(*dimensions)})")
        return None
    return unit


def read_origins(table: Table, dimensions: tuple[Dimension, ...]) -> tuple[Origin, ...]:
    """The ways to a number: that of *table* itself, or those of its ``first_of``, which take over its other keys."""
    own = _origin(table, Origin(()), dimensions)
    alternatives = table.tables("first_of", most=16)
    if not alternatives:
        if not own.paths:
            if "path" not in table and "paths" not in table:
                table.wrong("", "has no path, paths or first_of")
            return ()
        origins: list[Origin] = [own]
    else:
        if own.paths:
            table.wrong("first_of", "and path exclude each other")
        origins = []
        for alternative in alternatives:
            found = _origin(alternative, own, dimensions)
            if not found.paths and "path" not in alternative and "paths" not in alternative:
                alternative.wrong("", "has no path or paths")
            alternative.finish()
            origins.append(found)
    named = any("unit" in place for place in (table, *alternatives))
    if dimensions and Dimension.COUNT not in dimensions and not named:
        table.wrong("", f"has no unit; one of {symbols_of(*dimensions)}")
    return tuple(origins)


def _origin(table: Table, outer: Origin, dimensions: tuple[Dimension, ...]) -> Origin:
    """What *table* says of one way, with what it leaves out from *outer*."""
    single = table.text("path")
    several = table.strings("paths", most=_MAX_PATHS)
    if "path" in table and "paths" in table:
        table.wrong("paths", "and path exclude each other")
    if "path" in table and isinstance(table.data["path"], str):
        templates = [checked_path(table, "path", single)]
    else:
        templates = [checked_path(table, "paths", text) for text in several]
    labels = table.strings("label") or outer.labels
    parse = read_parse(table) if "parse" in table else outer.parse
    table.take("parse")
    reduce = Reduce(word) if (word := table.choice("reduce", tuple(Reduce))) else outer.reduce
    unit = read_unit(table, dimensions) or outer.unit
    scale = table.number("scale")
    offset = table.number("offset")
    if scale == 0:
        table.wrong("scale", "must not be 0")
    return Origin(
        tuple(template for template in templates if template is not None),
        labels,
        parse,
        reduce,
        unit,
        outer.scale if scale is None else scale,
        outer.offset if offset is None else offset,
    )


def read_number(table: Table, dimensions: tuple[Dimension, ...], *, declarable: bool = False) -> Number:
    """A number from files, with its checks; with *declarable* also ``{ by, table }``. Does not `finish` the table."""
    if declarable and ("by" in table or "table" in table):
        return Number(declared=_declared_by(table, dimensions[0]))
    origins = read_origins(table, dimensions)
    valid = table.numbers("valid")
    if "valid" in table and (len(valid) != 2 or valid[0] > valid[1]):
        table.wrong("valid", "must be [lowest, highest]")
        valid = ()
    mapping: dict[str, float] = {}
    if (words := table.table("map")) is not None:
        for word, value in words.items():
            if is_number(value):
                mapping[word] = float(value)
            else:
                words.wrong(word, "must be a number")
    sentinels = frozenset(table.numbers("sentinels"))
    bounds = (valid[0], valid[1]) if valid else None
    return Number(origins, None, bounds, sentinels, MappingProxyType(mapping))


def read_quantity(table: Table, key: str, dimension: Dimension, *, plain: bool = False) -> Number | None:
    """The number under *key*: a table as of `read_number`, or a declared one such as ``"32GiB"``.

    With *plain* also a bare number, in the base unit.
    """
    value = table.data.get(key)
    if value is None:
        table.take(key)
        return None
    if isinstance(value, dict):
        inner = table.table(key)
        assert inner is not None
        number = read_number(inner, (dimension,), declarable=True)
        inner.finish()
        return number
    declared = _quantity_of(table, key, value, dimension, plain=plain)
    return None if declared is None else Number(declared=Declared(declared))


def _quantity_of(table: Table, key: str, value: object, dimension: Dimension, *, plain: bool = False) -> float | None:
    table.take(key)
    if plain and is_number(value):
        return float(value)  # type: ignore[arg-type]  # is_number has made sure
    if isinstance(value, str) and (quantity := parse_quantity(value, dimension)) is not None:
        return quantity
    table.wrong(
        key, f"must be a table, or a quantity of {dimension.value} in quotes with its unit ({symbols_of(dimension)})"
    )
    return None


def _declared_by(table: Table, dimension: Dimension) -> Declared:
    by = table.choice("by", _DECLARED_BY, "name")
    values: dict[str, float] = {}
    inner = table.table("table")
    if inner is None:
        table.wrong("", "has by without a table of its values")
    else:
        for word, value in inner.items():
            if (
                quantity := _quantity_of(inner, word, value, dimension, plain=dimension is Dimension.COUNT)
            ) is not None:
                values[word] = quantity
    return Declared(by=by, table=MappingProxyType(values))
