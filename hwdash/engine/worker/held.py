"""In which precision a network's weights are held, and how much memory they take."""

from __future__ import annotations

from hwdash.engine.worker.decoder import Decoder
from hwdash.engine.worker.eager import EagerDecoder
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.network import GatedFeed
from hwdash.engine.worker.quantized import Int8

_BESIDE = 2
"""Bytes of each weight in 8 bits that are packed beside them, for products of a few rows."""


def held(model: ReadyModel, decoder: Decoder) -> tuple[str, int]:
    """``int8`` where most weights of *model* are, else its precision; and the bytes of all its weights.

    Weights that are packed later count already, those of a mixture of experts as they were read.
    """
    if not isinstance(decoder, EagerDecoder) or model.device.type != "cpu":
        return model.dtype, model.memory_bytes
    network = decoder.network
    feeds = [layer.feed for layer in network.layers if isinstance(layer.feed, GatedFeed)]
    linears = [network.head, *(linear for layer in network.layers for linear in (layer.qkv, layer.out))]
    linears += [linear for feed in feeds for linear in (feed.gate_up, feed.down)]
    eights = [linear for linear in linears if isinstance(linear, Int8)]
    dtype = "int8" if 2 * len(eights) > len(linears) else model.dtype
    if len(feeds) < len(network.layers):
        return dtype, model.memory_bytes
    beside = sum(_BESIDE * eight.in_features * eight.out_features for eight in eights)
    return dtype, network.held_bytes + beside
