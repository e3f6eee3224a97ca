"""One counted step of a measuring task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What took ``seconds``: a copy, a product, a prompt read, a token of every sequence. Counts are as in `Measured`."""

    seconds: float
    tokens: int = 0
    bytes: int = 0
    flops: float = 0.0


class Unfit(Exception):
    """The task cannot run with this model on this device; the message is a sentence with numbers."""
