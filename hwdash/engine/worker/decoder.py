"""The seam inside a worker: what computes the tokens of several sequences of one model, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hwdash.core.errors import EngineError

DAMAGED = -1
"""Stands for a token where the model computed NaN or infinity."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens of a sequence are picked: the likeliest at temperature 0, else drawn by temperature and top-p.

    The same ``seed`` gives the same tokens on the same device, whoever else is computed at the same time, up to rounding:
    kernels for several rows may round otherwise than those for one, and where two tokens are all but equally likely that
    decides. ``endless``: it goes on after a token that ends an answer, as measuring needs it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    endless: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """Sequence ``number`` got ``token`` (or `DAMAGED`) at ``at_s`` of ``CLOCK_MONOTONIC``."""

    number: int
    token: int
    at_s: float


class SequenceFailed(Exception):
    """The step of sequence ``number`` failed, and that of no other one; the reason is ``__cause__``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the step of sequence {number} failed")
        self.number = number


class BeyondRepair(EngineError):
    """The decoder computes nothing any more; the message says why. The process has to begin anew."""


class Decoder(Protocol):
    """Computes tokens of up to ``slots`` sequences at once. All calls come from one thread.

    ``kind`` names the way of decoding (``graph``, ``eager``, ``library``); ``choices`` say in words why it is that one,
    and why its implementations of attention, experts and weights. ``capture_s`` is how long the last capture of a graph
    took, None where nothing is captured.
    """

    kind: str
    slots: int
    choices: tuple[str, ...]
    capture_s: float | None

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence that gets at most *limit* tokens after *prompt*; gives its number, never used before.

        Raises `DeviceFull` where there is no room for its keys and values, now or ever.
        """
        ...

    def read(self, number: int) -> bool:
        """Read the next bounded chunk of the prompt; True when all of it is read, and `advance` will give tokens."""
        ...

    def advance(self) -> Sequence[Made]:
        """Begin the next step of all sequences that are read, and give the tokens of steps that are done.

        A decoder may be a step ahead of what it gives: the tokens of a step can come with the call after it. Each
        sequence that is read and has tokens left gets its tokens in order, one at most with each call. An error leaves
        every sequence where it was: the call can be made again when some are closed. After a token that ends an answer a
        decoder may give no more of that sequence, unless it is ``endless``. Where the decoder knows whose step
        it was, it raises `SequenceFailed`; where nothing can be computed after it, `BeyondRepair`.
        """
        ...

    def close(self, number: int) -> None:
        """Let go of a sequence, whether it is finished or not. What was still to be given of it is dropped."""
        ...

    def idle(self) -> bool:
        """Called when no sequence is open: the time for a bounded piece of work that would hold sequences up.

        True where more is put off, for which it should be called again.
        """
        ...

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes of weights, keys and values that one step reads for *batch* sequences with *context* tokens each."""
        ...
