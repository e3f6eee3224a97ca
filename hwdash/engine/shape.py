"""How large a checkpoint is, by its own metadata: the headers of its weight files and its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwdash.core.errors import ModelError
from hwdash.core.model import ModelShape
from hwdash.engine.checkpoint import read_checkpoint


def read_shape(directory: Path) -> ModelShape | None:
    """The shape of the checkpoint in *directory*; None where its configuration does not tell. Raises `ModelError`."""
    checkpoint = read_checkpoint(directory)
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        raise ModelError(f"{directory / 'config.json'} cannot be read") from None
    return shape_of(config, checkpoint.parameters)


def shape_of(config: Mapping[str, Any], parameters: int) -> ModelShape | None:
    """The shape that a ``config.json`` describes, with *parameters* counted elsewhere; None where it lacks a number.

    The text part of a model with several parts counts. Grouped key-value heads and an explicit ``head_dim`` are as in
    transformers' configurations: without them every head has keys of its own, ``hidden_size / heads`` wide.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = text
    layers, heads = _count(config, "num_hidden_layers"), _count(config, "num_attention_heads")
    hidden = _count(config, "hidden_size")
    if layers is None or heads is None or hidden is None:
        return None
    width = _count(config, "head_dim") or hidden // heads
    groups = _count(config, "num_key_value_heads") or heads
    return ModelShape(parameters, layers, 2 * layers * groups * width, _count(config, "max_position_embeddings"))


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
