"""Full load without a model: copies for the memory, matrix products for the arithmetic units."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

import torch

from hwdash.core.measurement import Task
from hwdash.engine.worker.loading import DTYPES
from hwdash.engine.worker.memory import available_bytes
from hwdash.engine.worker.step import Step, Unfit

_HOST_COPY_BYTES = 256 * 2**20
_DEVICE_COPY_BYTES = 2**30
_SMALLEST_COPY_BYTES = 2**20
_DEVICE_SIDE = 8192
_SMALLEST_SIDE = 256
_PRODUCT_S = 0.2
"""How long a product should take on a CPU, about."""
_WARM_UPS = 2
_AHEAD = 2
"""Steps given to a device at once, so that it does not wait for the host between two of them."""


def copies(task: Task, device: torch.device) -> Generator[Step | None]:
    """Copies within the device's memory, each of much more than its caches hold; bytes read and written count."""
    free = available_bytes(device)
    size = _HOST_COPY_BYTES if device.type == "cpu" else _DEVICE_COPY_BYTES
    if free is not None:
        size = max(_SMALLEST_COPY_BYTES, min(size, free // 4))
    # Memory that was never written to is one page of zeros to a CPU, which stays in its cache.
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    for seconds in _timed(lambda: target.copy_(source), device, _count(task)):
        yield None if seconds is None else Step(seconds, bytes=2 * size)


def products(task: Task, device: torch.device, dtype: str) -> Generator[Step | None]:
    """Products of square random matrices in *dtype*. Raises `Unfit` for a precision that nothing can be drawn in."""
    if dtype not in DTYPES:
        raise Unfit(f"products in {dtype} cannot be measured; there are {', '.join(DTYPES)}")
    kind = DTYPES[dtype]
    side = _host_side(kind) if device.type == "cpu" else _device_side(kind, device)
    left, right = (torch.randn((side, side), dtype=kind, device=device) for _ in range(2))
    out = torch.empty_like(left)
    for seconds in _timed(lambda: torch.mm(left, right, out=out), device, _count(task)):
        yield None if seconds is None else Step(seconds, flops=2.0 * side**3)


def _count(task: Task) -> int | None:
    return task.repeats if task.seconds is None else None


def _device_side(kind: torch.dtype, device: torch.device) -> int:
    side, free = _DEVICE_SIDE, available_bytes(device)
    while free is not None and side > _SMALLEST_SIDE and 4 * side * side * kind.itemsize > free:
        side //= 2
    return side


def _host_side(kind: torch.dtype) -> int:
    """The largest power of two whose product takes no longer than `_PRODUCT_S`, as far as the one before it tells."""
    side = _SMALLEST_SIDE
    while side < _DEVICE_SIDE:
        left, right = torch.randn((side, side), dtype=kind), torch.randn((side, side), dtype=kind)
        torch.mm(left, right)
        began = time.monotonic()
        torch.mm(left, right)
        if 8 * (time.monotonic() - began) > _PRODUCT_S:
            break
        side *= 2
    return side


def _timed(work: Callable[[], object], device: torch.device, count: int | None) -> Iterator[float | None]:
    """Seconds of each of *count* runs of *work* (None: without end), after warming up; None between them, to be asked."""
    for _ in range(_WARM_UPS):
        work()
        _wait(device)
        yield None
    runs = itertools.count() if count is None else range(count)
    if device.type == "cuda":
        yield from _timed_by_events(work, runs)
        return
    for _ in runs:
        began = time.monotonic()
        work()
        _wait(device)
        yield time.monotonic() - began


def _timed_by_events(work: Callable[[], object], runs: itertools.count[int] | range) -> Iterator[float]:
    """Like `_timed`, by the device's own clock, with the next run given to it before the last one is waited for."""
    under_way: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()
    for _ in runs:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        under_way.append((began, ended))
        if len(under_way) >= _AHEAD:
            yield _elapsed_s(*under_way.popleft())
    while under_way:
        yield _elapsed_s(*under_way.popleft())


def _elapsed_s(began: torch.cuda.Event, ended: torch.cuda.Event) -> float:
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000.0


def _wait(device: torch.device) -> None:
    """Return when *device* has done what it was given."""
    synchronize = getattr(getattr(torch, device.type, None), "synchronize", None)
    if device.type != "cpu" and synchronize is not None:
        synchronize(device)
