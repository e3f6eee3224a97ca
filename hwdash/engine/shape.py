"""How large a checkpoint is, by its own metadata: the headers of its weight files and its configuration."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hwdash.core.errors import ModelError
from hwdash.core.model import ModelShape
from hwdash.engine.checkpoint import read_checkpoint, read_object

_MAX_COUNT = 100_000_000
_MAX_LAYERS = 100_000
_KEPT = 256

_OTHER_MEMORY = re.compile(
    r"attn_layer_|attention_interval|full_attention_interval|block_configs|block_types|conv_|global_head_dim|hybrid_"
    r"|is_encoder_decoder|kv_lora_rank|layers_block_type|linear_(?:conv|key|num|value)_|mamba|multi_query|num_kv_heads|rwkv|ssm|state_size"
    r"|num_global_key_value_heads"
)
"""Beginnings of keys whose models keep something else of a token than keys and values of equal width in each layer."""
_LAYERS_WITH_KEYS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

_Fingerprint: TypeAlias = tuple[tuple[str, int, int], ...]


def read_shape(directory: Path) -> ModelShape | None:
    """The shape of the checkpoint in *directory*; None where its configuration does not tell. Raises `ModelError`."""
    checkpoint = read_checkpoint(directory)
    config = read_object(directory / "config.json")
    return shape_of(config, checkpoint.parameters, checkpoint.expert_parameters)


def shape_of(config: Mapping[str, Any], parameters: int, expert_parameters: int = 0) -> ModelShape | None:
    """The shape that a ``config.json`` describes, with *parameters* counted elsewhere; None where it does not tell.

    The text part of a model with several parts counts. Grouped key-value heads and an explicit ``head_dim`` are as in
    transformers' configurations: without them every head has keys of its own, ``hidden_size / heads`` wide. A layer
    with a sliding window is reckoned as one without, so that the cache is an upper bound. Quantized weights, whose
    tensors hold several numbers in one, and models with other layers than attention have no shape.
    """
    if config.get("quantization_config") or _keeps_something_else(config):
        return None
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = text
        if config.get("quantization_config") or _keeps_something_else(config):
            return None
    layers, heads = _count(config, "num_hidden_layers"), _count(config, "num_attention_heads")
    hidden = _count(config, "hidden_size")
    if layers is None or heads is None or hidden is None or parameters <= 0 or layers > _MAX_LAYERS:
        return None
    width = _count(config, "head_dim") if config.get("head_dim") is not None else hidden // heads
    groups = _count(config, "num_key_value_heads") if config.get("num_key_value_heads") is not None else heads
    if not width or not groups or groups > heads:
        return None
    return ModelShape(
        parameters,
        layers,
        2 * layers * groups * width,
        _count(config, "max_position_embeddings"),
        _active(config, parameters, expert_parameters),
    )


class Shapes:
    """The shapes of checkpoints, each read once for as long as its files stay as they are. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[_Fingerprint, ModelShape | None]] = {}

    def of(self, directory: Path, read: Callable[[Path], ModelShape | None] | None = None) -> ModelShape | None:
        """The shape of the checkpoint in *directory*; None where there is none, or it is damaged or does not tell.

        With *read*, what it says of the file *directory* instead; it may raise `ModelError`.
        """
        try:
            fingerprint = _fingerprint(directory) if read is None else _told((directory,))
        except (OSError, ValueError):  # a path with a NUL is a ValueError
            return None
        with self._lock:
            known = self._known.get(directory)
        if known is not None and known[0] == fingerprint:
            return known[1]
        try:
            shape = (read or read_shape)(directory)
        except ModelError:
            shape = None
        with self._lock:
            self._known.pop(directory, None)
            while len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[directory] = fingerprint, shape
        return shape


def _fingerprint(directory: Path) -> _Fingerprint:
    """Names, sizes and times of the files that a shape comes from. Raises `OSError`."""
    return _told((directory / "config.json", *sorted(directory.glob("*.safetensors*"))))


def _told(paths: Sequence[Path]) -> _Fingerprint:
    about = ((path.name, path.stat()) for path in paths)
    return tuple((name, told.st_size, told.st_mtime_ns) for name, told in about)


def _active(config: Mapping[str, Any], parameters: int, expert_parameters: int) -> int | None:
    """Parameters that one token reads of a mixture of experts: all but the experts that the router leaves out."""
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((count for name in names if (count := _count(config, name)) is not None), None)
    chosen = _count(config, "num_experts_per_tok")
    if experts is None or chosen is None or chosen > experts or not 0 < expert_parameters <= parameters:
        return None
    return parameters - expert_parameters + expert_parameters * chosen // experts


def _keeps_something_else(config: Mapping[str, Any]) -> bool:
    kinds = config.get("layer_types")
    if isinstance(kinds, list | tuple):
        if not all(isinstance(kind, str) and kind in _LAYERS_WITH_KEYS for kind in kinds):
            return True
    elif kinds is not None:
        return True
    return any(
        isinstance(key, str) and _OTHER_MEMORY.match(key) and value not in (None, False)
        for key, value in config.items()
    )


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_COUNT else None
