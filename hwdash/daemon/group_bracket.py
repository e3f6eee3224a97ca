"""What a request did to all devices of a group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hwdash.core.inference import Conditions, Energy
from hwdash.core.throttle import ThrottleReason
from hwdash.daemon.bracket import SHARED, Bracket

SCOPE = "devices"
"""`Energy.scope` of what all devices of a group took."""


class GroupBracket:
    """*brackets* of all devices as one `hwdash.daemon.bracket.Bracket`."""

    def __init__(self, brackets: Sequence[Bracket]) -> None:
        self._brackets = brackets

    def open(self) -> None:
        """Begin at this moment (again, when called again)."""
        for bracket in self._brackets:
            bracket.open()

    def run(self) -> None:
        """The devices work on the request from now on."""
        for bracket in self._brackets:
            bracket.run()

    def decode(self) -> None:
        """The first token is there: from now on the clocks count."""
        for bracket in self._brackets:
            bracket.decode()

    async def close(
        self, tokens: int, share: float | None = None, *, told: bool = True
    ) -> tuple[Energy | None, Conditions]:
        """The energy of all devices together, None where that of one is not known, and the worst conditions."""
        closed = await asyncio.gather(*(bracket.close(tokens, share, told=told) for bracket in self._brackets))
        return _sum([energy for energy, _ in closed], tokens), _worst([conditions for _, conditions in closed])

    def abandon(self) -> None:
        """End without a figure."""
        for bracket in self._brackets:
            bracket.abandon()


def _sum(energies: Sequence[Energy | None], tokens: int) -> Energy | None:
    known = [energy for energy in energies if energy is not None]
    if len(known) < len(energies):
        return None
    joules = sum(energy.joules for energy in known)
    wholes = [energy.joules / energy.share for energy in known if energy.share]
    told = len(wholes) == len(known)
    idles = [energy.idle_joules for energy in known if energy.idle_joules is not None]
    return Energy(
        joules,
        SCOPE if told else SCOPE + SHARED,
        joules / tokens if tokens else None,
        joules / sum(wholes) if told else None,
        sum(idles) if len(idles) == len(known) else None,
    )


def _worst(each: Sequence[Conditions]) -> Conditions:
    seen = {reason for conditions in each for reason in conditions.throttle}
    hottest = [item.temperature_max_c for item in each if item.temperature_max_c is not None]
    slowest = [item.clock_min_hz for item in each if item.clock_min_hz is not None]
    return Conditions(
        tuple(reason.value for reason in ThrottleReason if reason.value in seen),
        max(hottest, default=None),
        min(slowest, default=None),
    )
