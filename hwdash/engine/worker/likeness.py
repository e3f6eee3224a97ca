"""Whether other operations give what torch's own give: both on the same random rows of a model's own sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from hwdash.engine.worker.operation import Heads, Operations, Plain

TOLERANCE = 0.02
"""So far from torch's own results, relative to their size, operations may be that round otherwise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the operations of one layer get: as `Operations` has it. ``norm`` is that of heads, None where there is none."""

    heads: Heads
    qkv: torch.Tensor
    angles: torch.Tensor
    norm: torch.Tensor | None
    rows: torch.Tensor
    more: torch.Tensor
    weight: torch.Tensor
    gate_up: torch.Tensor
    epsilon: float


def sample_of(
    rows: int, heads: Heads, inner: int, weight: torch.Tensor, norm: torch.Tensor | None, epsilon: float
) -> Sample:
    """A sample of so many *rows* for feeds of *inner*; hidden size, device and precision are those of *weight*."""
    device, dtype, hidden = weight.device, weight.dtype, weight.shape[-1]
    generator = torch.Generator(device).manual_seed(1)

    def random(width: int) -> torch.Tensor:
        return torch.randn((rows, width), generator=generator, device=device, dtype=torch.float32).to(dtype)

    angles = torch.rand((rows, heads.width // 2), generator=generator, device=device) * 6
    qkv = random(heads.all * heads.width)
    return Sample(heads, qkv, angles, norm, random(hidden), random(hidden), weight, random(2 * inner), epsilon)


def run(operations: Operations, sample: Sample) -> tuple[torch.Tensor, ...]:
    """All that one layer does by *operations*, and what it gives."""
    rotation = operations.rotation(sample.angles.cos(), sample.angles.sin(), sample.heads, sample.qkv.dtype)
    turned = operations.turn(sample.qkv, sample.heads, rotation, sample.norm, sample.epsilon)
    first = operations.add_norm(sample.rows, sample.more, sample.weight, sample.epsilon)
    gated = operations.gate(sample.gate_up)
    return turned, *first, gated, *operations.add_norm(first[0], first[1], sample.weight, sample.epsilon)


def difference(operations: Operations, sample: Sample) -> float:
    """How far *operations* are from torch's own, relative to the size of the results; NaN where they give it."""
    wrong = [
        ((ours - theirs).float().norm() / theirs.float().norm()).item()
        for ours, theirs in zip(run(operations, sample), run(Plain(), sample), strict=True)
    ]
    return math.nan if any(map(math.isnan, wrong)) else max(wrong)
