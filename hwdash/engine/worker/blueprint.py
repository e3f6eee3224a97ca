"""What a configuration says of a network: its sizes, and the name and shape of every weight.

Only what leaves no doubt: a configuration that leaves something to the library's own defaults is left to the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from hwdash.engine.worker.assembly import (
    DOWN,
    EMBEDDING,
    GATE_UP,
    HEAD,
    HEAD_NORMS,
    NORM,
    NORMS,
    OUT,
    QKV,
    Build,
    layer_name,
)
from hwdash.engine.worker.extract import ACTIVATIONS
from hwdash.engine.worker.operation import Heads
from hwdash.engine.worker.rope import frequencies, rotation_of

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A network without its weights. ``shapes`` has the weights it needs; the head is one of them unless it is ``tied``."""

    build: Build
    shapes: dict[str, tuple[int, ...]]
    vocabulary: int
    context_length: int
    tied: bool

    def build_on(self, device: torch.device) -> Build:
        """The build with its frequencies on *device*."""
        return replace(self.build, frequencies=self.build.frequencies.to(device))


def reason_against_config(config: Mapping[str, Any]) -> str:
    """Why the network that *config* describes has no `Blueprint`; empty where it has one."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _ARCHITECTURES:
        return f"hwdash reads no weights of {kind} itself"
    if config.get("architectures") not in (None, [_ARCHITECTURES[kind]]):
        return "it is no plain language model"
    if config.get("quantization_config") is not None:
        return "its weights are quantized in a way of their own"
    needed = [*_COUNTS, *(("head_dim",) if kind == "qwen3" else ())]
    if kind != "llama" or config.get("num_key_value_heads") is not None:
        needed.append("num_key_value_heads")
    if lacking := [key for key in needed if not _is_count(config.get(key))]:
        return f"its configuration gives no {lacking[0]}"
    if not isinstance(config.get("rms_norm_eps"), float):
        return "its configuration gives no rms_norm_eps"
    if (activation := str(config.get("hidden_act", "silu"))) not in ACTIVATIONS:
        return f"its activation is {activation}"
    if config.get("mlp_bias"):
        return "its feeds have a bias"
    return _against_attention(config, kind) or rotation_of(config)[1]


def _against_attention(config: Mapping[str, Any], kind: str) -> str:
    heads, groups = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
    width = config.get("head_dim")
    if width is not None and not _is_count(width):
        return "its configuration gives no head_dim"
    if heads % groups or (width is None and config["hidden_size"] % heads) or (width or 2) % 2:
        return "its heads do not go into its sizes"
    if kind == "mistral" and ("sliding_window" not in config or "layer_types" in config):
        return "its configuration leaves open how far its layers see"
    window = config.get("sliding_window")
    if kind == "mistral" and window is not None and not _is_count(window):
        return "its configuration gives no sliding_window"
    if kind.startswith("qwen") and config.get("use_sliding_window"):
        return "some of its layers see only part of the text"
    full = ["full_attention"] * config["num_hidden_layers"]
    if config.get("layer_types") not in (None, full):
        return "some of its layers see only part of the text"
    return ""


def blueprint_of(config: Mapping[str, Any]) -> Blueprint:
    """The network that *config* describes, against which `reason_against_config` knows no reason."""
    kind, hidden, layers = config["model_type"], config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    groups, width = config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads
    rotation, _ = rotation_of(config)
    turning, scale = frequencies(rotation, width)
    window = config["sliding_window"] if kind == "mistral" else None
    build = Build(Heads(heads, groups, width), [window] * layers, config["rms_norm_eps"], turning, scale)
    tied, vocabulary = bool(config.get("tie_word_embeddings", False)), config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (vocabulary, hidden), NORM: (hidden,)}
    if not tied:
        shapes[HEAD] = (vocabulary, hidden)
    every = _layer_shapes(config, kind, build.heads)
    for number in range(layers):
        shapes.update({layer_name(number) + name: shape for name, shape in every.items()})
    return Blueprint(build, shapes, vocabulary, config["max_position_embeddings"], tied)


def _layer_shapes(config: Mapping[str, Any], kind: str, heads: Heads) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries, keys = heads.queries * heads.width, heads.groups * heads.width
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(NORMS, (hidden,))
    for name, outputs in zip(QKV, (queries, keys, keys), strict=True):
        shapes[f"{name}.weight"] = (outputs, hidden)
        if kind == "qwen2" or (kind in {"llama", "qwen3"} and config.get("attention_bias")):
            shapes[f"{name}.bias"] = (outputs,)
    shapes[f"{OUT}.weight"] = (hidden, queries)
    if kind in {"llama", "qwen3"} and config.get("attention_bias"):
        shapes[f"{OUT}.bias"] = (hidden,)
    if kind == "qwen3":
        shapes.update(dict.fromkeys(HEAD_NORMS, (heads.width,)))
    for name in GATE_UP:
        shapes[f"{name}.weight"] = (inner, hidden)
    shapes[f"{DOWN}.weight"] = (hidden, inner)
    return shapes


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
