"""The options that say what a device must have for a prompt, and how the suitable ones are ordered."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hwdash.core.device import DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.requirement import (
    MAX_CONTEXT,
    MAX_LATENCY_S,
    MAX_POWER_W,
    Policy,
    Requirements,
    parse_features,
    parse_kinds,
)
from hwdash.core.size import parse_size
from hwdash.core.text import sanitise_line

T = TypeVar("T")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""A number as people write it: `float` also takes ``1_000`` and the digits of every script."""


def add_requirements(parser: argparse.ArgumentParser) -> None:
    """Add the requirement options, all but ``--model``. `requirements_of` reads them."""
    group = parser.add_argument_group("requirements")
    group.add_argument("--min-memory", metavar="SIZE", help="must be free in one memory pool, such as 40GiB")
    group.add_argument(
        "--require",
        action="append",
        metavar="WORDS",
        help=f"what the hardware must compute: {', '.join(ITEM_BYTES)}, or a compute capability such as cc8.9",
    )
    group.add_argument("--max-power", metavar="WATTS", help="the most that the device may draw under load")
    group.add_argument("--max-latency", metavar="SECONDS", help="the longest expected time to first token")
    group.add_argument(
        "--kind", action="append", metavar="KINDS", help=f"only these: {', '.join(kind.value for kind in DeviceKind)}"
    )
    group.add_argument("--prefer-low-power", action="store_true", help="of the suitable devices, those that draw less")
    group.add_argument(
        "--policy",
        metavar="POLICY",
        help=f"what counts most: {', '.join(policy.value for policy in Policy)} (default {Policy.BALANCED.value})",
    )
    group.add_argument("--context", metavar="TOKENS", help="tokens of context that the model must have room for")


def requirements_of(parsed: argparse.Namespace, model: str | None = None) -> Requirements:
    """What the options ask for, and what *model* needs where one is given.

    Raises `UsageError` that names the option and what it takes.
    """
    return Requirements(
        min_memory_bytes=None if parsed.min_memory is None else parse_size(parsed.min_memory, "--min-memory"),
        features=_listed("--require", parsed.require, parse_features, "bf16,fp8"),
        max_power_w=_number("--max-power", parsed.max_power, MAX_POWER_W, "watts"),
        max_latency_s=_number("--max-latency", parsed.max_latency, MAX_LATENCY_S, "seconds"),
        kinds=_listed("--kind", parsed.kind, parse_kinds, "gpu,npu"),
        prefer_low_power=parsed.prefer_low_power,
        policy=_policy(parsed.policy),
        model=model,
        context_tokens=_context(parsed.context),
    )


def _listed(
    flag: str, given: list[str] | None, parse: Callable[[list[str]], tuple[T, ...]], example: str
) -> tuple[T, ...]:
    """The words of an option with commas, which may be given more than once."""
    if given is None:
        return ()
    words = [word for text in given for word in text.split(",")]
    if any(not word.strip() for word in words):
        raise UsageError(f"{flag}: a word is missing; write for example {flag} {example}", param=flag)
    try:
        return parse(words)
    except UsageError as error:
        raise UsageError(f"--{error.message}", param=flag) from None


def _number(flag: str, text: str | None, most: float, unit: str) -> float | None:
    if text is None:
        return None
    value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not 0.0 < value <= most:
        raise UsageError(f"{flag} must be {unit} above 0 and at most {most:,.0f}, not {_shown(text)}", param=flag)
    return value


def _context(text: str | None) -> int | None:
    if text is None:
        return None
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if not 1 <= value <= MAX_CONTEXT:
        raise UsageError(f"--context must be tokens between 1 and {MAX_CONTEXT:,}, not {_shown(text)}", param="context")
    return value


def _policy(text: str | None) -> Policy:
    names = {policy.value: policy for policy in Policy}
    if text is None:
        return Policy.BALANCED
    if (policy := names.get(text.strip().lower())) is None:
        raise UsageError(f"--policy: unknown policy {_shown(text)}; there are: {', '.join(names)}", param="policy")
    return policy


def _shown(text: str) -> str:
    return repr(sanitise_line(text, 40))


def model_name(name: str) -> str:
    """The value of ``--model``, a checkpoint directory made absolute, because the daemon runs elsewhere.

    Raises `UsageError` when it is empty.
    """
    if not name.strip():
        raise UsageError("--model is empty; name a model, such as those of: hwdash models list", param="model")
    path = Path(name).expanduser()
    return str(path.absolute()) if name.startswith((".", "/", "~")) else name
