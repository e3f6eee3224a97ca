"""From logits to the next tokens of several sequences at once, without asking the device anything meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hwdash.engine.worker.decoder import DAMAGED, Sampling

SEEDS = 2**62
"""Seeds are taken modulo this, so that they are whole numbers of 64 bits."""
_MASK = 2**63 - 1
_ODD = (0x1B03738712FAD5C9, 0x3C79AC492BA7B653)
"""Odd multipliers of a mixing function of the form of SplitMix64 (Steele, Lea, Flood 2014)."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How tokens of rows are drawn: one entry a row. Rows with temperature 0 get their likeliest token."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    seed: torch.Tensor


def picked(logits: torch.Tensor, how: Sequence[Sampling], positions: Sequence[int]) -> torch.Tensor:
    """A token for each row of *logits*, by its sampling; it will stand at the row's position in *positions*."""
    if all(one.temperature <= 0 for one in how):
        return likeliest(logits)
    device = logits.device
    draw = Draw(
        torch.tensor([one.temperature for one in how], dtype=torch.float32, device=device),
        torch.tensor([one.top_p for one in how], dtype=torch.float32, device=device),
        torch.tensor([one.seed % SEEDS for one in how], device=device),
    )
    return drawn(logits, draw, torch.tensor(positions, device=device))


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """The likeliest token of each row of *logits* ``[T, vocabulary]``, `DAMAGED` where they hold NaN or infinity."""
    best, tokens = logits.max(dim=-1)  # NaN and +inf win every comparison, so the maximum alone tells
    return torch.where(torch.isfinite(best), tokens, DAMAGED)


def drawn(logits: torch.Tensor, how: Draw, positions: torch.Tensor) -> torch.Tensor:
    """A token for each row: drawn by *how* from the smallest set of likeliest tokens whose probabilities make up top-p.

    The number that decides comes from seed and position alone, so that the same seed gives the same tokens, whoever
    else is in the batch.
    """
    tokens = likeliest(logits)
    cold = how.temperature <= 0
    scaled = logits.float() / torch.where(cold, 1.0, how.temperature)[:, None]
    shares, order = scaled.softmax(dim=-1).sort(dim=-1, descending=True)
    ends = shares.cumsum(dim=-1)
    inside = (ends - shares) < how.top_p[:, None]
    inside[:, 0] = True
    total = torch.where(inside, shares, 0.0).sum(dim=-1, keepdim=True)
    mark = uniform(how.seed, positions)[:, None] * total
    count = ((ends <= mark) & inside).sum(dim=-1, keepdim=True)
    last = inside.sum(dim=-1, keepdim=True) - 1
    picked = order.gather(-1, torch.minimum(count, last)).squeeze(-1)
    return torch.where(cold | (tokens == DAMAGED), tokens, picked)


def uniform(seed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A number in [0, 1) for each pair of seed and position (both ``[T]``, int64), as float32."""
    mixed = seed * _ODD[0] + positions * _ODD[1] + _ODD[0]
    for factor, shift in ((_ODD[0], 30), (_ODD[1], 27), (_ODD[0], 31)):
        mixed = (mixed ^ ((mixed & _MASK) >> shift)) * factor
    return ((mixed & _MASK) >> 39).to(torch.float32) / 2.0**24
