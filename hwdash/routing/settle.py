"""An order that does not change every second. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hwdash.core.ranking import Ranking

LEAD = 0.05
"""A device overtakes another when its score is higher by more than this; being called throttled is always more."""


def settle(ranking: Ranking, before: Ranking | None) -> Ranking:
    """*ranking* with the order of *before* wherever the scores differ by `LEAD` or less.

    A device that was not ranked before takes its place by its score alone. Depends on nothing but the two rankings.
    """
    if before is None or before.policy != ranking.policy:
        return ranking
    devices = {item.device: item for item in ranking.ranked}
    order = settled({name: item.score for name, item in devices.items()}, before)
    return replace(ranking, ranked=tuple(devices[name] for name in order))


def settled(scores: Mapping[str, float], before: Ranking) -> list[str]:
    """The devices of *scores*, which has the best first, as `settle` puts them."""
    known = [item.device for item in before.ranked if item.device in scores]
    known_names = frozenset(known)
    order = [*known, *(name for name in scores if name not in known_names)]
    for place, name in enumerate(order):
        lead = LEAD if name in known_names else 0.0
        while place and scores[name] > scores[order[place - 1]] + lead:
            order[place] = order[place - 1]
            place -= 1
        order[place] = name
    return order
