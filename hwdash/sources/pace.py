"""When a value that moves slowly is asked for again."""

from __future__ import annotations


class Pace:
    """A rhythm of *period_s* seconds. *phase*, above 0 to 1, shifts it, so that many devices do not all ask in one tick.

    The first question is due at once, the second *phase* of a period later.
    """

    def __init__(self, period_s: float, phase: float = 1.0) -> None:
        self._period_s = period_s
        self._wait_s = period_s * phase
        self._next_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """True once per period of the monotonic clock: whoever gets True asks."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._wait_s
        self._wait_s = self._period_s
        return True

    def is_due(self, now_s: float) -> bool:
        """True when `due` would be."""
        return now_s >= self._next_s

    def hasten(self) -> None:
        """Have the next question due at once: something moved."""
        self._next_s = float("-inf")
