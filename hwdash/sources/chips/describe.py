"""From the files of one device to its fixed facts."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from hwdash.core.device import Capabilities, Device, Limits, Runtime
from hwdash.core.reading import is_present
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.fact import first_text, text_of, texts_of
from hwdash.sources.chips.figure import aimed
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.gauge import Edge
from hwdash.sources.chips.metric import Metric
from hwdash.sources.chips.origin import Fact, Number
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.profile import IDENTITY_FACTS, Computing, Profile
from hwdash.sources.chips.quantity import BOUNDS, LIMIT_OF, LIMITS, Dimension


def facts_of(profile: Profile, place: Place, files: FileReads) -> dict[str, str]:
    """What the device says of itself: key, vendor, name, serial, firmware, driver, pci, instance; empty where nothing."""
    found = {name: first_text(getattr(profile.identity, name), place, files) for name in IDENTITY_FACTS}
    found["pci"] = found["pci"] or place.pci_slot(files.tree) or ""
    return found | {"instance": sanitise_line(place.instance, 80)}


def describe(profile: Profile, place: Place, facts: Mapping[str, str], files: FileReads, *, awake: bool) -> Device:
    """The device at *place*. Of one that is not *awake* only what its identity tells: nothing else is read."""
    computing = profile.computing
    visible_as = _visible_as(computing, place, files) if computing is not None else None
    pinned = computing is not None and (computing.visible_as is None or visible_as is not None)
    runtime = computing.runtime if computing is not None and pinned else None
    abilities = profile.abilities
    dtypes = abilities.dtypes
    if awake and abilities.dtypes_from is not None:
        dtypes = texts_of(abilities.dtypes_from, place, files)
    units = _value(abilities.compute_units, place, facts, files, Dimension.COUNT) if awake else None
    return Device(
        key=f"{profile.id}:{facts['key'] or facts['instance']}",
        kind=profile.kind,
        vendor=facts["vendor"] or profile.vendor,
        name=facts["name"] or f"{profile.vendor} {profile.kind.value.upper()}",
        source=f"chips:{profile.id}",
        driver=facts["driver"] or None,
        pci=facts["pci"] or None,
        capabilities=Capabilities(
            None, dtypes, int(units) if units and units < 1e9 else None, inference=can_compute(runtime)
        ),
        limits=_limits(profile, place, facts, files) if awake else Limits(),
        visible_as=visible_as,
        firmware=facts["firmware"] or None,
        runtime=runtime,
    )


def can_compute(runtime: Runtime | None) -> bool:
    """True when prompts can be answered by *runtime*: a server, or torch with the package of its module installed here."""
    if runtime is None:
        return False
    return (
        runtime.url is not None
        or runtime.module is None
        or importlib.util.find_spec(runtime.module.partition(".")[0]) is not None
    )


def _visible_as(computing: Computing, place: Place, files: FileReads) -> str | None:
    wanted = computing.visible_as
    if wanted is None:
        return None
    text = text_of(wanted, place, files) if isinstance(wanted, Fact) else place.fill(wanted, files)
    # It becomes part of the environment of a process.
    return text if text and len(text) <= 120 and text.isascii() and text.isprintable() else None


def _limits(profile: Profile, place: Place, facts: Mapping[str, str], files: FileReads) -> Limits:
    found: dict[str, float] = {}
    for name, number in profile.edges.numbers.items():
        value = _value(number, place, facts, files, LIMITS[name])
        if value is not None and value > 0:
            found[name] = value
    own_temperature = any(metric.name == "temperature_c" for metric in profile.metrics)
    for metric in profile.metrics:
        name = LIMIT_OF.get(metric.name, "")
        if metric.limit is None or name in found or (metric.name == "hotspot_temperature_c" and own_temperature):
            continue
        if (value := _edge(metric, place, facts, files)) is not None:
            found[name] = value
    return Limits(**found)  # type: ignore[arg-type]  # the names of both tables are those of its fields of numbers


def _edge(metric: Metric, place: Place, facts: Mapping[str, str], files: FileReads) -> float | None:
    assert metric.limit is not None
    reading = Edge(metric, metric.limit).read(place, files, facts)
    return reading if is_present(reading) and reading > 0 else None


def _value(
    number: Number | None, place: Place, facts: Mapping[str, str], files: FileReads, dimension: Dimension
) -> float | None:
    if number is None:
        return None
    reading = aimed(number, place, files, facts).read(files)
    low, high = BOUNDS[dimension]
    return reading if is_present(reading) and low <= reading <= high else None
