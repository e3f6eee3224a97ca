"""Checked sections of a profile that say what a device is: match, anchors, identity, status, runtime and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from hwdash.core.device import Runtime
from hwdash.core.url import base_url_problem
from hwdash.sources.chips.metric import Pids
from hwdash.sources.chips.origin import Condition, Fact, Number, Origin, Parse, ParseKind, Template
from hwdash.sources.chips.profile import (
    IDENTITY_FACTS,
    Abilities,
    Anchor,
    AnchorKind,
    Computing,
    Edges,
    Identity,
    Match,
    Status,
    StatusWord,
)
from hwdash.sources.chips.quantity import LIMITS, Dimension
from hwdash.sources.chips.table import Table
from hwdash.sources.chips.template import BadTemplate, check_root, is_anchor_name, parse_template
from hwdash.sources.chips.value_form import (
    read_condition,
    read_fact,
    read_facts,
    read_origins,
    read_parse,
    read_path,
    read_pattern,
    read_quantity,
)

_EDGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "limits": {name: name for name in LIMITS},
        "thresholds": {
            "slowdown_c": "temperature_slowdown_c",
            "shutdown_c": "temperature_shutdown_c",
            "memory_c": "memory_temperature_max_c",
        },
    }
)
"""The limits that each section can have, by their names there."""
_RESERVED = frozenset({"instance", "instance_number", "read"})
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,9}", re.ASCII)
_TORCH_DEVICE = re.compile(r"[a-z][a-z0-9_]{0,31}(:[0-9]{1,4})?", re.ASCII)
_DTYPE = re.compile(r"[a-z][a-z0-9_]{1,15}", re.ASCII)
_VARIABLE = re.compile(
    r"[A-Z][A-Z0-9_]{0,40}_VISIBLE_(DEVICES|MODULES|CARDS|CORES|CHIPS|NPUS)|ASCEND_DEVICE_ID|FURIOSA_DEVICES"
    r"|GPU_DEVICE_ORDINAL|HLS_MODULE_ID|NPU_DEVICENAME|ONEAPI_DEVICE_SELECTOR|RBLN_DEVICES|SYCL_DEVICE_FILTER"
    r"|ZE_AFFINITY_MASK",
    re.ASCII,
)
"""What vendors' runtimes choose devices by. Another variable could have the worker load a library, say."""


def read_match(table: Table) -> Match:
    """``[match]``: where devices are."""
    inner = table.table("match")
    if inner is None:
        if "match" not in table:
            table.wrong("", "has no [match] with roots")
        return Match(())
    roots = inner.strings("roots", most=16)
    if not roots and "roots" not in inner:
        inner.wrong("", "has no roots")
    for root in roots:
        try:
            if "**" in root or "\0" in root or len(root) > 300 or ".." in root.split("/"):
                raise BadTemplate("must be a glob of at most 300 characters without ** and ..")
            check_root(root)
        except BadTemplate as error:
            inner.wrong("roots", str(error))
    require = _conditions(inner, "require")
    inner.finish()
    return Match(roots, require)


def _conditions(table: Table, key: str) -> tuple[Condition, ...]:
    return tuple(found for item in table.tables(key, most=32) if (found := read_condition(item)) is not None)


def read_anchors(table: Table) -> tuple[Anchor, ...]:
    """``[anchors]``: directories with a name. One may stand on those before it."""
    inner = table.table("anchors")
    if inner is None:
        return ()
    anchors: list[Anchor] = []
    for id_ in inner.data:
        one = inner.table(id_)
        if not is_anchor_name(id_) or id_ in _RESERVED:
            inner.wrong(id_, "is no name for an anchor: lower case letters, digits and _")
        if one is None:
            continue
        given = [kind for kind in AnchorKind if kind.value in one]
        paths = [read_path(one, kind.value) for kind in AnchorKind]
        pattern = read_pattern(one, "name")
        optional = one.flag("optional")
        one.finish()
        if len(given) != 1:
            one.wrong("", "needs exactly one of link, glob, path")
            continue
        if (path := next((path for path in paths if path is not None), None)) is not None:
            anchors.append(Anchor(id_, given[0], path, pattern, optional))
    return tuple(anchors)


def read_identity(table: Table) -> Identity:
    """``[identity]``: which device it is."""
    inner = table.table("identity")
    if inner is None:
        return Identity()
    facts = {name: read_facts(inner, name) for name in IDENTITY_FACTS}
    inner.finish()
    return Identity(**facts)


def read_status(table: Table) -> Status | None:
    """``[status]``: a word for the whole device."""
    inner = table.table("status")
    if inner is None:
        return None
    path = read_path(inner, "path", required=True)
    parse = read_parse(inner, default=ParseKind.TEXT) if "parse" in inner else None
    inner.take("parse")
    words = inner.table("map")
    mapping: dict[str, StatusWord] = {}
    if words is None:
        inner.wrong("", "has no map of words to ok, resetting or failed")
    else:
        for word in words.data:
            if meaning := words.choice(word, tuple(StatusWord)):
                mapping[word] = StatusWord(meaning)
    other = inner.choice("default", tuple(StatusWord))
    inner.finish()
    return (
        None if path is None else Status(path, parse, MappingProxyType(mapping), StatusWord(other) if other else None)
    )


def read_edges(table: Table) -> Edges:
    """``[limits]`` and ``[thresholds]``: numbers in the base unit, quantities in quotes with a unit, or files."""
    numbers: dict[str, Number] = {}
    margin: float | None = None
    for section, edges in _EDGES.items():
        inner = table.table(section)
        if inner is None:
            continue
        for key, name in edges.items():
            if (number := read_quantity(inner, key, LIMITS[name], plain=True)) is None:
                continue
            if name in numbers:
                inner.wrong(key, "stands in [limits] and in [thresholds]")
            numbers[name] = number
        if section == "thresholds":
            margin = inner.number("warm_margin_c", 0, 100)
        inner.finish()
    return Edges(MappingProxyType(numbers), margin)


def read_abilities(table: Table) -> Abilities:
    """``[capabilities]``: what the chip computes."""
    inner = table.table("capabilities")
    if inner is None:
        return Abilities()
    dtypes: tuple[str, ...] = ()
    origin: Fact | None = None
    if isinstance(inner.data.get("dtypes"), dict):
        one = inner.table("dtypes")
        assert one is not None
        origin = read_fact(one)
    else:
        dtypes = inner.strings("dtypes", most=32)
        for dtype in dtypes:
            if not _DTYPE.fullmatch(dtype):
                inner.wrong("dtypes", f"has {dtype!r}, which is no precision such as bf16 or int8")
    units = read_quantity(inner, "compute_units", Dimension.COUNT, plain=True)
    inner.finish()
    return Abilities(dtypes, origin, units)


def read_pids(table: Table) -> Pids | None:
    """``[processes]``: the files that list process ids."""
    inner = table.table("processes")
    if inner is None:
        return None
    one = inner.table("pids")
    inner.finish()
    if one is None:
        if "pids" not in inner:
            inner.wrong("", "has no pids")
        return None
    one.flag("dedupe")  # a process is listed once in any case
    requires = one.choice("requires", ("root",))
    origins = read_origins(one, (Dimension.COUNT,))
    one.finish()
    if not origins:
        return None
    origin = origins[0]
    parse = origin.parse if "parse" in one else Parse(ParseKind.INTS)
    return Pids(Origin(origin.paths, parse=parse), requires)


def read_skip_when(table: Table) -> tuple[Condition, ...]:
    """``[guard]``: when the device sleeps and is left alone."""
    inner = table.table("guard")
    if inner is None:
        return ()
    conditions = _conditions(inner, "skip_when")
    if "skip_when" not in inner:
        inner.wrong("", "has no skip_when")
    inner.finish()
    return conditions


def read_computing(table: Table) -> Computing | None:
    """``[runtime]``: how to compute on the chip."""
    inner = table.table("runtime")
    if inner is None:
        return None
    torch_device = _matching(inner, "torch_device", _TORCH_DEVICE, 'a device of torch such as "hpu" or "xpu"')
    module = _matching(inner, "module", _MODULE, 'a module\'s name such as "habana_frameworks.torch"')
    chooser = "a variable that chooses devices, such as ACME_VISIBLE_DEVICES or ZE_AFFINITY_MASK"
    variable = _matching(inner, "visible_variable", _VARIABLE, chooser)
    url = _url(inner)
    visible_as = _visible_as(inner)
    inner.finish()
    if bool(torch_device) == bool(url):
        inner.wrong("", "needs either torch_device or url")
    if not torch_device and (module or variable or visible_as):
        inner.wrong("", "has module, visible_variable or visible_as without torch_device")
    if bool(variable) != (visible_as is not None):
        inner.wrong("", "needs visible_variable and visible_as together")
    return Computing(Runtime(torch_device or None, module or None, variable or None, url or None), visible_as)


def _matching(table: Table, key: str, pattern: re.Pattern[str], wanted: str) -> str:
    text = table.text(key, longest=200)
    if text and not pattern.fullmatch(text):
        table.wrong(key, f"must be {wanted}, not {text!r}")
        return ""
    return text


def _url(table: Table) -> str:
    text = table.text("url")
    if not text:
        return ""
    if problem := base_url_problem(text):
        table.wrong("url", problem)
        return ""
    return text


def _visible_as(table: Table) -> Template | Fact | None:
    if isinstance(table.data.get("visible_as"), str):
        try:
            return parse_template(table.text("visible_as", longest=100), path=False)
        except BadTemplate as error:
            table.wrong("visible_as", str(error))
            return None
    inner = table.table("visible_as")
    return read_fact(inner) if inner is not None else None
