"""Checked metrics, memory pools and throttle entries of a profile."""

from __future__ import annotations

from types import MappingProxyType

from hwdash.core.duration import parse_duration
from hwdash.core.errors import UsageError
from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.sources.chips.decoder import DECODERS
from hwdash.sources.chips.metric import Counter, Guard, Limit, Metric, Pool, Stamp, Throttle, ThrottleBit, ThrottleKind
from hwdash.sources.chips.origin import Declared, Number, Origin, ParseKind
from hwdash.sources.chips.quantity import (
    BOUNDS,
    INTEGRALS,
    LIMIT_OF,
    POWER_LIMIT,
    Dimension,
    dimension_of,
    find_metric,
    metric_names,
    symbols_of,
)
from hwdash.sources.chips.table import Table, is_number
from hwdash.sources.chips.value_form import (
    read_cut,
    read_number,
    read_origins,
    read_parse,
    read_path,
    read_pattern,
    read_quantity,
    read_unit,
)

_BY_CLASS = MappingProxyType(
    {
        ThrottleClass.THERMAL: ThrottleReason.THERMAL_HW,
        ThrottleClass.POWER: ThrottleReason.POWER_CAP,
        ThrottleClass.CURRENT: ThrottleReason.CURRENT_LIMIT,
        ThrottleClass.RELIABILITY: ThrottleReason.RELIABILITY,
        ThrottleClass.OTHER: ThrottleReason.UNKNOWN,
    }
)
"""The reason that stands for a class, where a profile's own word is none of the vocabulary."""

_ABOVE_ONE = frozenset({"power_ratio", "fan_ratio"})
"""Ratios that can be more than 1: a short peak of power, a fan above its nominal speed."""

_LEAST_LIMIT_C = 20.0
"""A chip that may not get warmer than this is one whose limit is in another unit."""

_REASONS = {reason.value: reason for reason in ThrottleReason}


def read_metrics(table: Table) -> tuple[tuple[Metric, ...], Number | None]:
    """The metrics of ``[metrics]``, and the power limit among them."""
    metrics: list[Metric] = []
    limit: Number | None = None
    names: dict[str, str] = {}
    for id_ in table.data:
        if id_ == POWER_LIMIT:
            limit = read_quantity(table, id_, Dimension.POWER)
            continue
        found = find_metric(id_)
        inner = table.table(id_)
        if found is None:
            table.wrong(id_, f"is no metric that is known; there are: {', '.join(metric_names())}")
        elif inner is not None:
            if (first := names.setdefault(found.name, id_)) != id_:
                inner.wrong("", f"is the same metric as {first}")
            metrics.append(_metric(inner, id_, found.name, dimension_of(found), total=found.counter))
    return tuple(metrics), limit


def _metric(table: Table, id_: str, name: str, dimension: Dimension, *, total: bool) -> Metric:
    grows = table.choice("type", ("gauge", "counter"), "counter" if total else "gauge") == "counter"
    rate = grows and not total
    if rate and dimension not in INTEGRALS:
        table.wrong("type", f"counter: the growth of nothing that can be counted is a {dimension.value}")
    counted = INTEGRALS.get(dimension, dimension) if rate else dimension
    number = read_number(table, (counted,))
    counter = _counter(table) if grows else None
    if rate and any(origin.offset for origin in number.origins):
        table.wrong("offset", "means nothing for the growth of a counter")
    limit = _limit(table, name, dimension, number, rate=rate) if "max" in table else None
    stamp = _stamp(table)
    guard = _guard(table)
    stalled = None
    if (health := table.table("health")) is not None:
        stalled = _seconds(health, "stalled_after")
        if not grows:
            health.wrong("", "is about counters")
        health.finish()
    metric = Metric(
        id=id_,
        name=name,
        number=number,
        counter=counter,
        rate=rate,
        bounds=(0.0, 1.0) if dimension is Dimension.RATIO and name not in _ABOVE_ONE else BOUNDS[dimension],
        min_interval_s=_seconds(table, "min_interval") or 0.0,
        stamp=stamp,
        guard=guard,
        limit=limit,
        stalled_after_s=stalled,
        optional=table.flag("optional"),
        slow=table.flag("slow"),
        requires=table.choice("requires", ("root",)),
        verified=table.flag("verified", default=True),
    )
    if not grows:
        for key in ("bits", "max_path"):
            if key in table:
                table.take(key)
                table.wrong(key, 'is about counters (type = "counter")')
    table.finish()
    return metric


def _counter(table: Table) -> Counter:
    bits = table.whole("bits", 8, 64)
    path = read_path(table, "max_path")
    if bits is not None and path is not None:
        table.wrong("max_path", "and bits exclude each other")
    return Counter(bits, path)


def _limit(table: Table, name: str, dimension: Dimension, number: Number, *, rate: bool) -> Limit | None:
    if name not in LIMIT_OF:
        table.take("max")
        table.wrong("max", "is not known here: only temperature, clock_core and power have a limit to go to")
        return None
    value = table.data["max"]
    if is_number(value) and not rate:
        return _bare_limit(table, number, float(value), dimension)
    if not isinstance(value, dict):
        return Limit(read_quantity(table, "max", dimension))
    if "suffix" in value:
        return _suffixed_limit(table, dimension)
    if "unit" in value or "by" in value or not isinstance(table.data.get("unit"), str):
        return Limit(read_quantity(table, "max", dimension))
    inner = table.table("max")
    assert inner is not None
    merged = Table({**value, "unit": table.data["unit"]}, inner.path, inner.report)
    limit = read_number(merged, (dimension,))
    merged.finish()
    return Limit(limit)


def _bare_limit(table: Table, number: Number, value: float, dimension: Dimension) -> Limit | None:
    """The limit *value* in the unit of the metric, of which there must be one."""
    table.take("max")
    units = {origin.unit for origin in number.origins}
    unit = next(iter(units)) if len(units) == 1 else None
    if unit is None:
        if units:
            table.wrong("max", f"has no unit; write it in quotes with one of {symbols_of(dimension)}")
        return None
    limit = value * unit.factor
    low, high = (_LEAST_LIMIT_C if dimension is Dimension.TEMPERATURE else 0.0), BOUNDS[dimension][1]
    if not low < limit <= high:
        table.wrong("max", f"{value:g} {unit.symbol} is not plausible: a bare number is in the unit of the metric")
        return None
    return Limit(Number(declared=Declared(limit)))


def _suffixed_limit(table: Table, dimension: Dimension) -> Limit:
    inner = table.table("max")
    assert inner is not None
    suffix = inner.text("suffix", longest=40)
    if "/" in suffix:
        inner.wrong("suffix", "must not contain a slash")
    unit = read_unit(inner, (dimension,))
    inner.finish()
    return Limit(None, suffix, unit)


def _stamp(table: Table) -> Stamp | None:
    inner = table.table("timestamp")
    if inner is None:
        return None
    path = read_path(inner, "path")
    parse = read_cut(inner) or (read_parse(inner, default=ParseKind.TEXT) if path is not None else None)
    read_unit(inner, (Dimension.TIME,))
    if parse is None:
        inner.wrong("", "needs one of kv, csv, json, regex, or a path")
    inner.finish()
    return None if parse is None else Stamp(parse, path)


def _guard(table: Table) -> Guard | None:
    inner = table.table("guard")
    if inner is None:
        return None
    path = read_path(inner, "path")
    # Without a path, regex is a test of the whole text where it is the only one.
    tests = [key for key in ("equals", "in", "matches") if key in inner]
    parse = read_cut(inner)
    equals = inner.text("equals") if "equals" in inner else None
    one_of = inner.strings("in") if "in" in inner else None
    pattern = read_pattern(inner, "matches")
    if len(tests) != 1:
        inner.wrong("", "needs exactly one of equals, in, matches")
    inner.finish()
    return Guard(path, parse, equals, one_of, pattern)


def _seconds(table: Table, key: str) -> float | None:
    text = table.text(key, longest=20)
    if not text:
        return None
    try:
        return parse_duration(text, key)
    except UsageError:
        table.wrong(key, 'must be a stretch of time such as "10s" or "5m"')
        return None


def read_pools(tables: list[Table]) -> tuple[Pool, ...]:
    """The memory pools of ``[[memory]]``."""
    pools: list[Pool] = []
    for table in tables:
        id_ = table.name("id", longest=32)
        shared = table.choice("role", ("device", "shared-host"), "device") == "shared-host"
        used, total, free = (read_quantity(table, key, Dimension.BYTES) for key in ("used", "total", "free"))
        if used is not None and used.declared is not None:
            table.wrong("used", "cannot be declared: it changes")
        if free is not None and free.declared is not None:
            table.wrong("free", "cannot be declared: it changes")
        if used is None and total is None and free is None:
            table.wrong("", "has none of used, total, free")
        if any(pool.id == id_ for pool in pools):
            table.wrong("id", f"{id_!r} stands there twice")
        table.finish()
        pools.append(Pool(id_, shared, used, total, free))
    return tuple(pools)


def read_throttles(tables: list[Table]) -> tuple[Throttle, ...]:
    """The entries of ``[[throttle]]``."""
    return tuple(_throttle(table) for table in tables)


def _throttle(table: Table) -> Throttle:
    if "decoder" in table:
        return _decoded(table)
    if isinstance(table.data.get("bits"), dict):
        return _bit_field(table)
    bit = _bit(table)
    bits = MappingProxyType({0: bit})
    optional = table.flag("optional")
    if table.choice("type", ("gauge", "counter"), "gauge") == "counter":
        timed = "unit" in table
        origins = read_origins(table, (Dimension.TIME,) if timed else ())
        counter = _counter(table)
        table.finish()
        kind = ThrottleKind.SECONDS if timed else ThrottleKind.COUNTER
        return Throttle(kind, _one(table, origins), bits, counter=counter, optional=optional)
    equals = table.text("equals") if "equals" in table else None
    origins = read_origins(table, (Dimension.COUNT,))
    table.finish()
    return Throttle(ThrottleKind.FLAG, _one(table, origins), bits, equals=equals, optional=optional)


def _decoded(table: Table) -> Throttle:
    name = table.choice("decoder", tuple(DECODERS))
    path = read_path(table, "path", required=True)
    optional = table.flag("optional")
    table.finish()
    return Throttle(ThrottleKind.DECODER, Origin((path,) if path else ()), decoder=name, optional=optional)


def _bit_field(table: Table) -> Throttle:
    words = table.table("bits")
    assert words is not None
    bits: dict[int, ThrottleBit] = {}
    for number in words.data:
        inner = words.table(number)
        if not number.isdecimal() or not number.isascii() or len(number) > 2 or int(number) > 63:
            words.wrong(number, "is no number of a bit, 0 to 63")
        elif inner is not None:
            bits[int(number)] = _bit(inner)
            inner.finish()
    ignored = table.numbers("ignore")
    optional = table.flag("optional")
    origins = read_origins(table, (Dimension.COUNT,))
    table.finish()
    numbers = frozenset(int(number) for number in ignored)
    return Throttle(ThrottleKind.BITS, _one(table, origins), MappingProxyType(bits), ignored=numbers, optional=optional)


def _bit(table: Table) -> ThrottleBit:
    id_ = table.name("id", longest=40)
    category = ThrottleClass(table.choice("class", tuple(ThrottleClass), "other"))
    known = _REASONS.get(id_)
    if known is not None:
        if "class" in table and known.category is not category and isinstance(table.data["class"], str):
            table.wrong("class", f"of {id_} is {known.category.value}")
        return ThrottleBit(id_, known.category, known)
    if "class" not in table:
        table.wrong("", f"has no class, and {id_!r} is none of {', '.join(_REASONS)}")
    return ThrottleBit(id_, category, _BY_CLASS[category])


def _one(table: Table, origins: tuple[Origin, ...]) -> Origin:
    if len(origins) > 1:
        table.wrong("first_of", "is not known here")
    return origins[0] if origins else Origin(())
