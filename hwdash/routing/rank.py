"""Devices in order of preference, with reasons. Pure functions over a snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import TypeAlias

from hwdash.core.order import natural_key
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements, requirements_to_wire
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.routing.estimate import Case, draw_w
from hwdash.routing.field import Field
from hwdash.routing.knowledge import NOTHING_KNOWN, Knowledge
from hwdash.routing.requirement import unmet_among
from hwdash.routing.score import PARTS, Parts, weigh, weights_of
from hwdash.routing.spread import together
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
    ranked += [_bare(status.device.id, score) for score, _, status, _ in entries[count:]]
    wanted = requirements_to_wire(requirements)
    return Ranking(requirements.policy.value, wanted, tuple(ranked), excluded, weights_of(requirements))


@lru_cache(maxsize=8192)
def _bare(device: str, score: float) -> RankedDevice:
    # Scores move in thousandths and slowly: most devices have the one of the tick before.
    return RankedDevice(device, score, {}, ())


Entry: TypeAlias = tuple[float, str, DeviceStatus, Parts]
"""A suitable device as it is sorted: its score, its place among equals, its status and what the score is made of."""


def order(snapshot: Snapshot, case: Case) -> tuple[list[Entry], tuple[ExcludedDevice, ...]]:
    """The suitable devices, best first, without words, and the excluded ones with theirs."""
    field = Field(case, snapshot.devices)
    unmet = unmet_among(case, field)
    excluded = [ExcludedDevice(status.device.id, why) for status, why in zip(field.statuses, unmet, strict=True) if why]
    if excluded:
        offers = together(case, snapshot.devices)
        excluded = [_offering(item, offers) for item in excluded] if offers else excluded
        excluded.sort(key=lambda item: natural_key(item.device))
        field = Field(case, [status for status, why in zip(field.statuses, unmet, strict=True) if not why])
    scores, parts = weigh(case, field)
    places = [trait.place for trait in field.traits]
    entries = list(zip(scores, places, field.statuses, parts, strict=True))
    # Sorts are stable: the last one decides first, and one at a time compares plain strings and numbers.
    entries.sort(key=itemgetter(1))
    if case.requirements.prefer_low_power:
        entries.sort(key=lambda entry: math.inf if (watts := draw_w(entry[2])) is None else watts)
    entries.sort(key=itemgetter(0), reverse=True)
    return entries, tuple(excluded)


def _offering(item: ExcludedDevice, offers: Mapping[str, str]) -> ExcludedDevice:
    """*item*, with what the model fits where the device is one of several."""
    offer = offers.get(item.device)
    return item if offer is None else replace(item, why=(*item.why[:-1], f"{item.why[-1]}; {offer}"))


def explain(case: Case, entry: Entry) -> RankedDevice:
    """*entry* with its parts, its words and what to expect of it."""
    score, _place, status, parts = entry
    expected = case.expect(status)
    low_power = case.requirements.prefer_low_power
    named = {name: round(part, 3) for name, part in zip(PARTS, parts, strict=True) if low_power or name != "power"}
    return RankedDevice(status.device.id, score, named, why(case, status, expected), expected)
