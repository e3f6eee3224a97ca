"""From logits to the next tokens of several sequences at once, without asking the device anything meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hwdash.engine.worker.decoder import DAMAGED, Sampling

SEEDS = 2**62
"""Seeds are taken modulo this, so that they are whole numbers of 64 bits."""
COLD = 1e-5
"""Below this temperature the likeliest token is taken: the next one would have to be within a ten-thousandth of it."""
_FEW = (256, 4096)
"""So many of the likeliest tokens are tried before a whole vocabulary is sorted, which takes a CPU up to 68 ms."""
_MASK = 2**63 - 1
_ODD = (0x1B03738712FAD5C9, 0x3C79AC492BA7B653)
"""Odd multipliers of a mixing function of the form of SplitMix64 (Steele, Lea, Flood 2014)."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How tokens of rows are drawn: one entry a row. Rows below `COLD` get their likeliest token."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    seed: torch.Tensor


def picked(logits: torch.Tensor, how: Sequence[Sampling], positions: Sequence[int]) -> torch.Tensor:
    """A token for each row of *logits*, by its sampling; it will stand at the row's position in *positions*.

    The same tokens as by `drawn`. Off GPUs the device is asked how few of the likeliest tokens decide.
    """
    if all(one.temperature < COLD for one in how):
        return likeliest(logits)
    device = logits.device
    draw = Draw(
        torch.tensor([one.temperature for one in how], dtype=torch.float32, device=device),
        torch.tensor([one.top_p for one in how], dtype=torch.float32, device=device),
        torch.tensor([one.seed % SEEDS for one in how], device=device),
    )
    where = torch.tensor(positions, device=device)
    return drawn(logits, draw, where) if logits.is_cuda else _drawn_by_few(logits, draw, where)


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """The likeliest token of each row of *logits* ``[T, vocabulary]``, `DAMAGED` where they hold NaN or infinity."""
    best, tokens = logits.max(dim=-1)  # NaN and +inf win every comparison, so the maximum alone tells
    return torch.where(torch.isfinite(best), tokens, DAMAGED)


def drawn(logits: torch.Tensor, how: Draw, positions: torch.Tensor) -> torch.Tensor:
    """A token for each row: drawn by *how* from the smallest set of likeliest tokens whose probabilities make up top-p.

    The number that decides comes from seed and position alone, so that the same seed gives the same tokens, whoever
    else is in the batch. Of tokens that are as likely as each other the one with the lower number comes first.
    """
    tokens = likeliest(logits)
    shares, order = _shares(logits, how).sort(dim=-1, descending=True, stable=True)
    token, _ = _chosen(shares, order, how.top_p, uniform(how.seed, positions))
    return torch.where((how.temperature < COLD) | (tokens == DAMAGED), tokens, token)


def _drawn_by_few(logits: torch.Tensor, how: Draw, positions: torch.Tensor) -> torch.Tensor:
    """As `drawn`, without sorting the whole vocabulary for rows whose likeliest tokens decide."""
    tokens = likeliest(logits)
    left = ((how.temperature >= COLD) & (tokens != DAMAGED)).nonzero().squeeze(-1)
    shares, numbers = _shares(logits, how), uniform(how.seed, positions)
    for few in _FEW:
        if not len(left) or few >= shares.shape[-1]:
            break
        found = shares[left].topk(few, dim=-1).indices.sort(dim=-1).values
        part, order = shares[left].gather(-1, found).sort(dim=-1, descending=True, stable=True)
        token, sure = _chosen(part, found.gather(-1, order), how.top_p[left], numbers[left])
        tokens[left[sure]] = token[sure]
        left = left[~sure]
    if len(left):
        part, order = shares[left].sort(dim=-1, descending=True, stable=True)
        tokens[left], _ = _chosen(part, order, how.top_p[left], numbers[left])
    return tokens


def _shares(logits: torch.Tensor, how: Draw) -> torch.Tensor:
    """The probabilities. The best logit is taken away first: divided by a low temperature the others are no infinities."""
    temperature = torch.where(how.temperature < COLD, 1.0, how.temperature)[:, None]
    logits = logits.float()
    return ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)


def _chosen(
    shares: torch.Tensor, order: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that *numbers* point at among *shares*, likeliest first, of the tokens *order*.

    And whether less likely tokens, which are not among them, make no difference.
    """
    ends = shares.cumsum(dim=-1)
    whole = top_p >= 1
    inside = ((ends - shares) < torch.where(whole, torch.inf, top_p)[:, None]) & (shares > 0)
    inside[:, 0] = True
    last = inside.sum(dim=-1, keepdim=True) - 1
    total = torch.where(whole[:, None], 1.0, ends.gather(-1, last))
    mark = numbers[:, None] * total
    place = torch.minimum(((ends <= mark) & inside).sum(dim=-1, keepdim=True), last)
    end = ends[:, -1:]
    # Of those that are as likely as the least likely one here, some may be missing.
    sure = (end > mark) & (whole[:, None] | (end >= top_p[:, None])) & (shares.gather(-1, place) > shares[:, -1:])
    return order.gather(-1, place).squeeze(-1), sure.squeeze(-1)


def uniform(seed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A number in [0, 1) for each pair of seed and position (both ``[T]``, int64), as float32."""
    mixed = seed * _ODD[0] + positions * _ODD[1] + _ODD[0]
    for factor, shift in ((_ODD[0], 30), (_ODD[1], 27), (_ODD[0], 31)):
        mixed = (mixed ^ ((mixed & _MASK) >> shift)) * factor
    return ((mixed & _MASK) >> 39).to(torch.float32) / 2.0**24
