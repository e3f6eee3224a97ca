"""Devices in order of preference, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankedDevice:
    """One suitable device: ``score`` 0 to 1, the parts it is made of, and why, in words and numbers."""

    device: str
    score: float
    parts: Mapping[str, float]
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExcludedDevice:
    """One device that cannot take the request, and why, in words and numbers."""

    device: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order under a policy. ``ranked`` is best first; every device stands in exactly one of the two lists."""

    policy: str
    requirements: Mapping[str, object]
    ranked: tuple[RankedDevice, ...]
    excluded: tuple[ExcludedDevice, ...]
