"""Attention over the kept keys and values of one sequence, with sliding windows and sinks, on any device."""

from __future__ import annotations

import torch
from torch.nn import functional

from hwdash.engine.worker.network import Layer
from hwdash.engine.worker.operation import Heads


def attention_of_one(queries: torch.Tensor, kept: torch.Tensor, first: int, layer: Layer, size: Heads) -> torch.Tensor:
    """What *queries* (``[T, heads, width]``), the first at position *first*, see of *kept*: ``[T, heads * width]``.

    *kept* is ``[first + T, 2 * groups, width]``: keys, then values of all tokens up to the last query.
    """
    count = queries.shape[0]
    start = 0
    if layer.window is not None:
        start = max(0, first + 1 - layer.window)
        kept = kept[start:]
    # Query heads that share a key-value head stand in rows of one product: no key is copied for them.
    folded = queries.view(count, size.groups, -1, size.width)
    folded = folded.permute(1, 2, 0, 3).reshape(size.groups, -1, size.width)
    keys, values = kept[:, : size.groups].transpose(0, 1), kept[:, size.groups :].transpose(0, 1)
    mask = None if count == 1 else _mask(count, first, start, layer.window, kept.shape[0], queries.device)
    shared = size.queries // size.groups
    if layer.sinks is None:
        whole = None if mask is None else mask.repeat(shared, 1)
        seen = functional.scaled_dot_product_attention(folded[None], keys[None], values[None], whole)[0]
    else:
        seen = _with_sinks(folded, keys, values, mask, layer.sinks.view(size.groups, shared), count)
    return seen.view(size.groups, shared, count, size.width).permute(2, 0, 1, 3).reshape(count, -1)


def _mask(count: int, first: int, start: int, window: int | None, length: int, device: torch.device) -> torch.Tensor:
    """Which of *length* keys, the first at position *start*, each of *count* queries from *first* on may see."""
    own = torch.arange(first, first + count, device=device)[:, None]
    theirs = torch.arange(start, start + length, device=device)[None]
    seen = theirs <= own
    return seen if window is None else seen & (theirs > own - window)


def _with_sinks(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    sinks: torch.Tensor,
    count: int,
) -> torch.Tensor:
    groups, shared = sinks.shape
    scores = (queries @ keys.transpose(1, 2)) * queries.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.view(groups, shared, count, -1).masked_fill(~mask, float("-inf")).view(scores.shape)
    extra = sinks[:, :, None].expand(groups, shared, count).reshape(groups, -1, 1).to(scores.dtype)
    weights = torch.cat((scores, extra), dim=-1).softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    return weights[..., :-1] @ values
