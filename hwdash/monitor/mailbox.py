"""How the threads' answers reach the event loop, with as few wake-ups as can be."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

Letter = Callable[[], None]
"""What the loop does with an answer; it is called there."""


class Mailbox:
    """Letters from reader threads to the event loop.

    The loop is woken for an urgent letter, and for the last one that it waits for in the current cycle. All others
    lie until the next `deliver`: sixty-four answers cost one wake-up, and the late answer of a driver costs none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._letters: list[Letter] = []
        self._cycle = 0
        self._open = 0
        self._eager = 0

    def begin(self) -> None:
        """Open a new cycle. It counts as waited for itself, until `seal`."""
        with self._lock:
            self._cycle += 1
            self._open = 1

    def expect(self) -> int:
        """The ticket for one more letter that the current cycle waits for."""
        with self._lock:
            self._open += 1
            return self._cycle

    def seal(self) -> bool:
        """Everything that this cycle waits for was ordered. True when all of it is here already."""
        with self._lock:
            self._open -= 1
            return self._open == 0

    @contextmanager
    def eager(self) -> Iterator[None]:
        """While this lasts, every letter wakes the loop. What lay here before is delivered first."""
        self._eager += 1
        try:
            self.deliver()
            yield
        finally:
            self._eager -= 1

    def post(self, letter: Letter, ticket: int | None) -> None:
        """Leave *letter*, from any thread. Without a *ticket* it is urgent. A loop that was closed is left alone."""
        with self._lock:
            self._letters.append(letter)
            wake = ticket is None or self._eager > 0
            if ticket == self._cycle:
                self._open -= 1
                wake = wake or self._open == 0
        if wake:
            try:
                self._loop.call_soon_threadsafe(self.deliver)
            except RuntimeError:  # the loop was closed while a driver call hung: nobody is left to tell
                return

    def deliver(self) -> None:
        """Open all letters, in the order in which they came; one that raises is logged. Called on the loop."""
        with self._lock:
            letters, self._letters = self._letters, []
        for letter in letters:
            try:
                letter()
            except Exception:
                log.exception("the answer of a reader could not be taken in")


class Bell:
    """What one task sleeps by: until a time, or until somebody rings. A ring that nobody waits for is lost."""

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[bool] | None = None

    async def wait(self, until: float) -> bool:
        """Sleep until `ring` (True) or until the loop's clock shows *until* (False)."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[bool] = loop.create_future()
        self._sleeper = sleeper
        alarm = loop.call_at(until, self._end, False)
        try:
            return await sleeper
        finally:
            alarm.cancel()
            self._sleeper = None

    def ring(self) -> None:
        """Wake the sleeper, if there is one."""
        self._end(True)

    def _end(self, rung: bool) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(rung)
