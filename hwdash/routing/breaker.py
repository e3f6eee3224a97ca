"""What keeps requests away from where they fail again and again, and lets one through to try. Pure."""

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
    """Failures in a row. All times are seconds of the monotonic clock.

    Closed, it lets everything through. `FAILURES` in a row open it for `FIRST_PAUSE_S`; then it is half open and lets
    one attempt through to try. A failure opens it again for twice as long, `LONGEST_PAUSE_S` at most; a success
    closes it. ``failed_s`` is when the last failure was counted, ``opens_s`` when the next try may be, None while it
    is closed; ``trying`` is the number of the attempt that tries now, 0 while none does.
    """

    failures: int = 0
    last: str = ""
    failed_s: float = -math.inf
    opens_s: float | None = None
    pause_s: float = 0.0
    trying: int = 0

    def failed(self, at_s: float, words: str, began_s: float = math.inf) -> Breaker:
        """The breaker after an attempt that *began_s* failed at *at_s*, by *words*.

        An attempt that was under way when the last failure was counted met the same incident and does not count.
        """
        if began_s < self.failed_s:
            return self
        failures = self.failures + 1
        if self.state(at_s) is BreakerState.OPEN or failures < FAILURES:
            return replace(self, failures=failures, last=words, failed_s=at_s)
        pause_s = min(self.pause_s * 2.0, LONGEST_PAUSE_S) if self.pause_s else FIRST_PAUSE_S
        return Breaker(failures, words, at_s, at_s + pause_s, pause_s)

    def succeeded(self) -> Breaker:
        """The breaker after a request was answered: closed, and nothing held against anybody."""
        return CLOSED

    def tried(self, at_s: float, attempt: int) -> Breaker:
        """The breaker once the *attempt* of that number was let through at *at_s*.

        Half open, no other is until that one ends.
        """
        return replace(self, trying=attempt) if self.state(at_s) is BreakerState.HALF_OPEN and not self.trying else self

    def abandoned(self, attempt: int) -> Breaker:
        """The breaker after *attempt* ended without saying anything (it was cancelled): the next may try."""
        return replace(self, trying=0) if self.trying == attempt else self

    def state(self, at_s: float) -> BreakerState:
        """Where the breaker is at *at_s*."""
        if self.opens_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if at_s < self.opens_s else BreakerState.HALF_OPEN

    def admits(self, at_s: float) -> bool:
        """A request may go there at *at_s*."""
        state = self.state(at_s)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self.trying)

    def again_s(self, at_s: float) -> float:
        """Seconds from *at_s* until the next try may be; 0 where that is now."""
        return 0.0 if self.opens_s is None else max(0.0, self.opens_s - at_s)

    def words(self, at_s: float, counted: str = "failures") -> str:
        """What it holds against what was *counted*, and when the next try will be; empty while it is closed."""
        state = self.state(at_s)
        if self.opens_s is None or state is BreakerState.CLOSED:
            return ""
        if state is BreakerState.OPEN:
            following = f"next try in {math.ceil(self.opens_s - at_s)} s"
        else:
            following = "one request is trying it now" if self.trying else "the next request tries it"
        return f"{self.failures} {counted} in a row, last: {self.last}; {following}"


CLOSED = Breaker()
