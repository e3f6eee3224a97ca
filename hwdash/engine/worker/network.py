"""Our own forward pass of decoder-only transformers of the Llama family: as few and as large operations as torch allows.

Rows are tokens of any sequences, ``[T, hidden]``; who they belong to is the business of the attention that the caller
brings. What is computed is what transformers computes for the same weights; the order of roundings is not always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from hwdash.engine.worker.linear import Dense, Linear
from hwdash.engine.worker.operation import Heads, Operations, Plain, root_mean_square_norm
from hwdash.engine.worker.parallel import Group


class Feed(Protocol):
    """The part of a layer after its attention. ``bytes`` is what it reads of weights for so many rows."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of ``[T, hidden]`` to rows of the same shape."""
        ...

    def bytes(self, rows: int) -> int:
        """Bytes of weights that *rows* rows read at most."""
        ...


class Attend(Protocol):
    """The attention of one layer over whatever was kept of the sequences before."""

    def __call__(self, number: int, layer: Layer, heads: torch.Tensor) -> torch.Tensor:
        """Keep the keys and values of *heads* for layer *number*, and give what the queries see, ``[T, heads * width]``.

        *heads* is ``[T, query heads + 2 * key-value heads, width]``: queries, keys (both turned) and values.
        """
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer. ``sinks`` are extra logits of the softmax, one a head; ``window`` bounds how far it sees.

    ``head_norm`` is ``[query + key heads, width]``: the weights by which normed queries and keys are scaled.
    """

    norm: torch.Tensor
    qkv: Linear
    head_norm: torch.Tensor | None
    out: Linear
    sinks: torch.Tensor | None
    window: int | None
    feed_norm: torch.Tensor
    feed: Feed


class GatedFeed:
    """``down(act(gate) * up)`` with gate and up in one matrix."""

    def __init__(self, gate_up: Linear, down: Linear) -> None:
        self.gate_up = gate_up
        self.down = down
        self.operations: Operations = Plain()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of ``[T, hidden]`` to rows of the same shape."""
        return self.down(self.operations.gate(self.gate_up(rows)))

    def bytes(self, rows: int) -> int:
        """Bytes of both matrices."""
        return self.gate_up.bytes_for(rows) + self.down.bytes_for(rows)


class Network:
    """All layers, from tokens to logits. With a *group*, heads and feeds are this device's part of them."""

    def __init__(
        self,
        embedding: torch.Tensor,
        layers: Sequence[Layer],
        norm: torch.Tensor,
        head: Linear,
        heads: Heads,
        epsilon: float,
        frequencies: torch.Tensor,
        rotation_scale: float,
        group: Group | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.heads = heads
        self.head = head
        self.embedding = embedding
        self._norm = norm
        self._epsilon = epsilon
        self._scale = rotation_scale
        self._frequencies = frequencies
        self._operations: Operations = Plain()
        self._group = group

    @property
    def dtype(self) -> torch.dtype:
        """The precision of rows."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embedding.device

    @property
    def operations(self) -> Operations:
        """What does the small operations now."""
        return self._operations

    @property
    def epsilon(self) -> float:
        """What keeps norms from a division by zero."""
        return self._epsilon

    def use(self, operations: Operations) -> None:
        """Do the small operations by *operations* from now on."""
        self._operations = operations
        for layer in self.layers:
            if isinstance(layer.feed, GatedFeed):
                layer.feed.operations = operations

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """The rows of *tokens* (``[T]``) at *positions* (``[T]``) after all layers and the last norm."""
        operations, heads, epsilon = self._operations, self.heads, self._epsilon
        angles = positions.to(torch.float32)[:, None] * self._frequencies
        rotation = operations.rotation(angles.cos() * self._scale, angles.sin() * self._scale, heads, self.dtype)
        rows = functional.embedding(tokens, self.embedding)
        normed = root_mean_square_norm(rows, self.layers[0].norm, epsilon)
        following = [*(layer.norm for layer in self.layers[1:]), self._norm]
        for number, (layer, after) in enumerate(zip(self.layers, following, strict=True)):
            turned = operations.turn(layer.qkv(normed), heads, rotation, layer.head_norm, epsilon)
            seen = self._summed(layer.out(attend(number, layer, turned)))
            rows, normed = operations.add_norm(rows, seen, layer.feed_norm, epsilon)
            rows, normed = operations.add_norm(rows, self._summed(layer.feed(normed)), after, epsilon)
        return normed

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The logits ``[T, vocabulary]`` of *rows* that `forward` gave."""
        logits = self.head(rows)
        if self._group is not None and self.head.out_features < self.embedding.shape[0]:
            return self._group.join(logits)
        return logits

    def _summed(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self._group is None else self._group.add(rows)

    def weight_bytes(self, rows: int = 1) -> int:
        """Bytes of weights that a step of *rows* rows reads (of a mixture of experts: at most)."""
        layers = sum(
            layer.qkv.bytes_for(rows) + layer.out.bytes_for(rows) + layer.feed.bytes(rows) for layer in self.layers
        )
        norms = sum(layer.norm.nbytes + layer.feed_norm.nbytes for layer in self.layers)
        return layers + norms + self.head.bytes_for(rows) + rows * self.embedding.shape[-1] * self.embedding.itemsize

    @property
    def held_bytes(self) -> int:
        """Bytes of all weights but experts; an embedding that is the head, too, counts once."""
        shared = isinstance(self.head, Dense) and self.head.weight.data_ptr() == self.embedding.data_ptr()
        return self.weight_bytes(0) + self._norm.nbytes + (0 if shared else self.embedding.nbytes)

    def cache_bytes(self, context: int) -> int:
        """Bytes of keys and values that one token reads of a sequence of *context* tokens."""
        token = 2 * self.heads.groups * self.heads.width * self.embedding.itemsize
        return sum(token * min(context, layer.window or context) for layer in self.layers)
