"""Mixtures of experts: a router sends each row through a few of many feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch.nn import functional

_MOST_ROWS = 64
"""For up to so many rows a GPU computes all experts sooner than it tells which ones are hit."""
_GROUPED = getattr(functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


class Router(Protocol):
    """Picks experts for rows."""

    def __call__(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and numbers of the experts for each row, both ``[T, chosen]``."""
        ...


class TopRouter:
    """The *chosen* experts with the highest logits.

    ``after`` true: the softmax is of the chosen ones only; else of all, made to sum up to one again where *renormalise*.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, chosen: int, *, after: bool, renormalise: bool = False
    ) -> None:
        self.weight = weight
        self.chosen = chosen
        self._bias = bias
        self._after = after
        self._renormalise = renormalise

    def __call__(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (in the precision of *rows*) and numbers, both ``[T, chosen]``."""
        logits = functional.linear(rows, self.weight, self._bias)
        if self._after:
            best, numbers = logits.topk(self.chosen, dim=-1)
            return best.softmax(dim=-1), numbers
        best, numbers = logits.softmax(dim=-1, dtype=torch.float32).topk(self.chosen, dim=-1)
        if self._renormalise:
            best = best / best.sum(dim=-1, keepdim=True)
        return best.to(rows.dtype), numbers


def silu_gate(gate_up: torch.Tensor) -> torch.Tensor:
    """The gate of Llama-like experts: the first half gates the second."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def clamped_gate(alpha: float, limit: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The gate of gpt-oss, whose numbers alternate between gate and up."""

    def gate(gate_up: torch.Tensor) -> torch.Tensor:
        gates, ups = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(min=-limit, max=limit)
        return (ups + 1) * (gates * torch.sigmoid(gates * alpha))

    return gate


class ExpertFeed:
    """Experts whose matrices lie in one tensor each: ``gate_up`` ``[E, hidden, 2 * inner]``, ``down`` ``[E, inner, hidden]``.

    The products of all experts are made at once, with rows sorted by expert, where torch has a kernel for that
    (``grouped``); else, for up to ``most_rows`` rows, every row goes through every expert, and for more rows one expert
    after another computes those that chose it, which asks the device which ones are hit. A step that is captured must
    not ask: who captures has ``most_rows`` cover its steps.
    """

    def __init__(
        self,
        router: TopRouter,
        gate_up: torch.Tensor,
        gate_up_bias: torch.Tensor | None,
        down: torch.Tensor,
        down_bias: torch.Tensor | None,
        gate: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._router = router
        self._gate_up, self._gate_up_bias = gate_up, gate_up_bias
        self._down, self._down_bias = down, down_bias
        self._gate = gate
        self._ends = torch.arange(gate_up.shape[0], device=gate_up.device)
        self.most_rows = _MOST_ROWS if gate_up.is_cuda else 0
        self.grouped = gate_up.is_cuda and _GROUPED is not None and gate_up.dtype is torch.bfloat16

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of ``[T, hidden]`` to rows of the same shape."""
        weights, numbers = self._router(rows)
        chosen = self._router.chosen
        if not self.grouped and len(rows) <= self.most_rows:
            return self._all(rows, weights, numbers)
        order = numbers.flatten().argsort(stable=True)
        experts = numbers.flatten()[order]
        sources = order // chosen
        outs = (self._products if self.grouped else self._one_by_one)(rows[sources], experts)
        outs = outs * weights.flatten()[order][:, None]
        back = torch.empty_like(outs).index_copy_(0, order, outs)
        return back.view(len(rows), chosen, -1).sum(dim=1)

    def _products(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        assert _GROUPED is not None
        ends = torch.searchsorted(experts, self._ends, right=True).to(torch.int32)
        inner = _GROUPED(rows, self._gate_up, offs=ends)
        if self._gate_up_bias is not None:
            inner = inner + self._gate_up_bias[experts]
        outs: torch.Tensor = _GROUPED(self._gate(inner), self._down, offs=ends)
        return outs if self._down_bias is None else outs + self._down_bias[experts]

    def _all(self, rows: torch.Tensor, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Every expert for every row, of which the chosen ones count."""
        inner = torch.matmul(rows, self._gate_up)
        if self._gate_up_bias is not None:
            inner = inner + self._gate_up_bias[:, None]
        outs = torch.matmul(self._gate(inner), self._down)
        if self._down_bias is not None:
            outs = outs + self._down_bias[:, None]
        shares = torch.zeros((len(rows), len(self._ends)), dtype=rows.dtype, device=rows.device)
        return torch.einsum("te,eth->th", shares.scatter_(1, numbers, weights), outs)

    def _one_by_one(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        outs = torch.empty_like(rows)
        hit, counts = experts.unique_consecutive(return_counts=True)
        start = 0
        for expert, count in zip(hit.tolist(), counts.tolist(), strict=True):
            part = rows[start : start + count]
            inner = part @ self._gate_up[expert]
            if self._gate_up_bias is not None:
                inner = inner + self._gate_up_bias[expert]
            out = self._gate(inner) @ self._down[expert]
            outs[start : start + count] = out if self._down_bias is None else out + self._down_bias[expert]
            start += count
        return outs

    def bytes(self, rows: int) -> int:
        """Bytes of the router and of as many experts as *rows* rows can choose."""
        experts = min(self._gate_up.shape[0], rows * self._router.chosen)
        one = self._gate_up[0].nbytes + self._down[0].nbytes
        return self._router.weight.nbytes + experts * one
