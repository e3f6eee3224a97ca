"""A `Network` out of named weights, wherever they come from: the one place that knows the layers of these models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch

from hwdash.engine.worker.linear import Dense, Linear
from hwdash.engine.worker.network import Feed, GatedFeed, Layer, Network
from hwdash.engine.worker.operation import Heads
from hwdash.engine.worker.parallel import Group

Hold: TypeAlias = Callable[[torch.Tensor, torch.Tensor | None], Linear]
"""How weights ``[out, in]`` with an optional bias are held."""

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
OUT = "self_attn.o_proj"
GATE_UP, DOWN = ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_SINKS = "self_attn.sinks"


class Source(Protocol):
    """Weights by the names that transformers gives them."""

    def has(self, name: str) -> bool:
        """Whether there is a weight *name*."""
        ...

    def take(self, name: str) -> torch.Tensor:
        """The weight *name*, on its device; the source lets go of it, and it is taken once."""
        ...


@dataclass(frozen=True, slots=True)
class Build:
    """What a network is apart from its weights. ``windows`` has how far each layer sees, None: all before it.

    ``scale`` is what cosines and sines of the ``frequencies`` are multiplied by. ``feed`` makes the feed of the layer
    whose names begin with its second argument; None: gate, up and down.
    """

    heads: Heads
    windows: Sequence[int | None]
    epsilon: float
    frequencies: torch.Tensor
    scale: float
    feed: Callable[[Source, str], Feed] | None = None


def layer_name(number: int) -> str:
    """What the names of the weights of layer *number* begin with."""
    return f"model.layers.{number}."


def assemble(source: Source, build: Build, hold: Hold = Dense, group: Group | None = None) -> Network:
    """The `Network` of the weights in *source*, matrices as *hold* holds them.

    Matrix by matrix, so that no more than those of one product are there twice. Without a head of its own the embedding
    is the head, too. With a *group* the weights are this device's part, and so are the heads of *build*.
    """
    layers = [_layer(source, layer_name(number), build, window, hold) for number, window in enumerate(build.windows)]
    embedding = source.take(EMBEDDING)
    head = hold(source.take(HEAD) if source.has(HEAD) else embedding, None)
    norm = source.take(NORM)
    return Network(embedding, layers, norm, head, build.heads, build.epsilon, build.frequencies, build.scale, group)


def _layer(source: Source, prefix: str, build: Build, window: int | None, hold: Hold) -> Layer:
    heads = build.heads
    norm, feed_norm = (source.take(prefix + name) for name in NORMS)
    qkv = _joined(source, [prefix + name for name in QKV], hold)
    head_norm = None
    if source.has(prefix + HEAD_NORMS[0]):
        query, key = (source.take(prefix + name) for name in HEAD_NORMS)
        head_norm = torch.cat((query.expand(heads.queries, -1), key.expand(heads.groups, -1)))
    sinks = source.take(prefix + _SINKS) if source.has(prefix + _SINKS) else None
    out = _joined(source, [prefix + OUT], hold)
    if build.feed is not None:
        feed = build.feed(source, prefix)
    else:
        gate_up = _joined(source, [prefix + name for name in GATE_UP], hold)
        feed = GatedFeed(gate_up, _joined(source, [prefix + DOWN], hold))
    return Layer(norm, qkv, head_norm, out, sinks, window, feed_norm, feed)


def _joined(source: Source, names: Sequence[str], hold: Hold) -> Linear:
    """The matrices *names* as one, whose rows of outputs follow each other."""
    weight = _stacked([source.take(f"{name}.weight") for name in names])
    biases = [source.take(f"{name}.bias") for name in names if source.has(f"{name}.bias")]
    return hold(weight, _stacked(biases) if biases else None)


def _stacked(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
