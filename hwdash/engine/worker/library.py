"""Decoding by the library's own forward pass, one sequence after another: the way of every causal language model."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hwdash.core.errors import DeviceFull
from hwdash.core.format import bytes_text
from hwdash.engine.shape import shape_of
from hwdash.engine.worker import memory
from hwdash.engine.worker.chunk import Chunk
from hwdash.engine.worker.decoder import Made, Sampling, SequenceFailed
from hwdash.engine.worker.draw import picked
from hwdash.engine.worker.loading import ReadyModel

_FIRST_TOKENS = 256
"""Tokens of an answer that there must be room for when its sequence is taken in; most answers end before they are used up."""
_OF_AN_EXPERT = re.compile(r"(?:^|\.)experts\.")


@dataclass(slots=True, eq=False)
class _Sequence:
    """``tokens`` are the prompt and what was made, ``seen`` of them lie in ``cache``; ``left`` can still be made.

    ``logits`` are those after the last token of ``cache``. ``newest`` is the last token made, on the device, and
    ``made`` what `advance` has not given yet.
    """

    number: int
    tokens: list[int]
    left: int
    sampling: Sampling
    cache: Any
    seen: int = 0
    is_read: bool = False
    logits: torch.Tensor | None = None
    newest: torch.Tensor | None = None
    made: Made | None = None


class LibraryDecoder:
    """A `hwdash.engine.worker.decoder.Decoder` over any causal language model of transformers.

    Each sequence has a cache of its own that grows with it, so that a step reads all weights once for every sequence.
    """

    kind = "library"

    def __init__(
        self, model: ReadyModel, slots: int, choices: tuple[str, ...] = (), chunk: Chunk | None = None
    ) -> None:
        self.slots = slots
        self.choices = (*choices, *model.choices)
        self.capture_s: float | None = None
        self._model = model
        self._chunk = chunk or Chunk(model.device.type)
        self._numbers = itertools.count(1)
        self._open: dict[int, _Sequence] = {}
        self._weight_bytes = _weight_bytes(model.network)
        self._kept: tuple[tuple[float, int | None], ...] | None = None

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence; its cache grows with it. Raises `DeviceFull` with numbers where its prompt finds no room."""
        tokens = len(prompt) + min(limit, _FIRST_TOKENS)
        needed = self._cache_bytes(tokens)
        free = _room_bytes(self._model.device)
        if free is not None and needed > free:
            raise DeviceFull(
                f"{tokens} tokens need {bytes_text(needed)} for their keys and values and {bytes_text(free)} are free; "
                "use a shorter prompt, a smaller model or another device"
            )
        number = next(self._numbers)
        self._open[number] = _Sequence(number, list(prompt), limit, sampling, self._model.new_cache())
        return number

    def read(self, number: int) -> bool:
        """Read the next chunk of the prompt; True when all of it is read."""
        sequence = self._open[number]
        try:
            with torch.inference_mode():
                self._read_chunk(sequence)
        except Exception:
            self._forget(sequence)
            raise
        if sequence.seen < len(sequence.tokens):
            return False
        sequence.is_read = True
        return True

    def advance(self) -> Sequence[Made]:
        """One more token of every sequence that is read. Raises `SequenceFailed` for the one whose step failed.

        The tokens of those before it are given by the next call.
        """
        with torch.inference_mode():
            for sequence in self._open.values():
                if sequence.is_read and sequence.left > 0 and sequence.made is None:
                    self._try_step(sequence)
        made = [sequence.made for sequence in self._open.values() if sequence.made is not None]
        for sequence in self._open.values():
            sequence.made = None
        return made

    def close(self, number: int) -> None:
        """Let go of a sequence with its cache."""
        self._open.pop(number, None)

    def idle(self) -> bool:
        """Nothing is put off until then."""
        return False

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes that one step reads for *batch* sequences with *context* tokens each: all weights for every one of them.

        Of a mixture of experts those count that the router takes; of a layer with a window, the tokens inside it.
        """
        return batch * (self._weight_bytes + self._cache_bytes(context))

    def _try_step(self, sequence: _Sequence) -> None:
        try:
            self._step(sequence)
        except Exception as error:
            self._forget(sequence)
            raise SequenceFailed(sequence.number) from error

    def _step(self, sequence: _Sequence) -> None:
        while sequence.seen < len(sequence.tokens) - (sequence.newest is not None):
            self._read_chunk(sequence)
        if sequence.newest is not None:
            sequence.logits = self._forward(sequence, sequence.newest)
            sequence.seen += 1
        assert sequence.logits is not None
        token = picked(sequence.logits[None], [sequence.sampling], [len(sequence.tokens)]).view(1, 1)
        number = int(token.item())
        sequence.logits, sequence.newest = None, token
        sequence.tokens.append(number)
        sequence.left = sequence.left - 1 if number >= 0 else 0
        sequence.made = Made(sequence.number, number, time.monotonic())

    def _read_chunk(self, sequence: _Sequence) -> None:
        last = len(sequence.tokens) - (sequence.newest is not None)
        chunk = sequence.tokens[sequence.seen : min(sequence.seen + self._chunk.size, last)]
        ids = torch.tensor([chunk], dtype=torch.long, device=self._model.device)
        with self._chunk.measured(len(chunk)):
            sequence.logits = self._forward(sequence, ids)
        sequence.seen += len(chunk)
        if self._kept is None:
            self._kept = _kept_by(sequence.cache, sequence.seen)

    def _forward(self, sequence: _Sequence, ids: torch.Tensor) -> torch.Tensor:
        """The logits after the last of *ids*."""
        model = self._model
        logits: torch.Tensor = model.network(
            input_ids=ids, past_key_values=sequence.cache, **model.forward_arguments
        ).logits
        return logits[0, -1]

    def _forget(self, sequence: _Sequence) -> None:
        """Drop a cache that a failed step left half written: the next step reads all tokens again."""
        sequence.cache = self._model.new_cache()
        sequence.seen = 0
        sequence.logits = None

    def _cache_bytes(self, context: int) -> int:
        """Bytes of the keys and values of *context* tokens; 0 until the first prompt showed what a token keeps."""
        return sum(
            int(bytes_each * (context if window is None else min(context, window)))
            for bytes_each, window in self._kept or ()
        )


def _weight_bytes(network: Any) -> int:
    """Bytes of weights that one token reads: all but rows of the embedding, and experts that are not taken."""
    sizes = {name: weight.nbytes for name, weight in network.named_parameters()}
    total = sum(sizes.values())
    looked_up = network.get_input_embeddings()
    multiplied = network.get_output_embeddings()
    if looked_up is not None and (multiplied is None or multiplied.weight is not looked_up.weight):
        total -= looked_up.weight.nbytes
    experts = sum(size for name, size in sizes.items() if _OF_AN_EXPERT.search(name))
    # The share of the experts that a token takes is the same of bytes as of numbers.
    shape = shape_of(network.config.to_dict(), total, experts)
    return total if shape is None or shape.active_parameters is None else shape.active_parameters


def _kept_by(cache: Any, tokens: int) -> tuple[tuple[float, int | None], ...]:
    """Bytes that each layer keeps of a token, by what it keeps of so many *tokens*; with its window where it has one."""
    kept = []
    for layer in cache.layers:
        held = [part for name in ("keys", "values") if (part := getattr(layer, name, None)) is not None]
        if not held or held[0].dim() != 4 or not held[0].shape[-2]:
            continue
        window = getattr(layer, "sliding_window", None)
        kept.append((sum(part.nbytes for part in held) / held[0].shape[-2], int(window) if window else None))
    return tuple(kept)


def _room_bytes(device: torch.device) -> int | None:
    """What is free on *device*, with what torch holds there and does not use."""
    free = memory.available_bytes(device)
    if free is not None and device.type == "cuda":
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free
