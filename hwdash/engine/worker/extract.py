"""The weights of a transformers model as a `Network` of our own."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from hwdash.engine.worker.assembly import Build, Hold, Source, assemble
from hwdash.engine.worker.expert import ExpertFeed, TopRouter, clamped_gate, silu_gate
from hwdash.engine.worker.linear import Dense
from hwdash.engine.worker.network import Network
from hwdash.engine.worker.operation import Heads
from hwdash.engine.worker.parallel import Group
from hwdash.engine.worker.rope import ROTATIONS

_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gpt_oss"})
"""Model types, as their configurations name them, whose forward pass is the one of `Network`; tests compare each."""
ACTIVATIONS = frozenset({"silu", "swish"})


def reason_against(model: Any) -> str:
    """Why *model*, a causal language model of transformers, has no `Network`; empty where it has one."""
    config = model.config
    if config.model_type not in _FAMILIES:
        return f"hwdash has no forward pass of its own for {config.model_type}"
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rotation not in ROTATIONS:
        return f"its positions are embedded by {rotation}"
    if getattr(config, "hidden_act", "silu") not in ACTIVATIONS:
        return f"its activation is {config.hidden_act}"
    if getattr(config, "quantization_config", None) is not None:
        return "its weights are quantized in a way of their own"
    if getattr(config, "mlp_bias", False):
        return "its feeds have a bias"
    kinds = {type(module.weight).__name__ for module in model.modules() if isinstance(module, torch.nn.Linear)}
    return "" if kinds <= {"Parameter"} else f"its weights are held as {', '.join(sorted(kinds))}"


def extract(model: Any, hold: Hold = Dense, group: Group | None = None) -> Network:
    """The `Network` of *model*, for which `reason_against` knows no reason. *model* loses its weights on the way.

    With a *group*, *model* has this device's part of its weights, as `hwdash.engine.worker.parallel.Plan` cuts them.
    """
    config, inner = model.config, model.model
    heads, groups = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if group is not None:
        heads, groups = heads // group.ranks, groups // group.ranks
    build = Build(
        Heads(heads, groups, width),
        [_window(config, module) for module in inner.layers],
        float(inner.norm.variance_epsilon),
        inner.rotary_emb.inv_freq.float(),
        float(inner.rotary_emb.attention_scaling),
        partial(_expert_feed, model) if hasattr(inner.layers[0].mlp, "experts") else None,
    )
    return assemble(_Tree(model), build, hold, group)


class _Tree:
    """The parameters of a tree of modules as a `Source`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def has(self, name: str) -> bool:
        """Whether there is a parameter *name*."""
        path, _, key = name.rpartition(".")
        try:
            return getattr(self._model.get_submodule(path), key, None) is not None
        except AttributeError:
            return False

    def take(self, name: str) -> torch.Tensor:
        """The parameter *name*, which its module loses."""
        path, _, key = name.rpartition(".")
        module = self._model.get_submodule(path)
        weight: torch.Tensor = getattr(module, key).detach()
        setattr(module, key, None)
        return weight


def _window(config: Any, module: Any) -> int | None:
    """How many tokens a layer sees, itself included; None: all before it."""
    if config.model_type == "mistral":
        return config.sliding_window
    return getattr(module.self_attn, "sliding_window", None)


def _expert_feed(model: Any, source: Source, prefix: str) -> ExpertFeed:
    module = model.get_submodule(f"{prefix}mlp")
    path = f"{prefix}mlp.experts."
    gate_up, down = source.take(f"{path}gate_up_proj"), source.take(f"{path}down_proj")
    if hasattr(module, "router"):  # gpt-oss
        weight, bias = (source.take(f"{prefix}mlp.router.{key}") for key in ("weight", "bias"))
        router = TopRouter(weight, bias, module.router.top_k, after=True)
        gate = clamped_gate(float(module.experts.alpha), float(module.experts.limit))
        biases = source.take(f"{path}gate_up_proj_bias"), source.take(f"{path}down_proj_bias")
        return ExpertFeed(router, gate_up, biases[0], down, biases[1], gate)
    picks = module.gate
    weight = source.take(f"{prefix}mlp.gate.weight")
    router = TopRouter(weight, None, picks.top_k, after=False, renormalise=bool(picks.norm_topk_prob))
    return ExpertFeed(router, gate_up.transpose(1, 2), None, down.transpose(1, 2), None, silu_gate)
