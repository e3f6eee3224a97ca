"""What a model takes of a device's memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwdash.core.format import bytes_text
from hwdash.core.model import ModelShape
from hwdash.core.requirement import DEFAULT_CONTEXT
from hwdash.routing.trait import Build

# Measured around a worker with a small model: CUDA context and libraries on a GPU, the process on a CPU.
ACCELERATOR_RUNTIME_BYTES = 644_245_094
HOST_RUNTIME_BYTES = 429_496_730


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
    runtime = HOST_RUNTIME_BYTES if build.host else ACCELERATOR_RUNTIME_BYTES
    return tuple(
        Need(dtype, shape.weight_bytes(dtype), shape.cache_bytes(dtype, tokens), runtime, tokens, place > 0)
        for place, dtype in enumerate(build.dtypes)
    )


def fitting(choices: tuple[Need, ...], free_bytes: int | None) -> Need:
    """The first of *choices* that fits into *free_bytes* (None: unknown), else the smallest."""
    if free_bytes is not None:
        for need in choices:
            if need.total_bytes <= free_bytes:
                return need
        return min(choices, key=lambda need: need.total_bytes)
    return choices[0]
