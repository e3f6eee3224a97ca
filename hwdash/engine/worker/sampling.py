"""Logits to the next token."""

from __future__ import annotations

import math

import torch

from hwdash.core.errors import EngineError

_LIKELY = 256
_SEEDS = 2**63


class Sampler:
    """Picks tokens for one request: the likeliest at temperature 0, else drawn by temperature and top-p.

    The same seed on the same device and model gives the same tokens.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None, device: torch.device) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._generator = torch.Generator(device=device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed % _SEEDS)

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token, shaped (1, 1), from the *logits* of the last position.

        Raises `EngineError` when they hold NaN or infinity.
        """
        row = logits.float()
        best, index = row.max(dim=-1)  # NaN and +inf win every comparison, so the maximum alone tells
        if not math.isfinite(best.item()):
            raise EngineError("the model computed NaN or infinity; its weights are damaged or do not stand this dtype")
        if self._temperature <= 0:
            return index.view(1, 1)
        weights = ((row - best) / self._temperature).exp()
        if self._top_p >= 1:
            return torch.multinomial(weights, 1, generator=self._generator).view(1, 1)
        return self._from_nucleus(weights)

    def _from_nucleus(self, weights: torch.Tensor) -> torch.Tensor:
        """A draw from the smallest set of likeliest tokens whose probabilities add up to top-p."""
        total = weights.sum()
        count = min(_LIKELY, weights.shape[-1])
        top, tokens = weights.topk(count)
        if (top.sum() < self._top_p * total).item() and count < weights.shape[-1]:
            top, tokens = weights.sort(descending=True)
        before = top.cumsum(-1) - top
        inside = torch.where(before < self._top_p * total, top, 0.0)
        inside[0] = top[0]
        return tokens[torch.multinomial(inside, 1, generator=self._generator)].view(1, 1)
