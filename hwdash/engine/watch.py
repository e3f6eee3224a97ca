"""A look at whether a worker still answers while somebody needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LONGEST_LOOK_S = 5.0
_LOOKS = 4


class Watch:
    """While it runs it calls *ask* again and again, and *hung* once when nothing was heard for *patience_s* after that.

    What counts is the time since a question that got no answer, never that since the last word: a daemon that was
    stopped itself, and has not listened, does not blame the worker.
    """

    def __init__(self, ask: Callable[[], None], hung: Callable[[], None], patience_s: float) -> None:
        self._ask = ask
        self._hung = hung
        self._patience_s = patience_s
        self._look_s = min(_LONGEST_LOOK_S, patience_s / _LOOKS)
        self._asked_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Somebody needs the worker: ask now, and go on asking."""
        if self._timer is None:
            self._look()

    def stop(self) -> None:
        """Nobody needs it any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._asked_at = None

    def heard(self) -> None:
        """The worker said something, whatever it was."""
        self._asked_at = None

    def _look(self) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._ask()
        left_s = self._asked_at + self._patience_s - now
        if left_s <= 0:
            self.stop()
            self._hung()
            return
        self._timer = asyncio.get_running_loop().call_later(min(self._look_s, left_s), self._look)
