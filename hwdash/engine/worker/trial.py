"""Trials of precisions: how fast a device multiplies in each one, by products small enough to be made between requests."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from hwdash.core.text import sanitise_line
from hwdash.core.trial import DtypeTrial
from hwdash.engine.worker.linear import Dense, Linear
from hwdash.engine.worker.loading import DTYPES
from hwdash.engine.worker.memory import is_out_of_memory
from hwdash.engine.worker.quantized import Holder, Int8, available

_HOST_SIDE, _DEVICE_SIDE = 256, 4096
"""Of the square matrices: large enough for the arithmetic units to be what a product waits for, small enough for slow ones."""
_HOST_WEIGHTS, _HOST_PARTS = (1536, 1024), 16
"""Like the weights of a small model, and as many as the caches near the cores do not hold, whatever they are held in."""
_DEVICE_WEIGHTS = (8192, 8192)
"""134 MB and more: what the caches do not hold."""
_DEVICE_REPEATS = 10
_ROUNDS, _LEAST_ROUNDS = 6, 2
_BUDGET_S = 0.6
_EMULATED_BELOW = 0.9
"""Of the rate of fp32: what is nearer is as fast, for what a measurement of some milliseconds tells."""
_log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(slots=True)
class _Work:
    """``run`` multiplies by ``weights`` weights of ``size`` bytes, or computes ``flops``; ``best_s`` is the fastest run."""

    dtype: str
    run: Callable[[], object]
    weights: float = 0.0
    size: float = 0.0
    flops: float = 0.0
    best_s: float = math.inf
    problem: str = ""


def try_dtypes(
    device: torch.device,
    dtypes: Sequence[str],
    clock: Clock = time.perf_counter,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[DtypeTrial, ...]:
    """A trial of fp32 and of each of *dtypes* on *device*; on a CPU that can, of weights in 8 bits too.

    All take turns, and the best turn of each counts, so that what else the machine does slows none of them alone. Takes
    about a second on a CPU and less on a GPU. What cannot be tried has a problem and no figures. Where *stopped*, which is
    asked before every product, says so, it ends without any trials. Raises what torch raises where the device has no room
    for it or cannot be used any more.
    """
    names = list(dict.fromkeys(["fp32", *dtypes, *(("int8",) if device.type == "cpu" and available() else ())]))
    with torch.inference_mode():
        works: list[_Work] = []
        for make, name in itertools.product((_vector, _matrix), names):
            if stopped():
                return ()
            if (work := _made(device, name, make)) is not None:
                works.append(work)
        if not _take_turns(works, device, clock, stopped):
            return ()
    return judged([_trial(name, [work for work in works if work.dtype == name]) for name in names])


def judged(trials: Sequence[DtypeTrial]) -> tuple[DtypeTrial, ...]:
    """*trials* with those marked as emulated that read clearly fewer weights per second than fp32."""
    base = next((trial.weights_per_s for trial in trials if trial.dtype == "fp32"), None) or 0.0
    return tuple(
        replace(trial, emulated=trial.weights_per_s is not None and trial.weights_per_s < _EMULATED_BELOW * base)
        for trial in trials
    )


def _trial(dtype: str, works: Sequence[_Work]) -> DtypeTrial:
    trial = DtypeTrial(dtype, problem="; ".join(dict.fromkeys(work.problem for work in works if work.problem)))
    for work in works:
        if work.problem or math.isinf(work.best_s):
            continue
        if work.weights:
            trial = replace(trial, bytes_per_s=work.size / work.best_s, weights_per_s=work.weights / work.best_s)
        else:
            trial = replace(trial, flops_per_s=work.flops / work.best_s)
    return trial


def _made(device: torch.device, dtype: str, make: Callable[[torch.device, str], _Work | None]) -> _Work | None:
    try:
        work = make(device, dtype)
        if work is not None:
            work.run()
            _wait(device)
    except (RuntimeError, AttributeError, ValueError) as error:  # what a device or this torch does not have
        if is_out_of_memory(error):
            raise
        _log.info("no trial of %s on %s: %s", dtype, device, error)
        return _Work(dtype, bool, problem=sanitise_line(str(error), 200) or type(error).__name__)
    return work


def _take_turns(works: Sequence[_Work], device: torch.device, clock: Clock, stopped: Callable[[], bool]) -> bool:
    """Run all *works* a few times; False where it was *stopped*."""
    began = clock()
    for number in range(_ROUNDS):
        if number >= _LEAST_ROUNDS and clock() - began > _BUDGET_S:
            break
        for work in works:
            if work.problem:
                continue
            if stopped():
                return False
            at = clock()
            work.run()
            _wait(device)
            work.best_s = min(work.best_s, max(clock() - at, 1e-9))
    return True


def _vector(device: torch.device, dtype: str) -> _Work | None:
    """The product of a row and weights as a model in *dtype* has them; None for what models are not loaded in."""
    linears: list[Linear]
    if device.type == "cpu" and dtype == "int8" and available():
        first = Int8(torch.ones(_HOST_WEIGHTS))
        linears = [first, *(first.elsewhere() for _ in range(_HOST_PARTS - 1))]
    elif dtype not in DTYPES:
        return None
    elif device.type == "cpu":
        hold = Holder(eight_bits=False) if dtype == "fp32" else Dense
        linears = [hold(torch.ones(_HOST_WEIGHTS, dtype=DTYPES[dtype])) for _ in range(_HOST_PARTS)]
    else:
        linears = [Dense(torch.ones(_DEVICE_WEIGHTS, dtype=DTYPES[dtype], device=device))]
    row = torch.ones((1, linears[0].in_features), device=device, dtype=DTYPES.get(dtype, torch.float32))
    repeats = 1 if device.type == "cpu" else _DEVICE_REPEATS
    count = float(linears[0].in_features * linears[0].out_features * len(linears) * repeats)
    size = float(linears[0].bytes * len(linears) * repeats)
    return _Work(dtype, functools.partial(_multiply, linears * repeats, row), weights=count, size=size)


def _multiply(linears: Sequence[Linear], row: torch.Tensor) -> None:
    for linear in linears:
        linear(row)


def _matrix(device: torch.device, dtype: str) -> _Work:
    """The product of square matrices in *dtype*. Raises `ValueError` for a name that torch has no product for."""
    side = _HOST_SIDE if device.type == "cpu" else _DEVICE_SIDE
    ones = torch.ones((side, side), device=device)
    run: Callable[[], object]
    if dtype == "fp8":
        eight, scale = ones.to(torch.float8_e4m3fn), torch.ones((), device=device)
        run = functools.partial(torch._scaled_mm, eight, eight.t(), scale, scale, out_dtype=torch.bfloat16)  # noqa: SLF001
    elif dtype == "int8":
        whole = ones.to(torch.int8)
        run = functools.partial(torch._int_mm, whole, whole.t())  # noqa: SLF001
    elif dtype in DTYPES:
        number = ones.to(DTYPES[dtype])
        run = functools.partial(torch.mm, number, number)
    else:
        raise ValueError(f"torch has no product in {dtype}")
    return _Work(dtype, run, flops=2.0 * side**3)


def _wait(device: torch.device) -> None:
    """Return when *device* has done what it was given."""
    synchronize = getattr(getattr(torch, device.type, None), "synchronize", None)
    if device.type != "cpu" and synchronize is not None:
        synchronize(device)
