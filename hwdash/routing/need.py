"""What a model takes of a device's memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwdash.core.format import bytes_text
from hwdash.core.model import ModelShape
from hwdash.core.requirement import DEFAULT_CONTEXT
from hwdash.routing.trait import Build

ACCELERATOR_RUNTIME_BYTES = 700 * 2**20
"""What a worker takes of an accelerator besides weights and cache. Measured on an H200 with torch 2.11 and CUDA 13:
621 MiB for the context alone, 739 with cuBLAS and 747 with the kernels for attention loaded, of which 54 are torch's
own pool, which is not counted."""
HOST_RUNTIME_BYTES = 410 * 2**20
"""The same in the memory of a CPU: a worker's process was measured at 396 to 407 MiB beyond the weights."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model takes in *dtype*; ``smaller`` where that is not the precision the device would run it in.

    A model that is loaded already has only its cache (``cache_bytes``, for ``tokens`` of context) still to come.
    """

    dtype: str
    weight_bytes: int
    cache_bytes: int
    runtime_bytes: int
    tokens: int
    smaller: bool = False
    total_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_bytes", self.weight_bytes + self.cache_bytes + self.runtime_bytes)

    @property
    def words(self) -> str:
        """The sum and what it is made of."""
        cache = f"{bytes_text(self.cache_bytes)} for {self.tokens} tokens of context"
        if not self.weight_bytes:
            return cache
        weights = f"{bytes_text(self.weight_bytes)} of weights in {self.dtype}"
        return f"{bytes_text(self.total_bytes)} ({weights}, {cache}, {bytes_text(self.runtime_bytes)} for the runtime)"


def needs(build: Build, shape: ModelShape, context_tokens: int | None, loaded: bool) -> tuple[Need, ...]:
    """What a model of that *shape* takes on a device of that *build*, in each precision it may be loaded in, best first."""
    tokens = shape.context(context_tokens or DEFAULT_CONTEXT)
    if loaded:
        dtype = build.dtypes[0]
        return (Need(dtype, 0, shape.cache_bytes(dtype, tokens), 0, tokens),)
    runtime = HOST_RUNTIME_BYTES if build.host else ACCELERATOR_RUNTIME_BYTES * build.devices
    return tuple(
        Need(dtype, shape.weight_bytes(dtype), shape.cache_bytes(dtype, tokens), runtime, tokens, place > 0)
        for place, dtype in enumerate(build.dtypes)
    )


def fitting(choices: tuple[Need, ...], free_bytes: int) -> Need:
    """The first of *choices* that fits into *free_bytes*, else the smallest."""
    for need in choices:
        if need.total_bytes <= free_bytes:
            return need
    return min(choices, key=lambda need: need.total_bytes)
