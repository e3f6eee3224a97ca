"""How fast a device should be with a model, from its memory bandwidth and the model's bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.model import ModelShape
from hwdash.routing.trait import Build

# Measured with layers run one by one from Python: a 30-layer model of 135 M parameters on a fast GPU takes 19 to 23 ms
# a token, nearly all of it the interpreter's, and about 40 ms in fp32 on two CPU cores.
ACCELERATOR_LAYER_S = 0.7e-3
HOST_LAYER_S = 0.4e-3
ATTAINED = 0.8
"""The share of a memory's peak bandwidth that reading weights attains."""
ACCELERATOR_RIDGE = 200
"""Tokens of a prompt up to which reading the weights takes longer than computing with them, on an accelerator."""
HOST_RIDGE = 16
"""The same on a CPU."""
ACCELERATOR_START_S = 10.0
"""From nothing to a worker that has a context on an accelerator, without the weights."""
HOST_START_S = 3.0
LOAD_BYTES_PER_S = 2e9
"""How fast weights come from disk or page cache to the device."""
BUSY_SHARE = 0.4
"""The share of its power limit that a device draws while it answers one prompt: 0.26 to 0.54 was measured on a GPU."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Seconds to the first token, from token to token and to load the model; ``read_bytes`` are read for each token."""

    ttft_s: float
    itl_s: float
    cold_start_s: float
    read_bytes: int


def roofline(build: Build, shape: ModelShape, dtype: str, prompt_tokens: int) -> Roofline:
    """What a device of that *build* should do with a prompt of *prompt_tokens* tokens.

    A pass over the model costs the interpreter's time for its layers and one read of the weights at `ATTAINED` of the
    memory's bandwidth; a prompt above the ridge takes as much longer as it has more tokens, for then computing is
    what takes the time.
    """
    read = shape.read_bytes(dtype)
    reading_s = read / build.bandwidth / ATTAINED
    layers_s = shape.layers * (HOST_LAYER_S if build.host else ACCELERATOR_LAYER_S)
    ridge = HOST_RIDGE if build.host else ACCELERATOR_RIDGE
    return Roofline(
        layers_s + reading_s * max(1.0, prompt_tokens / ridge),
        layers_s + reading_s,
        start_s(build) + shape.weight_bytes(dtype) / LOAD_BYTES_PER_S,
        read,
    )


def start_s(build: Build) -> float:
    """Seconds to start a worker on a device of that *build*, without the weights."""
    return HOST_START_S if build.host else ACCELERATOR_START_S
