"""A layer's weights as something to multiply with: the seam between a network and how its weights are held."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional


class Linear(Protocol):
    """Multiplies rows by a matrix of weights. ``bytes`` is what the product of one row reads of memory, apart from it."""

    @property
    def in_features(self) -> int:
        """Numbers in a row that comes in."""
        ...

    @property
    def out_features(self) -> int:
        """Numbers in a row that comes out."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of weights, scales and bias that the product of one row reads."""
        ...

    def bytes_for(self, rows: int) -> int:
        """Bytes of weights, scales and bias that the product of *rows* rows reads."""
        ...

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of ``[T, in_features]`` to rows of ``[T, out_features]``, in the precision of *rows*."""
        ...


class Dense:
    """Weights ``[out, in]`` as they are, with an optional bias ``[out]``."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def in_features(self) -> int:
        """Numbers in a row that comes in."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """Numbers in a row that comes out."""
        return self.weight.shape[0]

    @property
    def bytes(self) -> int:
        """Bytes of weights and bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def bytes_for(self, rows: int) -> int:
        """The same, whatever the number of *rows*."""
        return self.bytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The product, by torch's own kernel."""
        return functional.linear(rows, self.weight, self.bias)
