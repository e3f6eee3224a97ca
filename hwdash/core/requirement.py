"""What a prompt needs of a device, and by which policy the device is picked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hwdash.core.device import DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.text import sanitise_line

MAX_POWER_W = 100_000.0
MAX_LATENCY_S = 86_400.0
MAX_CONTEXT = 100_000_000
_COMPUTE = re.compile(r"cc(\d{1,2})\.(\d{1,2})", re.ASCII)


class Policy(StrEnum):
    """What a ranking is after: a bit of all, the quickest answer, the most tokens a second, the least energy a token."""

    BALANCED = "balanced"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    EFFICIENCY = "efficiency"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a device must have, and how the suitable ones are ordered.

    ``min_memory_bytes`` must be free in one pool. ``features`` are precisions (``bf16``) and least compute
    capabilities (``cc8.9``), all of which the hardware must have. ``max_power_w`` bounds what the device may draw
    under load, ``max_latency_s`` the expected time to first token. ``kinds`` empty: any. ``model`` adds what that
    model needs, with room for ``context_tokens`` (None: `DEFAULT_CONTEXT`, or less where the model reads less).
    """

    min_memory_bytes: int | None = None
    features: tuple[str, ...] = ()
    max_power_w: float | None = None
    max_latency_s: float | None = None
    kinds: tuple[DeviceKind, ...] = ()
    prefer_low_power: bool = False
    policy: Policy = Policy.BALANCED
    model: str | None = None
    context_tokens: int | None = None


NO_REQUIREMENTS = Requirements()
DEFAULT_CONTEXT = 4096
"""Tokens of context that a model's memory need is reckoned with where nobody says how many."""


def parse_features(names: Iterable[str]) -> tuple[str, ...]:
    """The features among *names*, each once. Raises `UsageError` for a word that is none."""
    found: dict[str, None] = {}
    for name in names:
        word = name.strip().lower()
        if word not in ITEM_BYTES and _COMPUTE.fullmatch(word) is None:
            choices = f"{', '.join(ITEM_BYTES)}, or a least compute capability such as cc8.9"
            raise UsageError(
                f"require: unknown feature {sanitise_line(name, 40)!r}; there are: {choices}", param="require"
            )
        found[word] = None
    return tuple(found)


def compute_capability(text: str) -> tuple[int, int] | None:
    """The numbers of a compute capability, written ``cc8.9`` or ``8.9``; None where *text* is none."""
    match = _COMPUTE.fullmatch(text if text.startswith("cc") else f"cc{text}")
    return None if match is None else (int(match[1]), int(match[2]))


def parse_kinds(names: Iterable[str]) -> tuple[DeviceKind, ...]:
    """The kinds among *names*, each once. Raises `UsageError` for a word that is none."""
    known = {kind.value: kind for kind in DeviceKind}
    found: dict[DeviceKind, None] = {}
    for name in names:
        if (kind := known.get(name.strip().lower())) is None:
            raise UsageError(
                f"kind: unknown kind {sanitise_line(name, 40)!r}; there are: {', '.join(known)}", param="kind"
            )
        found[kind] = None
    return tuple(found)


def requirements_to_wire(requirements: Requirements) -> dict[str, Any]:
    """*requirements* as JSON under the names of the command's options; what was not asked for is left out."""
    data: dict[str, Any] = {
        "min_memory": requirements.min_memory_bytes,
        "require": list(requirements.features) or None,
        "max_power": requirements.max_power_w,
        "max_latency": requirements.max_latency_s,
        "kind": [kind.value for kind in requirements.kinds] or None,
        "prefer_low_power": requirements.prefer_low_power or None,
        "policy": requirements.policy.value if requirements.policy is not Policy.BALANCED else None,
        "model": requirements.model,
        "context": requirements.context_tokens,
    }
    return {name: value for name, value in data.items() if value is not None}
