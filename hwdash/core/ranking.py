"""Devices in order of preference, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a device is expected to do with a prompt, in seconds, tokens per second and joules; None where unknown.

    ``answer_s`` is all of it: the wait behind others, a cold start, the first token (``ttft_s``) and the rest of the
    answer. ``measured`` is true where it rests on ``samples`` answers of this model on this device, with a mean
    deviation of ``spread`` (a share of the value); otherwise it is an estimate from memory bandwidth and model bytes.
    """

    ttft_s: float | None = None
    tokens_per_s: float | None = None
    answer_s: float | None = None
    wait_s: float = 0.0
    cold_start_s: float = 0.0
    joules_per_token: float | None = None
    measured: bool = False
    samples: int = 0
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class RankedDevice:
    """One suitable device: ``score`` 0 to 1, the parts it is made of, why, in words and numbers, and what to expect."""

    device: str
    score: float
    parts: Mapping[str, float]
    why: tuple[str, ...]
    expected: Expectation | None = None


@dataclass(frozen=True, slots=True)
class ExcludedDevice:
    """One device that cannot take the request, and why, in words and numbers."""

    device: str
    why: tuple[str, ...]


def nothing_text(excluded: Sequence[ExcludedDevice]) -> str:
    """One line that says why there is no suitable device, where *excluded* are all there are."""
    if not excluded:
        return "no device was found; `hwdash status` says what is missing"
    reasons = "; ".join(f"{item.device}: {', '.join(item.why)}" for item in excluded)
    return f"no device is suitable ({reasons}); ask for less, or see `hwdash devices`"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order under a policy. ``ranked`` is best first; every device stands in exactly one of the two lists.

    ``requirements`` are what was asked for, under the names of the command's options; ``model`` is the model that
    counted, also where nobody asked for it, and missing where none did. ``weights`` are what each part,
    0 to 1, contributes to a score.
    """

    policy: str
    requirements: Mapping[str, object]
    ranked: tuple[RankedDevice, ...]
    excluded: tuple[ExcludedDevice, ...]
    weights: Mapping[str, float] = field(default_factory=dict)


def order_text(ranking: Ranking) -> str:
    """Why a device stands behind one of a lower score, in one sentence; empty where the scores, as they are shown, fall."""
    scores = [round(item.score, 3) for item in ranking.ranked]
    if all(first >= second for first, second in pairwise(scores)):
        return ""
    return "Close scores keep the order they had: a device overtakes another only with a clear lead."
