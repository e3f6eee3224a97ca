"""A device's energy counter over time, so that it can be asked for any stretch of it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING

from hwdash.core.errors import UnknownDevice
from hwdash.core.reading import present

if TYPE_CHECKING:
    from hwdash.daemon.bracket import Refresher

_EVERY_S = 0.2
_PATIENCE_S = 0.5
_MOST_GAP_S = 1.0
"""A stretch whose beginning or end lies further than this from the next reading has no figure."""


class EnergyTrace:
    """Reads the counter of the device *key* a few times a second, from `start` to `stop`.

    NVML's counter moves about every 0.1 s and is read afresh by a refresh only; what lies between two readings is
    taken in proportion.
    """

    def __init__(self, monitor: Refresher, key: str) -> None:
        self._monitor = monitor
        self._key = key
        self._times_s: list[float] = []
        self._joules: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read now, and from now on. May be called again."""
        if self._task is None:
            await self.read()
            self._task = asyncio.create_task(self._follow())

    def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def read(self) -> bool:
        """One reading now; False where there was none."""
        try:
            sample = await self._monitor.refresh(self._key, _PATIENCE_S)
        except UnknownDevice:
            return False
        joules = None if sample is None else present(sample.readings.get("energy_j"))
        if sample is None or joules is None:
            return False
        self.note(sample.monotonic_s, joules)
        return True

    def note(self, at_s: float, joules: float) -> None:
        """The counter stood at *joules* at *at_s* of the monotonic clock. A counter that fell back begins anew."""
        if self._times_s and at_s <= self._times_s[-1]:
            return
        if self._joules and joules < self._joules[-1]:
            self._times_s.clear()
            self._joules.clear()
        self._times_s.append(at_s)
        self._joules.append(joules)

    def joules(self, from_s: float, to_s: float) -> float | None:
        """Joules from *from_s* to *to_s* of the monotonic clock; None where the readings do not cover that, or show none."""
        begin, end = self._at(from_s), self._at(to_s)
        if begin is None or end is None or end <= begin:
            return None
        return end - begin

    def watts(self) -> float | None:
        """The mean power over all readings; None where there are not two, or the counter did not move."""
        if len(self._times_s) < 2 or self._joules[-1] <= self._joules[0]:
            return None
        return (self._joules[-1] - self._joules[0]) / (self._times_s[-1] - self._times_s[0])

    def _at(self, at_s: float) -> float | None:
        after = bisect_left(self._times_s, at_s)
        if after < len(self._times_s) and self._times_s[after] == at_s:
            return self._joules[after]
        if after == 0 or after == len(self._times_s):
            return None
        before_s, after_s = self._times_s[after - 1], self._times_s[after]
        if min(at_s - before_s, after_s - at_s) > _MOST_GAP_S:
            return None
        share = (at_s - before_s) / (after_s - before_s)
        return self._joules[after - 1] + share * (self._joules[after] - self._joules[after - 1])

    async def _follow(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(_EVERY_S)
