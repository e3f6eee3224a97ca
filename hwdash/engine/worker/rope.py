"""Rotary embeddings from a configuration: how fast the angle of each pair of numbers in a head turns with the position.

The plain ones are those of Su et al. (RoFormer, arXiv 2104.09864): pair *i* of a head *width* numbers wide turns by
``theta ** (-2 i / width)`` each token. The others are made of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})
"""Those whose frequencies are the same at every position."""
_NEEDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}


def rotation_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The parameters of the rotary embedding that *config* names, in either spelling, and what is against using them.

    Spellings are ``rope_parameters``, and the older ``rope_theta`` with ``rope_scaling``. What is against them is empty
    as a rule; else the parameters mean nothing.
    """
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new:
        return {}, "its positions are described twice"
    given = old or new or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        return {}, "its positions are embedded in several ways"
    found = {key: value for key, value in given.items() if value is not None}
    kind = found["rope_type"] = str(found.get("rope_type", found.get("type", "default")))
    if kind not in ROTATIONS:
        return {}, f"its positions are embedded by {kind}"
    found.setdefault("rope_theta", config.get("rope_theta"))
    if config.get("original_max_position_embeddings") is not None:
        found["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    found.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    needed = ["rope_theta", *_NEEDS[kind]]
    if kind in {"llama3", "yarn"}:
        needed.append("original_max_position_embeddings")
    if lacking := [key for key in needed if not _is_positive(found.get(key))]:
        return {}, f"its configuration gives no {lacking[0]}"
    if found["rope_theta"] <= 1 or (kind == "llama3" and found["high_freq_factor"] <= found["low_freq_factor"]):
        return {}, "its positions are embedded in no way that makes sense"
    for holder in (config, found):
        if holder.get("partial_rotary_factor", 1.0) not in (None, 1.0):
            return {}, "only part of each head is turned"
    return found, ""


def frequencies(rotation: Mapping[str, Any], width: int) -> tuple[torch.Tensor, float]:
    """The angle by which each of ``width / 2`` pairs turns a token, and what cosines and sines are multiplied by.

    *rotation* is what `rotation_of` gave.
    """
    turning = 1.0 / (float(rotation["rope_theta"]) ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    match rotation["rope_type"]:
        case "linear":
            return turning / rotation["factor"], 1.0
        case "llama3":
            return _by_wavelength(turning, rotation), 1.0
        case "yarn":
            return _yarn(turning, width, rotation), _yarn_scale(rotation)
    return turning, 1.0


def _by_wavelength(turning: torch.Tensor, rotation: Mapping[str, Any]) -> torch.Tensor:
    """Those of Llama 3.1: long waves are stretched by a factor, short ones are not, and there is a ramp between.

    https://github.com/meta-llama/llama-models (``apply_scaling`` in ``models/llama3/model.py``).
    """
    factor, low, high = (rotation[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = rotation["original_max_position_embeddings"] * turning / (2 * math.pi)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * turning / factor + smooth * turning


def _yarn(turning: torch.Tensor, width: int, rotation: Mapping[str, Any]) -> torch.Tensor:
    """Those of YaRN (Peng et al., arXiv 2309.00071, section 3.2): pairs that turn seldom within the context of the
    training are stretched, those that turn often are not.
    """
    theta, context = float(rotation["rope_theta"]), rotation["original_max_position_embeddings"]

    def pair(turns: float) -> float:
        """The pair (not a whole number) that makes so many *turns* within the context of the training."""
        return width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(rotation.get("beta_fast") or 32), pair(rotation.get("beta_slow") or 1)
    if rotation.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    if first == last:
        last += 0.001
    ramp = ((torch.arange(width // 2, dtype=torch.float32) - first) / (last - first)).clamp(0, 1)
    return turning / rotation["factor"] * ramp + turning * (1 - ramp)


def _yarn_scale(rotation: Mapping[str, Any]) -> float:
    """The temperature of attention of YaRN (equation 22 there), or as the configuration says."""
    given = rotation.get("attention_factor")
    if given is not None:
        return float(given)

    def scale(weight: float) -> float:
        factor = rotation["factor"]
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    over, under = rotation.get("mscale"), rotation.get("mscale_all_dim")
    return scale(over) / scale(under) if over and under else scale(1.0)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
