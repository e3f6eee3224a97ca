"""Captured decoding without a device that captures: each launch runs its step. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hwdash.engine.worker.decoder import Sampling
from hwdash.engine.worker.extract import extract
from hwdash.engine.worker.graph import GraphDecoder


class _Step:
    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self.is_forgotten = False

    def replay(self) -> None:
        assert not self.is_forgotten
        with torch.inference_mode():
            self._step()


class _Now:
    def record(self) -> None:
        """It is now."""

    def synchronize(self) -> None:
        """It was."""


class Stepwise:
    """A `Capture` that captures nothing; it raises what is in ``failures`` first, one for each capture."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.captured = 0
        self._launches: list[_Step] = []

    def capture(self, step: Callable[[], None], changed: Sequence[torch.Tensor]) -> _Step:
        if self.failures:
            raise self.failures.pop(0)
        self.captured += 1
        self._launches.append(_Step(step))
        return self._launches[-1]

    def landing(self, rows: int) -> tuple[torch.Tensor, _Now]:
        return torch.empty(rows, dtype=torch.int64), _Now()

    def forget(self) -> None:
        """What was captured must not be launched again."""
        for launch in self._launches:
            launch.is_forgotten = True
        self._launches.clear()

    def wait(self) -> None:
        """There is nothing to wait for."""


class Bench:
    """A decoder of *model* over a `Stepwise` capture, and the tokens that came, by sequence."""

    def __init__(self, model: Any, *, places: int = 2048, ends: frozenset[int] = frozenset(), **more: Any) -> None:
        self.capture = Stepwise()
        self.network = more.pop("network", None) or extract(model)
        self.decoder = GraphDecoder(self.network, 4, ends, places, flash=False, capture=self.capture, **more)
        self.tokens: dict[int, list[int]] = {}

    def open(self, prompt: list[int], limit: int, sampling: Sampling | None = None) -> int:
        """A sequence that is read."""
        number = self.decoder.open(prompt, limit, sampling or Sampling())
        self.tokens[number] = []
        while not self.decoder.read(number):
            pass
        return number

    def advance(self, steps: int = 1) -> None:
        """So many calls."""
        for _ in range(steps):
            for made in self.decoder.advance():
                self.tokens[made.number].append(made.token)
