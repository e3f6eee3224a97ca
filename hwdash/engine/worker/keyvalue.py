"""Keys and values of many sequences in one tensor a layer, and attention over them by what lies where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from hwdash.core.text import sanitise_line
from hwdash.engine.worker.attention import attention_of_one
from hwdash.engine.worker.memory import is_out_of_memory
from hwdash.engine.worker.network import Layer, Network
from hwdash.engine.worker.segment import Segments

GRAIN = 256
"""Places are handed out in multiples of so many tokens."""
_TRIED = 300
_TOLERANCE = 0.02
_MASKED = float("-inf")
_FLASH = torch.ops.aten._flash_attention_forward  # noqa: SLF001 - torch offers its length of keys a sequence nowhere else


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a step lie: each is one token of a sequence whose places begin at ``starts`` (int32, ``[T]``).

    ``positions`` (int64, ``[T]``) are the tokens' own. ``longest`` bounds the context of all of them.
    """

    starts: torch.Tensor
    positions: torch.Tensor
    longest: int


class KeyValueStore:
    """Keys and values: ``[places, 2 * groups, width]`` for each layer. The first place belongs to rows of nobody.

    *layers*: of the first layers only; None: of all.
    """

    def __init__(self, network: Network, places: int, *, flash: bool, layers: int | None = None) -> None:
        self._network = network
        self._flash = flash
        self._layers = len(network.layers) if layers is None else layers
        self.segments = Segments(0)
        self.kept: list[torch.Tensor] = []
        self.grow(places)
        self.nowhere = self.segments.take(1)

    def grow(self, places: int) -> None:
        """Have *places* places; what is there is moved along, one layer after another.

        Raises torch's out-of-memory error: there are no more places then, but tensors can lie elsewhere than before.
        """
        network, size = self._network, self._network.heads
        shape = (places, 2 * size.groups, size.width)
        for number in range(self._layers):
            fresh = torch.zeros(shape, dtype=network.dtype, device=network.device)
            if number == len(self.kept):
                self.kept.append(fresh)
            elif (old := self.kept[number]).shape[0] < places:
                fresh[: old.shape[0]] = old
                self.kept[number] = fresh
                del old
        self.segments.grow(places)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the *length* tokens from place *source* on to *target*; the two stretches do not overlap."""
        for kept in self.kept:
            kept[target : target + length] = kept[source : source + length]

    def attend_rows(self, rows: Rows) -> RowAttention:
        """The attention of a step in which every row belongs to a sequence of its own."""
        return RowAttention(self, rows, self._network, flash=self._flash)

    def attend_chunk(self, start: int, first: int, count: int) -> ChunkAttention:
        """The attention of *count* tokens in a row, from position *first* on, of the sequence at place *start*."""
        return ChunkAttention(self, start, first, count, self._network, flash=self._flash)


class RowAttention:
    """One query a sequence. Asks nothing of the device, and computes the same whatever the numbers in *rows* are."""

    def __init__(self, store: KeyValueStore, rows: Rows, network: Network, *, flash: bool) -> None:
        self._store = store
        self._rows = rows
        self._size = network.heads
        self._places = rows.starts.to(torch.int64) + rows.positions
        windows = {layer.window for layer in network.layers}
        self._spans = {window: self._span(window, flash=flash) for window in windows}
        self._flash = flash
        count = len(rows.positions)
        self._steps = torch.arange(count + 1, dtype=torch.int32, device=rows.positions.device)

    def __call__(self, number: int, layer: Layer, heads: torch.Tensor) -> torch.Tensor:
        """Keep what is new, and give what the queries see."""
        kept, size = self._store.kept[number], self._size
        kept.index_copy_(0, self._places, heads[:, size.queries :])
        queries = heads[:, : size.queries]
        if self._flash:
            return self._by_flash(queries, kept, layer)
        return self._by_gathering(queries, kept, layer)

    def _span(self, window: int | None, *, flash: bool) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The first place that a row of a layer with *window* sees, how many it sees, and a bound of that."""
        lengths = self._rows.positions + 1
        starts, longest = self._rows.starts.to(torch.int64), self._rows.longest
        if window is not None:
            longest = min(longest, window)
            starts = starts + (lengths - window).clamp(min=0)
            lengths = lengths.clamp(max=window)
        if flash:
            ends = functional.pad(starts, (0, 1))
            return ends.to(torch.int32), lengths.to(torch.int32), longest
        offsets = torch.arange(longest, device=starts.device)
        places = starts[:, None] + torch.minimum(offsets, lengths[:, None] - 1)
        return places, offsets < lengths[:, None], longest

    def _by_flash(self, queries: torch.Tensor, kept: torch.Tensor, layer: Layer) -> torch.Tensor:
        starts, lengths, longest = self._spans[layer.window]
        groups = self._size.groups
        out, log_sums = _FLASH(
            queries,
            kept[:, :groups],
            kept[:, groups:],
            self._steps,
            starts,
            1,
            longest,
            0.0,
            False,
            False,
            seqused_k=lengths,
        )[:2]
        if layer.sinks is not None:
            # A sink takes its part of the softmax and gives nothing: what is left is sigmoid(log-sum - sink).
            left = torch.sigmoid(log_sums.transpose(0, 1) - layer.sinks.float())
            out = out * left[..., None].to(out.dtype)
        return out.reshape(len(queries), -1)

    def _by_gathering(self, queries: torch.Tensor, kept: torch.Tensor, layer: Layer) -> torch.Tensor:
        places, seen, _ = self._spans[layer.window]
        size, count = self._size, len(queries)
        near = kept[places].transpose(1, 2)
        folded = queries.view(count, size.groups, -1, size.width)
        keys, values = near[:, : size.groups], near[:, size.groups :]
        if layer.sinks is None:
            out = functional.scaled_dot_product_attention(folded, keys, values, seen[:, None, None])
            return out.reshape(count, -1)
        scores = (folded @ keys.transpose(-1, -2)) * size.width**-0.5
        scores = scores.masked_fill(~seen[:, None, None], _MASKED)
        sinks = layer.sinks.view(1, size.groups, -1, 1).expand(count, -1, -1, 1).to(scores.dtype)
        weights = torch.cat((scores, sinks), dim=-1).softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        return (weights[..., :-1] @ values).reshape(count, -1)


class ChunkAttention:
    """Several queries in a row of one sequence."""

    def __init__(
        self, store: KeyValueStore, start: int, first: int, count: int, network: Network, *, flash: bool
    ) -> None:
        self._store = store
        self._start, self._first, self._count = start, first, count
        self._size = network.heads
        self._flash = flash
        device = network.device
        self._steps = torch.tensor([0, count], dtype=torch.int32, device=device)
        self._starts = torch.tensor([start, start + first + count], dtype=torch.int32, device=device)
        self._lengths = torch.tensor([first + count], dtype=torch.int32, device=device)

    def __call__(self, number: int, layer: Layer, heads: torch.Tensor) -> torch.Tensor:
        """Keep what is new, and give what the queries see."""
        kept, size = self._store.kept[number], self._size
        begin, end = self._start, self._start + self._first + self._count
        kept[begin + self._first : end] = heads[:, size.queries :]
        queries = heads[:, : size.queries]
        if not self._flash:
            return attention_of_one(queries, kept[begin:end], self._first, layer, size)
        out, log_sums = _FLASH(
            queries,
            kept[:, : size.groups],
            kept[:, size.groups :],
            self._steps,
            self._starts,
            self._count,
            self._first + self._count,
            0.0,
            True,
            False,
            window_size_left=None if layer.window is None else layer.window - 1,
            window_size_right=None if layer.window is None else 0,
            seqused_k=self._lengths,
        )[:2]
        if layer.sinks is not None:
            left = torch.sigmoid(log_sums.transpose(0, 1) - layer.sinks.float())
            out = out * left[..., None].to(out.dtype)
        return out.reshape(self._count, -1)


def flash_problem(network: Network) -> str:
    """Why flash kernels cannot do the attention of *network*; empty where they give what plain attention gives."""
    if network.dtype not in (torch.bfloat16, torch.float16):
        return "flash kernels are for 16-bit numbers"
    try:
        with torch.inference_mode():
            wrong = _flash_difference(network)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"flash kernels do not run here ({sanitise_line(str(error), 120) or type(error).__name__})"
    return "" if wrong < _TOLERANCE else f"flash kernels are off by {wrong:.1%} here"


def _flash_difference(network: Network) -> float:
    """How far flash attention is from plain attention, in one layer of each window, relative to its size."""
    heads, device = network.heads, network.device
    generator = torch.Generator(device).manual_seed(1)
    tried = torch.randn((_TRIED, heads.all, heads.width), generator=generator, device=device).to(network.dtype)
    starts = torch.ones(1, dtype=torch.int32, device=device)
    rows = Rows(starts, torch.tensor([_TRIED - 1], device=device), 2 * GRAIN)
    stores = [KeyValueStore(network, 2 * GRAIN, flash=flash, layers=1) for flash in (True, False)]
    wrong = 0.0
    for layer in {layer.window: layer for layer in network.layers}.values():
        seen = []
        for store in stores:
            chunk = store.attend_chunk(1, 0, _TRIED - 1)(0, layer, tried[:-1])
            seen.append(torch.cat((chunk, store.attend_rows(rows)(0, layer, tried[-1:]))).float())
        difference = ((seen[0] - seen[1]).norm() / seen[1].norm()).item()
        wrong = max(wrong, 1.0 if math.isnan(difference) else difference)
    return wrong
