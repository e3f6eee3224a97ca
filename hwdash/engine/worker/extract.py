"""The weights of a transformers model as a `Network` of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from hwdash.engine.worker.expert import ExpertFeed, TopRouter, clamped_gate, silu_gate
from hwdash.engine.worker.linear import Dense, Linear
from hwdash.engine.worker.network import Feed, GatedFeed, Layer, Network
from hwdash.engine.worker.operation import Heads
from hwdash.engine.worker.parallel import Group

Hold: TypeAlias = Callable[[torch.Tensor, torch.Tensor | None], Linear]
"""How weights ``[out, in]`` with an optional bias are held."""

_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gpt_oss"})
"""Model types, as their configurations name them, whose forward pass is the one of `Network`; tests compare each."""
_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings whose frequencies are the same at every position."""
_ACTIVATIONS = frozenset({"silu", "swish"})


def reason_against(model: Any) -> str:
    """Why *model*, a causal language model of transformers, has no `Network`; empty where it has one."""
    config = model.config
    if config.model_type not in _FAMILIES:
        return f"hwdash has no forward pass of its own for {config.model_type}"
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rotation not in _ROTATIONS:
        return f"its positions are embedded by {rotation}"
    if getattr(config, "hidden_act", "silu") not in _ACTIVATIONS:
        return f"its activation is {config.hidden_act}"
    if getattr(config, "quantization_config", None) is not None:
        return "its weights are quantized in a way of their own"
    if getattr(config, "mlp_bias", False):
        return "its feeds have a bias"
    kinds = {type(module.weight).__name__ for module in model.modules() if isinstance(module, torch.nn.Linear)}
    return "" if kinds <= {"Parameter"} else f"its weights are held as {', '.join(sorted(kinds))}"


def extract(model: Any, hold: Hold = Dense, group: Group | None = None) -> Network:
    """The `Network` of *model*, for which `reason_against` knows no reason. *model* loses its weights on the way.

    Layer by layer, so that no more than one layer is there twice. With a *group*, *model* has this device's part of its
    weights, as `hwdash.engine.worker.parallel.Plan` cuts them.
    """
    config, inner = model.config, model.model
    heads, groups = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if group is not None:
        heads, groups = heads // group.ranks, groups // group.ranks
    frequencies, scale = inner.rotary_emb.inv_freq.float(), float(inner.rotary_emb.attention_scaling)
    layers = []
    for number, module in enumerate(inner.layers):
        layers.append(_layer(module, heads, groups, _window(config, module), hold))
        inner.layers[number] = torch.nn.Identity()
    embedding = inner.embed_tokens.weight.detach()
    head = hold(model.lm_head.weight.detach(), None)
    norm = inner.norm
    model.lm_head = inner.embed_tokens = torch.nn.Identity()
    return Network(
        embedding,
        layers,
        norm.weight.detach(),
        head,
        Heads(heads, groups, width),
        float(norm.variance_epsilon),
        frequencies,
        scale,
        group,
    )


def _window(config: Any, module: Any) -> int | None:
    """How many tokens a layer sees, itself included; None: all before it."""
    if config.model_type == "mistral":
        return config.sliding_window
    return getattr(module.self_attn, "sliding_window", None)


def _layer(module: Any, heads: int, groups: int, window: int | None, hold: Hold) -> Layer:
    attention = module.self_attn
    qkv = _joined((attention.q_proj, attention.k_proj, attention.v_proj), hold)
    head_norm = None
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
        head_norm = torch.cat((query.expand(heads, -1), key.expand(groups, -1)))
    sinks = attention.sinks.detach() if hasattr(attention, "sinks") else None
    return Layer(
        module.input_layernorm.weight.detach(),
        qkv,
        head_norm,
        _joined((attention.o_proj,), hold),
        sinks,
        window,
        module.post_attention_layernorm.weight.detach(),
        _feed(module.mlp, hold),
    )


def _feed(module: Any, hold: Hold) -> Feed:
    if not hasattr(module, "experts"):
        return GatedFeed(_joined((module.gate_proj, module.up_proj), hold), _joined((module.down_proj,), hold))
    experts = module.experts
    gate_up, down = experts.gate_up_proj.detach(), experts.down_proj.detach()
    if hasattr(module, "router"):  # gpt-oss
        router = TopRouter(module.router.weight.detach(), module.router.bias.detach(), module.router.top_k, after=True)
        gate = clamped_gate(float(experts.alpha), float(experts.limit))
        biases = experts.gate_up_proj_bias.detach(), experts.down_proj_bias.detach()
        return ExpertFeed(router, gate_up, biases[0], down, biases[1], gate)
    picks = module.gate
    router = TopRouter(picks.weight.detach(), None, picks.top_k, after=False, renormalise=bool(picks.norm_topk_prob))
    return ExpertFeed(router, gate_up.transpose(1, 2), None, down.transpose(1, 2), None, silu_gate)


def _joined(modules: tuple[Any, ...], hold: Hold) -> Linear:
    """The matrices of *modules* as one, whose rows of outputs follow each other; the modules lose theirs."""
    weights = [module.weight.detach() for module in modules]
    biases = [module.bias.detach() for module in modules if module.bias is not None]
    for module in modules:
        module.weight = None
        module.bias = None
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None if not biases else biases[0] if len(biases) == 1 else torch.cat(biases)
    return hold(weight, bias)
