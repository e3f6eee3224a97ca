"""The gate before one device: so many requests at once, the others in order of arrival, and no more than a few of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from hwdash.core.clock import Clock
from hwdash.core.errors import Overloaded
from hwdash.core.format import duration_text
from hwdash.routing.pace import Average

LOOK_S = 1.0
"""How often a waiting request looks whether its place has changed."""


class Gate:
    """Lets at most ``limit`` requests pass at once; at most *max_queue* others wait.

    ``slots`` is what the limit would be were it not lowered, ``why`` what lowered it. Belongs to one event loop.
    """

    def __init__(self, device: str, max_queue: int, slots: int, clock: Clock) -> None:
        self.device = device
        self.slots = slots
        self.limit = slots
        self.why = ""
        self.running = 0
        self._max_queue = max_queue
        self._clock = clock
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._answer_s: Average | None = None
        self._numbered = True

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """The next request would be refused."""
        return len(self._waiting) >= self._max_queue and self.running >= self.limit

    @property
    def retry_after_s(self) -> float:
        """After how many seconds the queue will be gone, by how long the last answers took; at least 1."""
        answer_s = 1.0 if self._answer_s is None else self._answer_s.value
        return max(1.0, len(self._waiting) * answer_s / self.limit)

    def adjust(self, limit: int, why: str) -> None:
        """Let *limit* requests pass at once from now on, because of *why*. Those that run are not disturbed."""
        self.limit, self.why = max(1, limit), why
        self._admit()

    def enter(self) -> Place:
        """A place for one more request, which must `Place.leave` it. Raises `Overloaded` when too many wait already."""
        if self.full:
            raise self.refusal()
        place = Place(self)
        self._waiting[place] = None
        self._numbered = False
        self._admit()
        return place

    def refusal(self) -> Overloaded:
        """The error of a request that is one too many."""
        wait_s = self.retry_after_s
        return Overloaded(
            f"{self.device}: {len(self._waiting)} requests wait already, and no more are taken; "
            f"try again in about {duration_text(wait_s)}, or raise engine.max_queue",
            retry_after_s=wait_s,
        )

    def before(self, place: Place) -> int:
        """How many requests come before a waiting *place*, those that run included."""
        if not self._numbered:
            self._numbered = True
            for number, other in enumerate(self._waiting):
                other.number = number
        return place.number + self.running

    def leave(self, place: Place) -> None:
        """The request of *place* has ended or does not want to wait any more."""
        if place in self._waiting:
            del self._waiting[place]
            self._numbered = False
        elif place.since_s is not None:
            self.running -= 1
            ran_s, place.since_s = self._clock.monotonic() - place.since_s, None
            self._answer_s = Average(ran_s) if self._answer_s is None else self._answer_s.after(ran_s)
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self.running < self.limit:
            place, _ = self._waiting.popitem(last=False)
            self._numbered = False
            self.running += 1
            place.since_s = self._clock.monotonic()
            place.turn.set_result(None)


class Place:
    """One request at a *gate*. ``since_s`` is when it was let through, None before and after; ``number`` its place."""

    def __init__(self, gate: Gate) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since_s: float | None = None
        self.number = 0
        self._gate = gate

    @property
    def admitted(self) -> bool:
        """It was let through."""
        return self.turn.done()

    @property
    def words(self) -> str:
        """What a waiting request waits for."""
        before = self._gate.before(self)
        count = f"{before} {'request' if before == 1 else 'requests'} before this one"
        return f"{count}; {self._gate.why}" if self._gate.why else count

    async def moved(self, told: str) -> None:
        """Return when the request is let through, or when its `words` are no longer those that were *told*."""
        while not self.admitted and self.words == told:
            await asyncio.wait({self.turn}, timeout=LOOK_S)

    def leave(self) -> None:
        """Give the place to the next one. May be called again."""
        self._gate.leave(self)
