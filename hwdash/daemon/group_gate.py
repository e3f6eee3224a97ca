"""The gates before all devices of a group: who wants the group has his turn at each of them.

Turns are taken in one order, by the devices' keys, and all are kept until the end: of two groups that share devices,
each waits for the other only where the other can go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

from hwdash.core.errors import Overloaded
from hwdash.daemon.gate import LOOK_S, Gate, Line, Place


class GroupGate:
    """*gates* as one, in the order in which turns are taken."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates

    @property
    def running(self) -> int:
        """How many requests run on the device that has the most."""
        return max(gate.running for gate in self._gates)

    @property
    def waiting(self) -> int:
        """How many requests wait for the device for which the most wait."""
        return max(gate.waiting for gate in self._gates)

    @property
    def held(self) -> str:
        """Why one of the devices is somebody's alone; empty when none is."""
        return next((gate.held for gate in self._gates if gate.held), "")

    @property
    def barred(self) -> str:
        """As `held`, but empty for holds that give way."""
        return next((gate.barred for gate in self._gates if gate.barred), "")

    @asynccontextmanager
    async def hold(
        self, why: str, lasts_s: float | None = None, on_wanted: Callable[[], None] | None = None
    ) -> AsyncGenerator[None, None]:
        """All the devices alone, as `hwdash.daemon.gate.Gate.hold` gives one. Raises `Overloaded` as that does."""
        async with AsyncExitStack() as stack:
            for gate in self._gates:
                await stack.enter_async_context(gate.hold(why, lasts_s, on_wanted))
            yield

    def try_hold(self, why: str, on_wanted: Callable[[], None], lasts_s: float | None = None) -> ExitStack | None:
        """All the devices alone if nobody is at any of them: a context to be entered at once; else None."""
        stack = ExitStack()
        for gate in self._gates:
            if (hold := gate.try_hold(why, on_wanted, lasts_s)) is None:
                stack.close()
                return None
            stack.push(hold)
        return stack


class GroupLine:
    """The requests for one model on a group: *lines* are theirs before each of its devices."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self.gate = GroupGate([line.gate for line in lines])

    @property
    def full(self) -> bool:
        """The next request would be refused."""
        return any(line.full for line in self._lines)

    @property
    def load(self) -> tuple[int, int, int, str]:
        """As `hwdash.daemon.gate.Line.load`, before the device that holds the next request up the longest."""
        return max((line.load for line in self._lines), key=lambda load: load[0] + load[1] - load[2])

    def enter(self) -> GroupPlace:
        """A place for one more request, which must leave it. Raises `Overloaded` when too many wait already."""
        if self.full:
            raise self.refusal()
        return GroupPlace(self._lines)

    def refusal(self) -> Overloaded:
        """The error of a request that is one too many."""
        return max((line.refusal() for line in self._lines if line.full), key=lambda error: error.retry_after_s)


class GroupPlace:
    """One request in *lines*: it waits in one after the other, and keeps the places that it has."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._places: list[Place] = []
        self._advance()

    @property
    def admitted(self) -> bool:
        """It was let through everywhere."""
        self._advance()
        return len(self._places) == len(self._lines) and self._places[-1].admitted

    @property
    def words(self) -> str:
        """What it waits for, and before which of the devices."""
        return f"{self._lines[len(self._places) - 1].gate.device}: {self._places[-1].words}"

    async def moved(self, told: str) -> None:
        """Return when the request is let through, or when its `words` are no longer those that were *told*."""
        while not self.admitted and self.words == told:
            await asyncio.wait({self._places[-1].turn}, timeout=LOOK_S)

    def leave(self) -> None:
        """Give all places to the next ones. May be called again."""
        for place in self._places:
            place.leave()

    def _advance(self) -> None:
        while len(self._places) < len(self._lines) and (not self._places or self._places[-1].admitted):
            line = self._lines[len(self._places)]
            # It was taken in once for all of them: it is not sent away half-way.
            place = Place(line)
            line.gate.join(place)
            self._places.append(place)
