"""The gate before one device: so many requests at once, the others in order of arrival, and no more than a few of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from hwdash.core.clock import Clock
from hwdash.core.errors import Overloaded
from hwdash.core.format import duration_text
from hwdash.daemon.hold import Hold
from hwdash.routing.pace import Average

LOOK_S = 1.0
"""How often a waiting request looks whether its place has changed."""


class Gate:
    """Lets at most ``limit`` requests pass at once, and of each of its lines as many as that allows; others wait.

    At most *max_queue* wait. ``slots`` is what the limit would be were it not lowered, ``why`` what lowered it.
    One `hold` at a time keeps all of them away. Belongs to one event loop.
    """

    def __init__(self, device: str, max_queue: int, slots: int, clock: Clock) -> None:
        self.device = device
        self.slots = slots
        self.limit = slots
        self.why = ""
        self.running = 0
        self.max_queue = max_queue
        self._clock = clock
        self._lines: dict[str, Line] = {}
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._answer_s: Average | None = None
        self._numbered = True
        self._holder: Hold | None = None
        self._comer: Hold | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def answer_s(self) -> float:
        """How long the last answers took."""
        return 1.0 if self._answer_s is None else self._answer_s.value

    @property
    def held(self) -> str:
        """Why the device is somebody's alone now, or will be next; empty when it is not.

        A hold that gives way is named as long as it is there, too.
        """
        hold = self._comer or self._holder
        return "" if hold is None else hold.why

    @property
    def barred(self) -> str:
        """As `held`, but empty for a hold that gives way: who comes now does not wait for that."""
        hold = self._comer or self._holder
        return "" if hold is None or hold.gives_way else hold.why

    @property
    def held_s(self) -> float:
        """For how many more seconds the device will be held, as far as the holders told; 0 where they did not."""
        now_s = self._clock.monotonic()
        return sum(hold.left_s(now_s) for hold in (self._holder, self._comer) if hold is not None)

    @asynccontextmanager
    async def hold(
        self, why: str, lasts_s: float | None = None, on_wanted: Callable[[], None] | None = None
    ) -> AsyncGenerator[Hold, None]:
        """The device alone, from when those that came before are done until the end of the block.

        Requests that come meanwhile wait and are told *why*, as "a bench is running"; it will take *lasts_s* about.
        Whoever gives *on_wanted* gives way: it is called whenever a request, or another hold, has to wait for this one.
        Raises `Overloaded` where another hold that does not give way is there, or any waits.
        """
        with self._come(why, lasts_s, on_wanted) as hold:
            # Waiting for the future itself would cancel it along with the task.
            await asyncio.wait({hold.turn})
            yield hold

    def try_hold(self, why: str, on_wanted: Callable[[], None], lasts_s: float | None = None) -> Hold | None:
        """The device alone if nobody runs, waits or holds: a context to be entered at once; else None.

        *on_wanted* is called whenever somebody comes that has to wait for it: the holder should go then.
        """
        if self.running or self._waiting or self._holder or self._comer:
            return None
        return self._come(why, lasts_s, on_wanted)

    def _come(self, why: str, lasts_s: float | None, on_wanted: Callable[[], None] | None) -> Hold:
        if (other := self._comer or self._holder) is not None and (other is self._comer or not other.gives_way):
            raise Overloaded(
                f"{self.device}: {other.why} and has the device for itself; try again when it has ended",
                retry_after_s=max(1.0, self.held_s),
            )
        hold = self._comer = Hold(why, lasts_s, on_wanted, frozenset(self._waiting), self._release)
        if self._holder is not None:
            self._holder.wanted()
        self._admit()
        return hold

    def _release(self, hold: Hold) -> None:
        if hold is self._comer:
            self._comer = None
        elif hold is self._holder:
            self._holder = None
        self._admit()

    def line(self, name: str, slots: int) -> Line:
        """The line of that *name* for requests of which *slots* may pass at once."""
        line = self._lines.get(name) or Line(self, name, slots)
        line.slots = max(1, slots)
        return line

    def adjust(self, limit: int, why: str) -> None:
        """Let *limit* requests pass at once from now on, because of *why*. Those that run are not disturbed."""
        self.limit, self.why = max(1, limit), why
        self._admit()

    def join(self, place: Place) -> None:
        """Let *place* wait, or pass at once."""
        self._waiting[place] = None
        place.line = self._lines.setdefault(place.line.name, place.line)
        place.line.waiting += 1
        self._numbered = False
        self._admit()
        if not place.admitted:
            for hold in (self._holder, self._comer):
                if hold is not None:
                    hold.wanted()

    def number(self) -> None:
        """Give every waiting place its numbers, where they may have changed."""
        if self._numbered:
            return
        self._numbered = True
        before: dict[Line, int] = {}
        for number, place in enumerate(self._waiting):
            place.number = number
            place.line_number = before.get(place.line, 0)
            before[place.line] = place.line_number + 1

    def leave(self, place: Place) -> None:
        """The request of *place* has ended or does not want to wait any more."""
        if place in self._waiting:
            self._take(place)
            self._forget(place.line)
        elif place.since_s is not None:
            self.running -= 1
            place.line.running -= 1
            ran_s, place.since_s = self._clock.monotonic() - place.since_s, None
            self._answer_s = Average(ran_s) if self._answer_s is None else self._answer_s.after(ran_s)
            self._forget(place.line)
            self._admit()

    def _forget(self, line: Line) -> None:
        if not line.running and not line.waiting:
            del self._lines[line.name]

    def _take(self, place: Place) -> None:
        del self._waiting[place]
        place.line.waiting -= 1
        self._numbered = False

    def _admit(self) -> None:
        while place := self._next():
            self._take(place)
            self.running += 1
            place.line.running += 1
            place.since_s = self._clock.monotonic()
            place.turn.set_result(None)
        comer = self._comer
        if comer is not None and not self.running and self._holder is None and comer.before.isdisjoint(self._waiting):
            self._comer, self._holder = None, comer
            comer.begin(self._clock.monotonic())

    def _next(self) -> Place | None:
        """The first place that may pass: the place of a full line holds nobody else up.

        While a hold waits, only those that came before it may.
        """
        if self._holder is not None:
            return None
        if self.running >= self.limit or not any(line.waiting and line.free for line in self._lines.values()):
            return None
        places = self._waiting if self._comer is None else filter(self._comer.before.__contains__, self._waiting)
        return next((place for place in places if place.line.free), None)


class Line:
    """The requests before a *gate* that one worker or server takes, at most ``slots`` of them at once.

    The gate knows it while there are any.
    """

    def __init__(self, gate: Gate, name: str, slots: int) -> None:
        self.gate = gate
        self.name = name
        self.slots = slots
        self.running = 0
        self.waiting = 0

    @property
    def free(self) -> bool:
        """Another request of this line may run, if the device takes one."""
        return self.running < self.slots

    @property
    def full(self) -> bool:
        """The next request would be refused."""
        gate = self.gate
        if gate.waiting < gate.max_queue:
            return False
        # Those that wait for a hold that gives way are as good as let through.
        ours, all_of_them = (self.waiting, gate.waiting) if gate.held else (0, 0)
        return bool(gate.barred) or self.running + ours >= self.slots or gate.running + all_of_them >= gate.limit

    @property
    def load(self) -> tuple[int, int, int, str]:
        """Requests that run and wait, how many may run at once and what lowered that: in the line, or on the device.

        Of the two, that which is fuller holds the next request up. None at once may run on a device that is held.
        """
        gate = self.gate
        if gate.barred:
            return gate.running, gate.waiting, 0, gate.barred
        limit = min(self.slots, gate.limit)
        if (gate.running + gate.waiting) * limit > (self.running + self.waiting) * gate.limit:
            return gate.running, gate.waiting, gate.limit, gate.why
        return self.running, self.waiting, limit, gate.why if limit == gate.limit else ""

    @property
    def retry_after_s(self) -> float:
        """After how many seconds the queue will be gone, by how long the last answers took; at least 1.

        What a hold of the device will last comes before that.
        """
        gate = self.gate
        turns = max(self.waiting / min(self.slots, gate.limit), gate.waiting / gate.limit)
        return max(1.0, gate.held_s + turns * gate.answer_s)

    def enter(self) -> Place:
        """A place for one more request, which must `Place.leave` it. Raises `Overloaded` when too many wait already."""
        if self.full:
            raise self.refusal()
        place = Place(self)
        self.gate.join(place)
        return place

    def refusal(self) -> Overloaded:
        """The error of a request that is one too many."""
        wait_s, held = self.retry_after_s, self.gate.barred
        return Overloaded(
            f"{self.gate.device}: {held + ', ' if held else ''}{self.gate.waiting} requests wait already, "
            "and no more are taken; "
            f"try again in about {duration_text(wait_s)}, or raise engine.max_queue",
            retry_after_s=wait_s,
        )


class Place:
    """One request in a *line*. ``since_s`` is when it was let through, None before and after.

    ``number`` is how many wait before it on the device, ``line_number`` how many of them in its line.
    """

    def __init__(self, line: Line) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since_s: float | None = None
        self.number = 0
        self.line_number = 0
        self.line = line

    @property
    def admitted(self) -> bool:
        """It was let through."""
        return self.turn.done()

    @property
    def words(self) -> str:
        """What a waiting request waits for: its own line, or the device, or who has that for itself."""
        line, gate = self.line, self.line.gate
        gate.number()
        if held := gate.held:
            before = self.number + gate.running
            count = f"{before} {'request' if before == 1 else 'requests'} before this one"
            return f"{held}; {count}" if before else held
        before, why = self.number + gate.running, gate.why
        if not line.free:
            before, why = self.line_number + line.running, why if line.slots >= gate.limit else ""
        count = f"{before} {'request' if before == 1 else 'requests'} before this one"
        return f"{count}; {why}" if why else count

    async def moved(self, told: str) -> None:
        """Return when the request is let through, or when its `words` are no longer those that were *told*."""
        while not self.admitted and self.words == told:
            await asyncio.wait({self.turn}, timeout=LOOK_S)

    def leave(self) -> None:
        """Give the place to the next one. May be called again."""
        self.line.gate.leave(self)
