"""Decoding with captured graphs: a whole step, from the tokens before to the tokens after, is one launch.

A step knows nothing but a few small tensors on the device that say which sequence each row belongs to, where it lies and
how its tokens are drawn; it moves them on by itself. So the next step is launched before the tokens of the last one are
looked at: they come through pinned memory while the device computes.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from hwdash.core.errors import DeviceFull
from hwdash.engine.worker.decoder import Made, Sampling
from hwdash.engine.worker.draw import Draw, drawn, likeliest
from hwdash.engine.worker.keyvalue import GRAIN, KeyValueStore, Rows
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text
from hwdash.engine.worker.network import Network

_CHUNK = 2048
_SEEDS = 2**62
_ANSWER = 1024
"""Tokens of an answer for which places are taken at once; longer ones get more as they grow."""
_LENGTHS = 4
"""Graphs are captured for contexts of up to 512 tokens, and this many times as long again and again."""
_SHORTEST = 512
_NOBODY = -2
"""Stands in the tokens of a step for rows that made none."""
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Sequence:
    number: int
    prompt: list[int]
    left: int
    sampling: Sampling
    start: int
    room: int
    length: int = 0
    first: torch.Tensor | None = None


@dataclass(slots=True, eq=False)
class _Flight:
    """Tokens on their way to the host: of these sequences, one each, in pinned memory once the event has come."""

    numbers: tuple[int, ...]
    tokens: torch.Tensor
    event: torch.cuda.Event


@dataclass(slots=True, eq=False)
class _State:
    """The rows of a step, on the device; ``left`` counts the tokens that a row may still make."""

    tokens: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    left: torch.Tensor
    temperature: torch.Tensor
    top_p: torch.Tensor
    seed: torch.Tensor
    made: torch.Tensor

    @classmethod
    def of(cls, rows: int, device: torch.device) -> _State:
        def zeros(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        whole, real = torch.int64, torch.float32
        starts = zeros(torch.int32)
        return cls(
            zeros(whole), zeros(whole), starts, zeros(whole), zeros(real), zeros(real), zeros(whole), zeros(whole)
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a graph is captured for: so many rows, contexts up to so long, with or without drawing."""

    rows: int
    longest: int
    drawing: bool


@dataclass(slots=True)
class _Graphs:
    """Captured steps by kind. ``pool`` is the memory that they share."""

    by_kind: dict[_Kind, torch.cuda.CUDAGraph] = field(default_factory=dict)
    pool: object = None


class GraphDecoder:
    """A `hwdash.engine.worker.decoder.Decoder` that captures its steps. *ends* are the tokens that end an answer."""

    kind = "graph"

    def __init__(
        self,
        network: Network,
        slots: int,
        ends: frozenset[int],
        places: int,
        *,
        flash: bool,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.slots = slots
        self.choices = choices
        self.capture_s: float | None = None
        self._network = network
        self._store = KeyValueStore(network, places, flash=flash)
        self._ends = torch.tensor(sorted(ends) or [_NOBODY], device=network.device)
        self._state = _State.of(_bucket(slots), network.device)
        self._numbers = itertools.count(1)
        self._open: dict[int, _Sequence] = {}
        self._rows: list[_Sequence] = []
        self._placed: list[_Sequence] = []
        self._joining: list[_Sequence] = []
        self._flights: deque[_Flight] = deque()
        self._spare: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        self._graphs = _Graphs()
        self._changed = False

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence with places for its keys and values. Raises `DeviceFull` where there are none."""
        room = _rounded(len(prompt) + min(limit, _ANSWER))
        start = self._take(room)
        sequence = _Sequence(next(self._numbers), list(prompt), limit, sampling, start, room)
        self._open[sequence.number] = sequence
        return sequence.number

    def read(self, number: int) -> bool:
        """Read the next chunk of the prompt; the last one makes the first token, which leaves with `advance`."""
        with torch.inference_mode():
            return self._read(self._open[number])

    def advance(self) -> Sequence[Made]:
        """Launch the next step, then give the tokens of the step before it and of prompts read since."""
        for sequence in self._joining:
            if sequence.left > 0:
                self._rows.append(sequence)
        with torch.inference_mode():
            launched = self._launch()
        self._joining.clear()
        waiting = 1 if launched else 0
        made: list[Made] = []
        while len(self._flights) > waiting:
            flight = self._flights.popleft()
            flight.event.synchronize()
            at_s = time.monotonic()
            tokens = flight.tokens.tolist()
            self._spare.append((flight.tokens, flight.event))
            made += (
                Made(number, token, at_s)
                for number, token in zip(flight.numbers, tokens, strict=False)
                if number in self._open and token != _NOBODY
            )
        return made

    def close(self, number: int) -> None:
        """Let go of a sequence. A step that is under way still writes to its places, before anything of a later one."""
        sequence = self._open.pop(number, None)
        if sequence is None:
            return
        self._store.segments.give(sequence.start)
        if sequence in self._rows:
            self._rows.remove(sequence)
            self._changed = True
        if sequence in self._joining:
            self._joining.remove(sequence)

    def idle(self) -> None:
        """Wait for what nobody wants any more, and capture the step of a single short sequence where it is missing."""
        self._flights.clear()
        torch.cuda.synchronize(self._network.device)
        self.prepare(_Kind(1, _SHORTEST, drawing=False))

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes of weights, keys and values that one step reads for *batch* sequences with *context* tokens each."""
        return self._network.weight_bytes(batch) + batch * self._network.cache_bytes(context)

    # Steps

    def _read(self, sequence: _Sequence) -> bool:
        chunk = sequence.prompt[sequence.length : sequence.length + _CHUNK]
        device = self._network.device
        tokens = torch.tensor(chunk, dtype=torch.int64).to(device, non_blocking=True)
        positions = torch.arange(sequence.length, sequence.length + len(chunk), device=device)
        attend = self._store.attend_chunk(sequence.start, sequence.length, len(chunk))
        rows = self._network.forward(tokens, positions, attend)
        length = sequence.length + len(chunk)
        if length == len(sequence.prompt) and sequence.left > 0:
            logits, how = self._network.logits(rows[-1:]), self._how(sequence)
            at = torch.tensor([length], device=device)
            sequence.first = likeliest(logits) if sequence.sampling.temperature <= 0 else drawn(logits, how, at)
            sequence.left -= 1
            self._send((sequence.number,), sequence.first)
            self._joining.append(sequence)
        sequence.length = length
        return length == len(sequence.prompt)

    def _launch(self) -> bool:
        """Start a step of all rows that may make a token; false where there is none."""
        going = [sequence for sequence in self._rows if sequence.left > 0]
        if not going:
            if self._rows:
                self._rows, self._changed = [], True
            return False
        for sequence in going:
            self._make_room(sequence)
        if len(going) != len(self._rows) or self._joining:
            self._changed = True
        longest = max(sequence.length for sequence in going) + 1
        kind = _Kind(
            _bucket(len(going)), _length(longest), any(sequence.sampling.temperature > 0 for sequence in going)
        )
        if self._changed:
            self._place(going)
        self._graph(kind).replay()
        for sequence in going:
            sequence.length += 1
            sequence.left -= 1
        self._send(tuple(sequence.number for sequence in going), self._state.made[: len(going)])
        return True

    def _place(self, going: list[_Sequence]) -> None:
        """Tell the device which sequence each row is of; the tokens of those that go on are moved where they belong."""
        state, rows = self._state, len(self._state.tokens)
        device = state.tokens.device
        before = {id(sequence): row for row, sequence in enumerate(self._placed)}
        moved = [before.get(id(sequence), 0) for sequence in going]
        empty = rows - len(going)
        whole = [
            [*moved, *([0] * empty)],
            [*(sequence.length for sequence in going), *([0] * empty)],
            [*(sequence.start for sequence in going), *([self._store.nowhere or 0] * empty)],
            [*(sequence.left for sequence in going), *([0] * empty)],
            [*(sequence.sampling.seed % _SEEDS for sequence in going), *([0] * empty)],
        ]
        real = [
            [*(sequence.sampling.temperature for sequence in going), *([0.0] * empty)],
            [*(sequence.sampling.top_p for sequence in going), *([1.0] * empty)],
        ]
        sources, positions, starts, left, seeds = torch.tensor(whole, dtype=torch.int64).to(device, non_blocking=True)
        temperatures, shares = torch.tensor(real, dtype=torch.float32).to(device, non_blocking=True)
        state.tokens.copy_(state.tokens[sources])
        state.positions.copy_(positions)
        state.starts.copy_(starts)
        state.left.copy_(left)
        state.seed.copy_(seeds)
        state.temperature.copy_(temperatures)
        state.top_p.copy_(shares)
        for row, sequence in enumerate(going):
            if sequence.first is not None:
                state.tokens[row : row + 1].copy_(sequence.first)
                sequence.first = None
        self._rows, self._placed, self._changed = list(going), list(going), False

    def _step(self, kind: _Kind) -> None:
        """One step of the first ``kind.rows`` rows, all on the device."""
        state, count = self._state, kind.rows
        tokens, positions, left = state.tokens[:count], state.positions[:count], state.left[:count]
        rows = Rows(state.starts[:count], positions, kind.longest)
        logits = self._network.logits(self._network.forward(tokens, positions, self._store.attend_rows(rows)))
        if kind.drawing:
            how = Draw(state.temperature[:count], state.top_p[:count], state.seed[:count])
            fresh = drawn(logits, how, positions + 1)
        else:
            fresh = likeliest(logits)
        alive = left > 0
        state.made[:count].copy_(torch.where(alive, fresh, _NOBODY))
        over = torch.isin(fresh, self._ends) | (fresh < 0)
        tokens.copy_(torch.where(alive & ~over, fresh, tokens))
        positions.add_(alive.to(positions.dtype))
        left.copy_(torch.where(over, 0, (left - 1).clamp(min=0)))

    def prepare(self, kind: _Kind) -> None:
        """Capture the step of *kind* where that was not done yet."""
        self._graph(kind)

    def _graph(self, kind: _Kind) -> torch.cuda.CUDAGraph:
        if (known := self._graphs.by_kind.get(kind)) is not None:
            return known
        began = time.monotonic()
        kept = [tensor.clone() for tensor in self._mutable()]
        stream = torch.cuda.Stream(self._network.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.inference_mode():
            self._step(kind)
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, value in zip(self._mutable(), kept, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=self._graphs.pool, capture_error_mode="thread_local"):
            self._step(kind)
        self._graphs.pool = self._graphs.pool or graph.pool()
        self._graphs.by_kind[kind] = graph
        torch.cuda.synchronize(self._network.device)
        self.capture_s = time.monotonic() - began
        _log.info("captured %s in %.2f s", kind, self.capture_s)
        return graph

    def _mutable(self) -> tuple[torch.Tensor, ...]:
        return self._state.tokens, self._state.positions, self._state.left, self._state.made

    # Tokens on their way, and places

    def _send(self, numbers: tuple[int, ...], tokens: torch.Tensor) -> None:
        if self._spare:
            pinned, event = self._spare.pop()
        else:
            pinned = torch.empty(len(self._state.tokens), dtype=torch.int64, pin_memory=True)
            event = torch.cuda.Event()
        pinned[: len(numbers)].copy_(tokens, non_blocking=True)
        event.record()
        self._flights.append(_Flight(numbers, pinned, event))

    def _how(self, sequence: _Sequence) -> Draw:
        device, sampling = self._network.device, sequence.sampling
        return Draw(
            torch.tensor([sampling.temperature], device=device),
            torch.tensor([sampling.top_p], device=device),
            torch.tensor([sampling.seed % _SEEDS], device=device),
        )

    def _make_room(self, sequence: _Sequence) -> None:
        """Have a place for the next token of *sequence*. Raises `DeviceFull`."""
        if sequence.length < sequence.room:
            return
        room = _rounded(min(2 * sequence.room, sequence.length + 1 + sequence.left))
        if not self._store.segments.extend(sequence.start, room):
            start = self._take(room)
            self._store.move(sequence.start, start, sequence.length)
            self._store.segments.give(sequence.start)
            sequence.start = start
        sequence.room, self._changed = room, True

    def _take(self, room: int) -> int:
        store = self._store
        if (start := store.segments.take(room)) is not None:
            return start
        places = max(2 * store.segments.size, store.segments.size + room)
        try:
            with torch.inference_mode():
                store.grow(places)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceFull(out_of_memory_text(error, self._network.device)) from error
        self._graphs = _Graphs()
        start = store.segments.take(room)
        assert start is not None
        return start


def _bucket(rows: int) -> int:
    return 1 << max(0, rows - 1).bit_length()


def _length(tokens: int) -> int:
    length = _SHORTEST
    while length < tokens:
        length *= _LENGTHS
    return length


def _rounded(tokens: int) -> int:
    return -(-tokens // GRAIN) * GRAIN
