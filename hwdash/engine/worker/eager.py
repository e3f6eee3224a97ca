"""Decoding by our own forward pass, one operation after another: the way of CPUs, and of what cannot capture graphs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from hwdash.core.errors import DeviceFull
from hwdash.engine.worker.attention import attention_of_one
from hwdash.engine.worker.chunk import Chunk
from hwdash.engine.worker.decoder import Made, Sampling
from hwdash.engine.worker.draw import picked
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text
from hwdash.engine.worker.network import Attend, Layer, Network

_FIRST_ROOM = 256


@dataclass(slots=True, eq=False)
class _Sequence:
    """``kept`` has keys and values of ``length`` tokens for each layer, ``[room, 2 * groups, width]``."""

    number: int
    prompt: list[int]
    left: int
    sampling: Sampling
    kept: list[torch.Tensor] = field(default_factory=list)
    length: int = 0
    token: int | None = None
    fresh: bool = False


class EagerDecoder:
    """A `hwdash.engine.worker.decoder.Decoder` over a `Network`: products for all sequences at once, attention one by one.

    *later* is called once, when nobody waits: it begins what few of the first tokens need.
    """

    kind = "eager"

    def __init__(
        self,
        network: Network,
        slots: int,
        choices: tuple[str, ...] = (),
        later: Callable[[], None] | None = None,
        chunk: Chunk | None = None,
    ) -> None:
        self.slots = slots
        self.choices = choices
        self.capture_s: float | None = None
        self._network = network
        self._chunk = chunk or Chunk(network.device.type)
        self._numbers = itertools.count(1)
        self._open: dict[int, _Sequence] = {}
        self._later = later

    @property
    def network(self) -> Network:
        """What it computes with."""
        return self._network

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence; its keys and values get room as it grows. Raises `DeviceFull`."""
        sequence = _Sequence(next(self._numbers), list(prompt), limit, sampling)
        try:
            self._make_room(sequence, min(len(prompt) + limit, len(prompt) + _FIRST_ROOM))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceFull(out_of_memory_text(error, self._network.device)) from error
        self._open[sequence.number] = sequence
        return sequence.number

    def read(self, number: int) -> bool:
        """Read the next chunk of the prompt; the last one makes the first token."""
        with torch.inference_mode():
            return self._read(self._open[number])

    def advance(self) -> Sequence[Made]:
        """Give the first tokens of prompts that were just read, and make one more token of all other sequences."""
        fresh = [sequence for sequence in self._open.values() if sequence.fresh]
        going = [
            sequence
            for sequence in self._open.values()
            if sequence.token is not None and not sequence.fresh and sequence.left > 0 and sequence.token >= 0
        ]
        with torch.inference_mode():
            tokens = self._step(going) if going else []
        for sequence in fresh:
            sequence.fresh = False
        for sequence, token in zip(going, tokens, strict=True):
            sequence.length += 1
            sequence.left -= 1
            sequence.token = token
        at_s = time.monotonic()
        return [
            Made(sequence.number, sequence.token, at_s) for sequence in (*fresh, *going) if sequence.token is not None
        ]

    def close(self, number: int) -> None:
        """Let go of a sequence with its keys and values."""
        self._open.pop(number, None)

    def idle(self) -> bool:
        """Begin what was put off until the first tokens are out."""
        later, self._later = self._later, None
        if later is not None:
            later()
        return False

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes of weights, keys and values that one step reads for *batch* sequences with *context* tokens each."""
        return self._network.weight_bytes(batch) + batch * self._network.cache_bytes(context)

    def _read(self, sequence: _Sequence) -> bool:
        first = sequence.length
        chunk = sequence.prompt[first : first + self._chunk.size]
        self._make_room(sequence, first + len(chunk))
        size = self._network.heads

        def attend(number: int, layer: Layer, heads: torch.Tensor) -> torch.Tensor:
            kept = sequence.kept[number]
            kept[first : first + len(chunk)] = heads[:, size.queries :]
            return attention_of_one(heads[:, : size.queries], kept[: first + len(chunk)], first, layer, size)

        with self._chunk.measured(len(chunk)):
            rows = self._forward(chunk, range(first, first + len(chunk)), attend)
        sequence.length += len(chunk)
        if sequence.length < len(sequence.prompt):
            return False
        if sequence.left > 0:
            sequence.token = self._pick(rows[-1:], [sequence])[0]
            sequence.fresh, sequence.left = True, sequence.left - 1
        return True

    def _step(self, going: list[_Sequence]) -> list[int]:
        size = self._network.heads
        for sequence in going:
            self._make_room(sequence, sequence.length + 1)

        def attend(number: int, layer: Layer, heads: torch.Tensor) -> torch.Tensor:
            seen = []
            for row, sequence in enumerate(going):
                kept, length = sequence.kept[number], sequence.length
                kept[length] = heads[row, size.queries :]
                queries = heads[row : row + 1, : size.queries]
                seen.append(attention_of_one(queries, kept[: length + 1], length, layer, size))
            return seen[0] if len(seen) == 1 else torch.cat(seen)

        tokens = [sequence.token for sequence in going if sequence.token is not None]
        rows = self._forward(tokens, [sequence.length for sequence in going], attend)
        return self._pick(rows, going)

    def _forward(self, tokens: list[int], positions: Sequence[int], attend: Attend) -> torch.Tensor:
        device = self._network.device
        where = torch.tensor(list(positions), dtype=torch.long, device=device)
        return self._network.forward(torch.tensor(tokens, dtype=torch.long, device=device), where, attend)

    def _pick(self, rows: torch.Tensor, sequences: list[_Sequence]) -> list[int]:
        """A token of each sequence, which comes after those in its cache and the one that *rows* are of."""
        how = [sequence.sampling for sequence in sequences]
        places = [sequence.length + (sequence.token is not None) for sequence in sequences]
        tokens: list[int] = picked(self._network.logits(rows), how, places).tolist()
        return tokens

    def _make_room(self, sequence: _Sequence, length: int) -> None:
        """Have room for *length* tokens; what is there stays."""
        network, size = self._network, self._network.heads
        room = sequence.kept[0].shape[0] if sequence.kept else 0
        if length <= room:
            return
        room = max(length, 2 * room)
        fresh = [
            torch.empty((room, 2 * size.groups, size.width), dtype=network.dtype, device=network.device)
            for _ in network.layers
        ]
        for old, new in zip(sequence.kept, fresh, strict=False):
            new[: sequence.length] = old[: sequence.length]
        sequence.kept = fresh
