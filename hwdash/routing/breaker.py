"""What keeps requests away from a device that fails again and again, and lets one through to try. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hwdash.core.status import BreakerState

FAILURES = 3
"""So many failures in a row open a breaker."""
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The failures in a row of one device. All times are seconds of the monotonic clock.

    Closed, it lets everything through. `FAILURES` in a row open it for `FIRST_PAUSE_S`; then it is half open and lets
    one request through to try. A failure opens it again for twice as long, `LONGEST_PAUSE_S` at most; a success
    closes it. ``opens_s`` is when the next try may be, None while it is closed; ``trying`` that it is under way.
    """

    failures: int = 0
    last: str = ""
    opens_s: float | None = None
    pause_s: float = 0.0
    trying: bool = False

    def failed(self, at_s: float, words: str) -> Breaker:
        """The breaker after a request failed at *at_s*, by *words*."""
        failures = self.failures + 1
        if self.state(at_s) is BreakerState.OPEN or failures < FAILURES:
            return replace(self, failures=failures, last=words)
        pause_s = min(self.pause_s * 2.0, LONGEST_PAUSE_S) if self.pause_s else FIRST_PAUSE_S
        return Breaker(failures, words, at_s + pause_s, pause_s)

    def succeeded(self) -> Breaker:
        """The breaker after a request was answered: closed, and nothing held against the device."""
        return CLOSED

    def tried(self, at_s: float) -> Breaker:
        """The breaker once a request was let through at *at_s*: half open, no other is until that one ends."""
        return replace(self, trying=True) if self.state(at_s) is BreakerState.HALF_OPEN else self

    def abandoned(self) -> Breaker:
        """The breaker after a request ended that says nothing about the device (it was cancelled): the next may try."""
        return replace(self, trying=False) if self.trying else self

    def state(self, at_s: float) -> BreakerState:
        """Where the breaker is at *at_s*."""
        if self.opens_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if at_s < self.opens_s else BreakerState.HALF_OPEN

    def admits(self, at_s: float) -> bool:
        """A request may go to the device at *at_s*."""
        state = self.state(at_s)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self.trying)

    def words(self, at_s: float) -> str:
        """What it holds against the device and when it will be tried again; empty while it is closed."""
        state = self.state(at_s)
        if self.opens_s is None or state is BreakerState.CLOSED:
            return ""
        if state is BreakerState.OPEN:
            following = f"next try in {math.ceil(self.opens_s - at_s)} s"
        else:
            following = "one request is trying it now" if self.trying else "the next request tries it"
        return f"{self.failures} failures in a row, last: {self.last}; {following}"


CLOSED = Breaker()
