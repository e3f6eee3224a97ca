"""The rows of a decoding step: which sequence each belongs to, and what a step moves on by itself on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hwdash.engine.worker.decoder import Sampling
from hwdash.engine.worker.draw import SEEDS, Draw, drawn, likeliest, picked

NOBODY = -2
"""Stands in the tokens of a step for rows that made none."""


@dataclass(slots=True, eq=False)
class Member:
    """A sequence: ``length`` tokens lie from place ``start`` on, in ``room`` places; ``left`` may still be made.

    ``first`` is its first token, on the device, as long as it has no row.
    """

    number: int
    prompt: list[int]
    left: int
    sampling: Sampling
    start: int
    room: int
    length: int = 0
    first: torch.Tensor | None = None


class RowState:
    """The rows of a step, on the device; ``left`` counts the tokens that a row may still make, ``made`` is its last."""

    def __init__(self, rows: int, device: torch.device, ends: frozenset[int]) -> None:
        def zeros(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        self.tokens = zeros(torch.int64)
        self.positions = zeros(torch.int64)
        self.starts = zeros(torch.int32)
        self.left = zeros(torch.int64)
        self.made = zeros(torch.int64)
        self._temperature = zeros(torch.float32)
        self._top_p = zeros(torch.float32)
        self._seed = zeros(torch.int64)
        self._endless = zeros(torch.bool)
        self._ends = torch.tensor(sorted(ends) or [NOBODY], device=device)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def mutable(self) -> tuple[torch.Tensor, ...]:
        """What `move_on` changes."""
        return self.tokens, self.positions, self.left, self.made

    def place(self, members: Sequence[Member], before: Sequence[Member], nowhere: int) -> None:
        """Give each of *members* a row; the tokens of those *before*, in their rows, are moved where they belong.

        Rows of nobody write to place *nowhere*. An error leaves all rows as they were.
        """
        device, empty = self.tokens.device, len(self) - len(members)
        known = {id(member): row for row, member in enumerate(before)}
        how = [member.sampling for member in members]
        whole = [
            [*(known.get(id(member), 0) for member in members), *([0] * empty)],
            [*(member.length for member in members), *([0] * empty)],
            [*(member.start for member in members), *([nowhere] * empty)],
            [*(member.left for member in members), *([0] * empty)],
            [*(sampling.seed % SEEDS for sampling in how), *([0] * empty)],
            [*(int(sampling.endless) for sampling in how), *([0] * empty)],
        ]
        real = [
            [*(sampling.temperature for sampling in how), *([0.0] * empty)],
            [*(sampling.top_p for sampling in how), *([1.0] * empty)],
        ]
        sources, *numbers = torch.tensor(whole, dtype=torch.int64).to(device, non_blocking=True)
        shares = torch.tensor(real, dtype=torch.float32).to(device, non_blocking=True)
        tokens = self.tokens[sources]
        for row, member in enumerate(members):
            if member.first is not None:
                # A damaged one has no embedding; nobody wants what comes after it.
                tokens[row : row + 1] = member.first.clamp(min=0)
        self.tokens.copy_(tokens)
        targets = (self.positions, self.starts, self.left, self._seed, self._endless, self._temperature, self._top_p)
        for target, source in zip(targets, (*numbers, *shares), strict=True):
            target.copy_(source)
        for member in members:
            member.first = None

    def pick(self, logits: torch.Tensor, count: int, *, drawing: bool) -> torch.Tensor:
        """The next tokens of the first *count* rows."""
        if not drawing:
            return likeliest(logits)
        how = Draw(self._temperature[:count], self._top_p[:count], self._seed[:count])
        return drawn(logits, how, self.positions[:count] + 1)

    def move_on(self, fresh: torch.Tensor) -> None:
        """The first rows got the tokens *fresh*: note them in ``made``, and be ready for the next step."""
        count = len(fresh)
        tokens, positions, left = self.tokens[:count], self.positions[:count], self.left[:count]
        alive = left > 0
        self.made[:count].copy_(torch.where(alive, fresh, NOBODY))
        over = (torch.isin(fresh, self._ends) & ~self._endless[:count]) | (fresh < 0)
        tokens.copy_(torch.where(alive & ~over, fresh, tokens))
        positions.add_(alive.to(positions.dtype))
        left.copy_(torch.where(over, 0, (left - 1).clamp(min=0)))


def first_token(logits: torch.Tensor, member: Member, position: int) -> torch.Tensor:
    """The first token of *member*, at *position*, from the *logits* ``[1, vocabulary]`` after its prompt."""
    return picked(logits, [member.sampling], [position])
