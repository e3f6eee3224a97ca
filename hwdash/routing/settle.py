"""An order that does not change every second. Pure."""

from __future__ import annotations

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
    known = [item.device for item in before.ranked if item.device in devices]
    known_names = frozenset(known)
    order = [*known, *(name for name in devices if name not in known_names)]
    for place, name in enumerate(order):
        lead = LEAD if name in known_names else 0.0
        while place and devices[name].score > devices[order[place - 1]].score + lead:
            order[place] = order[place - 1]
            place -= 1
        order[place] = name
    return replace(ranking, ranked=tuple(devices[name] for name in order))
