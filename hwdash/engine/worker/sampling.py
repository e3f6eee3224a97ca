"""Logits to the next token of one sequence."""

from __future__ import annotations

import torch

from hwdash.engine.worker.decoder import DAMAGED, Sampling

_LIKELY = 256
_SEEDS = 2**63


class Sampler:
    """Picks tokens for one sequence: the likeliest at temperature 0, else drawn by temperature and top-p.

    The same seed on the same device and model gives the same tokens.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        self._generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self._generator = torch.Generator(device=device)
            self._generator.manual_seed(sampling.seed % _SEEDS)

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token, shaped (1, 1), from the *logits* of the last position; `DAMAGED` if they hold NaN or infinity."""
        row = logits.float()
        best, index = row.max(dim=-1)  # NaN and +inf win every comparison, so the maximum alone tells
        sound = best.isfinite()
        if self._temperature > 0:
            # A device stops for good at a draw from weights that are none, so damaged ones are replaced, not drawn from.
            index = self._draw(torch.where(sound, ((row - best) / self._temperature).exp(), 1.0))
        return torch.where(sound, index, DAMAGED).view(1, 1)

    def _draw(self, weights: torch.Tensor) -> torch.Tensor:
        if self._top_p >= 1:
            return torch.multinomial(weights, 1, generator=self._generator)
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
        return tokens[torch.multinomial(inside, 1, generator=self._generator)]
