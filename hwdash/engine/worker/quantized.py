"""Weights held smaller than the fp32 that a CPU computes in: what a token costs there is reading them.

`Half` holds in fp16 what fp16 holds exactly, which is almost every checkpoint in bf16 or fp16. `Int8` holds 8 bits a
weight. Both compute in fp32, with kernels of fbgemm, which torch brings for x86; docs/measurements.md has the figures,
and those of torch's other kernels, which were slower.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from hwdash.engine.worker.linear import Dense, Linear
from hwdash.engine.worker.shelf import Shelf

_WIDEST, _NARROWEST, _LANES = 96, 64, 8
"""fbgemm keeps up to 96 sums in registers of AVX2, and weights stream best in rows no longer than that."""
_SCALE_BYTES = 8
_CHUNK = 2**22
"""Weights quantized at once: bounds what that takes besides."""
MOST_ERROR = 0.015
"""Relative error of 8 bits up to which they are taken.

Normally distributed weights come to 0.006. Beyond that, single outliers take the range away from all others. The mean
of outputs is taken, not the whole matrix at once, whose norm is that of the outliers.
"""
_SMALLEST = torch.finfo(torch.float32).tiny
_MANY = 16
"""From so many rows on, a product takes longer than unpacking 8 bits for it; fewer are multiplied by what is packed."""
_LEAST_PRIORITY = 19
_log = logging.getLogger(__name__)

_SOURCE = """
def product(rows: Tensor, weight: __torch__.torch.classes.quantized.LinearPackedParamsBase) -> Tensor:
    return torch.ops.quantized.linear_dynamic_fp16(rows, weight)
"""
"""Called as TorchScript, since checking a packed weight takes Python longer than a small product: 18 us of 30."""


class Half:
    """Weights in fp16, packed by fbgemm, multiplied and summed in fp32.

    Packed in the thread that multiplies: once another thread has computed in parallel too, libgomp has more threads than
    cores and lets them sleep at each barrier, and products take twice as long.
    """

    __slots__ = ("_packed", "bytes", "in_features", "out_features")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.out_features, self.in_features = weight.shape
        self.bytes = 2 * weight.numel() + (0 if bias is None else 4 * bias.numel())
        kept = None if bias is None else bias.float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.float().contiguous(), kept)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The product, by fbgemm's kernel."""
        return _product()(rows, self._packed)

    def bytes_for(self, rows: int) -> int:
        """The same, whatever the number of *rows*."""
        return self.bytes


class Int8:
    """Weights in 8 bits, for more than one row the same numbers in fp16 or fp32.

    Each run of up to 96 weights of one input has a scale and a least value of its own; rows stay in fp32. A single row
    is multiplied as a weighted sum of embeddings: input *k* is the weight of row *k* of the table of each block of
    outputs, and fbgemm unpacks and sums those in registers. A few rows are multiplied by the numbers in fp16, which are
    packed when they are first needed, many by those in fp32, unpacked each time: which it is depends on the number of
    rows alone, so that the same rows have the same products.
    """

    __slots__ = ("_bias", "_half", "_places", "_table", "bytes", "error", "in_features", "out_features")

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        kept: tuple[torch.Tensor, float] | None = None,
    ) -> None:
        self.out_features, self.in_features = weight.shape
        block = _block(self.out_features)
        self._table, self.error = kept or _quantized(weight, block)
        """Relative error: the norm of what an output's weights are off by that of these weights, on average."""
        self._half: Half | None = None
        self._bias = None if bias is None else bias.float()
        self._places = _places(-(-self.out_features // block), self.in_features)
        self.bytes = self._table.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The product of one row by the 8 bits, of more by the same numbers."""
        if rows.shape[0] != 1:
            return self._of_few(rows) if rows.shape[0] < _MANY else self._of_many(rows)
        repeated, flat, indices, offsets = self._places
        repeated.copy_(rows)
        sums = _bag()(self._table, indices, offsets, False, 0, False, flat, None, False)
        row = sums.view(1, -1)
        if row.shape[1] != self.out_features:
            row = row[:, : self.out_features]
        return row if self._bias is None else row + self._bias

    def bytes_for(self, rows: int) -> int:
        """Those of the 8 bits for one row, of the numbers in fp16 for a few, and of both 8 bits and fp32 for many."""
        if rows <= 1:
            return self.bytes
        numbers = self.out_features * self.in_features
        bias = 0 if self._bias is None else self._bias.nbytes
        return 2 * numbers + bias if rows < _MANY else self.bytes + 4 * numbers

    @property
    def kept(self) -> tuple[torch.Tensor, float]:
        """Its table and the error of its numbers, of which the same can be made again."""
        return self._table, self.error

    def _of_few(self, rows: torch.Tensor) -> torch.Tensor:
        if self._half is None:
            weight = _unpacked(self._table, self.in_features).transpose(1, 2).reshape(-1, self.in_features)
            self._half = Half(weight[: self.out_features], self._bias)
        return self._half(rows)

    def _of_many(self, rows: torch.Tensor) -> torch.Tensor:
        blocks = torch.matmul(rows, _unpacked(self._table, self.in_features))
        outs = blocks.transpose(0, 1).reshape(rows.shape[0], -1)[:, : self.out_features]
        return outs if self._bias is None else outs + self._bias

    def elsewhere(self) -> Int8:
        """The same with its 8 bits at another place in memory: for measuring what no cache holds."""
        twin = copy.copy(self)
        twin._table = self._table.clone()  # noqa: SLF001 - its own class
        return twin


class Holder:
    """Holds weights on a CPU for rows in fp32: exactly, or with *eight_bits* within `MOST_ERROR`. Counts what it did.

    What the *shelf* has for a weight, the first or another in the order of calls, is not made again.
    """

    def __init__(self, *, eight_bits: bool, shelf: Shelf | None = None) -> None:
        self._shelf = shelf
        self._eight_bits = eight_bits and available()
        self._half = available()
        self._counts: Counter[str] = Counter()
        self._errors: list[float] = []
        self._eights: dict[int, Int8] = {}

    def __call__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
        """The smallest `Linear` that is allowed; one that torch cannot pack stays `Dense` in fp32."""
        linear, way = self._hold(weight, bias)
        self._counts[way] += 1
        if isinstance(linear, Int8):
            self._errors.append(linear.error)
        return linear

    def prepare(self) -> None:
        """Keep what was made beside the model, where it is not kept yet, with the time that nobody else needs."""
        if self._shelf is not None and not self._shelf.is_filled:
            _keeper().submit(self._shelf.fill, {number: eight.kept for number, eight in self._eights.items()})
        self._eights, self._shelf = {}, None

    @property
    def dtype(self) -> str:
        """What most weights are held in: ``int8`` or ``fp32``, which exact fp16 stands for."""
        return "int8" if self._counts["int8"] > self._counts["fp16"] + self._counts["fp32"] else "fp32"

    @property
    def words(self) -> tuple[str, ...]:
        """How the weights are held, for the record."""
        total = sum(self._counts.values())
        told = []
        if eights := self._counts["int8"]:
            mean = sum(self._errors) / len(self._errors)
            told.append(f"{eights} of {total} weights held in 8 bits, {mean:.1%} off on average")
        if halves := self._counts["fp16"]:
            told.append(f"{halves} of {total} weights held in fp16, which is exact for them")
        if total and not eights and not halves:
            told.append("weights held in fp32")
        return tuple(told)

    def _hold(self, weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[Linear, str]:
        usable = self._half and weight.device.type == "cpu" and weight.numel() > 0
        if usable and self._eight_bits:
            number = sum(self._counts.values())
            shelf = self._shelf
            eight = Int8(weight, bias, shelf.take(number, _table_shape(weight)) if shelf is not None else None)
            if eight.error <= MOST_ERROR:  # that of a weight with NaN is NaN
                self._eights[number] = eight
                return eight, "int8"
        if usable and fits_half(weight):
            return Half(weight, bias), "fp16"
        return Dense(weight.float(), None if bias is None else bias.float()), "fp32"


def quantize(weight: torch.Tensor, bias: torch.Tensor | None = None) -> tuple[Linear, str]:
    """The smallest `Linear` whose answers stay the same in quality, and what it is, in words."""
    holder = Holder(eight_bits=True)
    linear = holder(weight, bias)
    return linear, "; ".join(holder.words)


def fits_half(weight: torch.Tensor) -> bool:
    """Whether fp16 holds every number of *weight* exactly; NaN and infinity are held by nothing."""
    return all(bool(torch.equal(part.half().float(), part.float())) for part in weight.split(_rows(weight)))


@functools.cache
def available() -> bool:
    """Whether this torch can multiply by `Half` and `Int8` here: it can on x86 with AVX2."""
    if torch.backends.cpu.get_cpu_capability() not in {"AVX2", "AVX512"}:
        return False
    try:
        one = torch.ones((_MANY, _LANES))
        for rows in (1, 2, _MANY):
            Int8(one)(one[:rows])
    except (RuntimeError, AttributeError) as error:
        _log.info("weights stay as they are: %s", error)
        return False
    return True


def _block(out_features: int) -> int:
    """How many outputs share a scale: as many as fit into registers, with as few as possible added to fill the last."""
    return min(range(_WIDEST, _NARROWEST - 1, -_LANES), key=lambda block: -out_features % block)


def _table_shape(weight: torch.Tensor) -> tuple[int, int]:
    outputs, inputs = weight.shape
    block = _block(outputs)
    return -(-outputs // block) * inputs, block + _SCALE_BYTES


def _rows(weight: torch.Tensor) -> int:
    return max(1, _CHUNK // max(1, weight.shape[1]))


def _quantized(weight: torch.Tensor, block: int) -> tuple[torch.Tensor, float]:
    """The table ``[blocks * in, block + 8]`` (8 bits each, then scale and least value), and the error of its numbers."""
    outputs, inputs = weight.shape
    blocks = -(-outputs // block)
    table = torch.empty((blocks, inputs, block + _SCALE_BYTES), dtype=torch.uint8)
    shares = []
    step = max(1, _CHUNK // (block * inputs))
    for first in range(0, blocks, step):
        last = min(blocks, first + step)
        part = weight[first * block : last * block].float()
        if missing := (last - first) * block - part.shape[0]:
            part = torch.cat((part, part[-1:].expand(missing, inputs)))
        runs = part.view(last - first, block, inputs)
        least, most = runs.aminmax(dim=1, keepdim=True)
        scale = ((most - least) / 255).clamp_(min=_SMALLEST)
        numbers = (runs - least).div_(scale).round_()
        table[first:last, :, :block] = numbers.to(torch.uint8).transpose(1, 2)
        table[first:last, :, block:] = torch.cat((scale, least), 1).transpose(1, 2).contiguous().view(torch.uint8)
        torch.addcmul(least, numbers, scale, out=numbers)
        off = torch.linalg.vector_norm(part - numbers.view(part.shape), dim=1)
        shares.append(off / torch.linalg.vector_norm(part, dim=1).clamp_(min=_SMALLEST))
    return table.view(blocks * inputs, -1), float(torch.cat(shares)[:outputs].clamp_(max=1).mean())


def _unpacked(table: torch.Tensor, inputs: int) -> torch.Tensor:
    """The numbers of a table, ``[blocks, in, block]``."""
    numbers: torch.Tensor = torch.ops.quantized.embedding_bag_byte_unpack(table)
    return numbers.view(-1, inputs, numbers.shape[1])


@functools.cache
def _places(blocks: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Room for a row repeated for each block, the same flat, which rows of the table to take, and where blocks begin.

    All weights of one shape share them, so that they stay in the caches; calls come from one thread.
    """
    with torch.inference_mode(False):
        room = torch.empty((blocks, inputs))
        indices = torch.arange(blocks * inputs, dtype=torch.int32)
        return room, room.view(-1), indices, torch.arange(0, blocks * inputs, inputs, dtype=torch.int32)


@functools.cache
def _keeper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "keeping", _step_back)


def _step_back() -> None:
    """Let this thread have what time others leave; on Linux threads have a priority each."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)


@functools.cache
def _bag() -> Callable[..., torch.Tensor]:
    return torch.ops.quantized.embedding_bag_byte_rowwise_offsets.default


@functools.cache
def _product() -> Callable[..., torch.Tensor]:
    return torch.jit.CompilationUnit(_SOURCE).product
