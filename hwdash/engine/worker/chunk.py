"""How many tokens of a prompt are read at once: so few that nobody who waits meanwhile waits long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

_LEAST, _MOST = 16, 128
"""Bounds on a CPU. Fewer tokens cost about as much as reading the weights does, more are no faster each."""
_AIM_S = 0.25
_ACCELERATOR = 2048


class Chunk:
    """The ``size`` of the next chunk. On a CPU it begins small and comes from how long the last one took.

    A large model takes seconds for what a small one does at once, and meanwhile no answer goes on and none can be
    cancelled. With *fixed* it is that one, as processes need it that compute the same chunks together.
    """

    def __init__(self, device: str, fixed: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_fixed = fixed is not None or device != "cpu"
        self.size = fixed or (_LEAST if device == "cpu" else _ACCELERATOR)
        self._clock = clock

    @contextlib.contextmanager
    def measured(self, tokens: int) -> Iterator[None]:
        """A chunk of so many *tokens* is computed in this block."""
        began = self._clock()
        yield
        # The last chunk of a prompt may be so short that a token of it costs far more than one of others.
        if not self._is_fixed and tokens >= _LEAST:
            each_s = max(self._clock() - began, 1e-9) / tokens
            self.size = max(_LEAST, min(_MOST, int(_AIM_S / each_s)) // _LEAST * _LEAST)
