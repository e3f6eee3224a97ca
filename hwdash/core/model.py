"""The models that can be prompted, what they need, and how one comes to this machine."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.precision import ITEM_BYTES

SYNTHETIC = "synthetic:"
"""The beginning of the names of models with drawn weights; a shape or the absolute path of a configuration follows."""
SYNTHETIC_SHAPES = (
    "gpt-oss-20b",
    "gpt-oss-120b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "mistral-7b",
    "qwen3-0.6b",
    "qwen3-8b",
    "qwen3-30b-a3b",
    "smollm2-135m",
    "smollm2-360m",
)
"""The shapes that hwdash knows by name."""


def is_synthetic(model: str) -> bool:
    """Whether *model* names one with drawn weights, for which nothing is fetched."""
    return model.startswith(SYNTHETIC)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of the store. ``size_bytes`` counts its files; ``ready`` is false while a pull was not finished."""

    name: str
    path: str
    size_bytes: int
    ready: bool
    source: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a checkpoint's own metadata says of its size.

    ``parameters`` are all numbers of its tensors, ``layers`` its decoder layers. ``cache_values_per_token`` are the
    keys and values that one token of context keeps (2 x layers x key-value heads x head width). ``context_length`` is
    the longest context, None where it is not told. ``active_parameters`` are those that one token reads: fewer than
    all in a mixture of experts, None where that is not known.
    """

    parameters: int
    layers: int
    cache_values_per_token: int
    context_length: int | None = None
    active_parameters: int | None = None

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of the weights in *dtype*."""
        return self.parameters * ITEM_BYTES[dtype]

    def read_bytes(self, dtype: str) -> int:
        """Bytes of weights that one token has to read from memory."""
        return (self.active_parameters or self.parameters) * ITEM_BYTES[dtype]

    def cache_bytes(self, dtype: str, tokens: int) -> int:
        """Bytes of the keys and values of *tokens* tokens."""
        return self.cache_values_per_token * ITEM_BYTES[dtype] * self.context(tokens)

    def context(self, tokens: int) -> int:
        """*tokens*, or the model's own context where that is shorter."""
        return tokens if self.context_length is None else min(tokens, self.context_length)


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is: the step in words, 0 to 1 within all steps (None: unknown), and the model once it is there."""

    step: str
    progress: float | None = None
    done: ModelInfo | None = None
