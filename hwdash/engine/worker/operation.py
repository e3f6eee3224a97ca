"""The small operations between the products of a layer, as torch has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Rotation:
    """How the heads of each row are turned: cosines and sines (``[T, width / 2]``, float32) of its position's angles.

    ``whole`` are both as `Plain` uses them, ``[T, heads + 2 * groups, width]`` in the precision of rows, where that is
    wanted: a turned head is ``x * cos + (x with its halves swapped) * sin``; for values the factors are 1 and 0.
    """

    cosines: torch.Tensor
    sines: torch.Tensor
    whole: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Heads:
    """``queries`` query heads and ``groups`` key heads (and as many value heads), each ``width`` wide."""

    queries: int
    groups: int
    width: int

    @property
    def turned(self) -> int:
        """Heads that have a position: those of queries and keys."""
        return self.queries + self.groups

    @property
    def all(self) -> int:
        """All heads of a row."""
        return self.queries + 2 * self.groups


class Operations(Protocol):
    """What a forward pass does besides products and attention."""

    def rotation(self, cosines: torch.Tensor, sines: torch.Tensor, heads: Heads, dtype: torch.dtype) -> Rotation:
        """What `turn` needs, once for all layers; *cosines* and *sines* are float32, ``[T, width / 2]``."""
        ...

    def turn(
        self, qkv: torch.Tensor, heads: Heads, rotation: Rotation, norm: torch.Tensor | None, epsilon: float
    ) -> torch.Tensor:
        """The heads of *qkv* (``[T, all heads * width]``), queries and keys normed where there is a *norm* and turned.

        Gives ``[T, all heads, width]``; *norm* is ``[queries + groups, width]``.
        """
        ...

    def add_norm(
        self, rows: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``rows + more`` (both ``[T, hidden]``), and its root-mean-square norm scaled by *weight*."""
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of ``[T, 2 * inner]``."""
        ...


def root_mean_square_norm(rows: torch.Tensor, weight: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    """The root-mean-square norm of *rows* along their last dimension, scaled by *weight* where there is one.

    torch composes it of a dozen operations on a CPU, which takes 40 us for a single row; these few take 10.
    """
    if rows.device.type != "cpu" or rows.dtype is not torch.float32:
        return functional.rms_norm(rows, rows.shape[-1:], weight, epsilon)
    squares = torch.linalg.vecdot(rows, rows).unsqueeze(-1)
    scaled = rows * squares.div_(rows.shape[-1]).add_(epsilon).rsqrt_()
    return scaled if weight is None else scaled.mul_(weight)


class Plain:
    """`Operations` on any device, in any precision."""

    def rotation(self, cosines: torch.Tensor, sines: torch.Tensor, heads: Heads, dtype: torch.dtype) -> Rotation:
        """Factors for all heads, so that one product turns them all."""
        rows = cosines.shape[0]
        turned, kept = (rows, heads.turned, heads.width), (rows, heads.groups, heads.width)
        cos, sin = torch.cat((cosines, cosines), -1).to(dtype), torch.cat((-sines, sines), -1).to(dtype)
        factors = (
            torch.cat((cos[:, None].expand(turned), cos.new_ones(kept)), dim=1),
            torch.cat((sin[:, None].expand(turned), sin.new_zeros(kept)), dim=1),
        )
        return Rotation(cosines, sines, factors)

    def turn(
        self, qkv: torch.Tensor, heads: Heads, rotation: Rotation, norm: torch.Tensor | None, epsilon: float
    ) -> torch.Tensor:
        """The turned heads, ``[T, all heads, width]``."""
        assert rotation.whole is not None
        cosines, sines = rotation.whole
        rows = qkv.view(-1, heads.all, heads.width)
        if norm is not None:
            scaled = root_mean_square_norm(rows[:, : heads.turned], None, epsilon) * norm
            rows = torch.cat((scaled, rows[:, heads.turned :]), dim=1)
        return torch.addcmul(rows * cosines, rows.roll(heads.width // 2, -1), sines)

    def add_norm(
        self, rows: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum and its norm."""
        rows = rows + more
        return rows, root_mean_square_norm(rows, weight, epsilon)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up``."""
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up
