"""Log lines that repeat, kept from filling the log."""

from __future__ import annotations

import logging

from hwdash.core.clock import Clock

_AGAIN_AFTER_S = 600.0
_MOST = 256


class Complaints:
    """Warnings of which each is logged once, and again only when it still holds ten minutes later."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, message: str) -> None:
        """Log *message* as a warning, unless it was logged lately."""
        now = self._clock.monotonic()
        said = self._said.get(message)
        if said is not None and now - said < _AGAIN_AFTER_S:
            return
        if len(self._said) >= _MOST:  # words that differ each time: forget the oldest, and stay bounded
            del self._said[min(self._said, key=self._said.__getitem__)]
        self._said[message] = now
        self._log.warning("%s", message)
