"""Devices in order of preference, with reasons. Pure functions over a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.order import natural_key
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements, requirements_to_wire
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.routing.estimate import Case, draw_w
from hwdash.routing.knowledge import NOTHING_KNOWN, Knowledge
from hwdash.routing.requirement import unmet_in
from hwdash.routing.score import Scale
from hwdash.routing.trait import trait_of
from hwdash.routing.words import why


def rank(
    snapshot: Snapshot,
    requirements: Requirements = NO_REQUIREMENTS,
    knowledge: Knowledge = NOTHING_KNOWN,
    explained: int | None = None,
) -> Ranking:
    """The devices of *snapshot* that meet *requirements*, best first, and the others, each with the reasons.

    The order depends on nothing but the arguments: score, under a preference for low power what a device may draw,
    custom chips before GPUs before CPUs, the id. No device has an influence on another's score. Where *explained* is
    given, only so many of the first have parts, words and an expectation; the others have their score alone.
    """
    case = Case(requirements, knowledge)
    entries, excluded = order(snapshot, case)
    count = len(entries) if explained is None else explained
    ranked = [explain(case, entry) for entry in entries[:count]]
    ranked += [RankedDevice(entry.status.device.id, entry.score, {}, ()) for entry in entries[count:]]
    return Ranking(requirements.policy.value, requirements_to_wire(requirements), tuple(ranked), excluded)


@dataclass(slots=True)
class Entry:
    """A suitable device with its score and what that is made of."""

    status: DeviceStatus
    score: float
    parts: dict[str, float]


def order(snapshot: Snapshot, case: Case) -> tuple[list[Entry], tuple[ExcludedDevice, ...]]:
    """The suitable devices, best first, without words, and the excluded ones with theirs."""
    scale = Scale(case)
    of = case.knowledge.of
    low_power = case.requirements.prefer_low_power
    keyed: list[tuple[float, float, tuple[int, object], Entry]] = []
    excluded: list[ExcludedDevice] = []
    for status in snapshot.devices:
        device = status.device
        trait = trait_of(device)
        circumstance = of(device.key)
        if reasons := unmet_in(case, status, trait, circumstance):
            excluded.append(ExcludedDevice(device.id, reasons))
            continue
        parts = scale.parts(status, trait, circumstance)
        score = scale.score(parts)
        draw = draw_w(status) if low_power else 0.0
        keyed.append((-score, float("inf") if draw is None else draw, trait.place, Entry(status, score, parts)))
    keyed.sort(key=lambda item: item[:3])
    excluded.sort(key=lambda item: natural_key(item.device))
    return [item[3] for item in keyed], tuple(excluded)


def explain(case: Case, entry: Entry) -> RankedDevice:
    """*entry* with its parts, its words and what to expect of it."""
    expected = case.expect(entry.status)
    return RankedDevice(
        entry.status.device.id,
        entry.score,
        {name: round(part, 3) for name, part in entry.parts.items()},
        why(case, entry.status, expected),
        expected,
    )
