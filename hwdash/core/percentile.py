"""Percentiles by the nearest-rank method: always a value that was measured, never one between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Number = TypeVar("Number", int, float)


def nearest_rank(ordered: Sequence[Number], percent: int) -> Number:
    """The smallest value of *ordered* (rising, not empty) that at least *percent* (1 to 100) of them do not exceed."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
