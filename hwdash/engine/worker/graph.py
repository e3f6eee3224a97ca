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
from dataclasses import dataclass

import torch

from hwdash.core.errors import DeviceFull
from hwdash.engine.worker.capture import Capture, CudaCapture, Launch, Mark
from hwdash.engine.worker.compiled import Upgrade, forbid_compiling
from hwdash.engine.worker.decoder import Made, Sampling, SequenceFailed
from hwdash.engine.worker.expert import ExpertFeed
from hwdash.engine.worker.keyvalue import GRAIN, KeyValueStore, Rows
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text
from hwdash.engine.worker.network import Network
from hwdash.engine.worker.operation import Operations
from hwdash.engine.worker.row import NOBODY, Member, RowState, first_token

_CHUNK = 2048
_ANSWER = 1024
"""Tokens of an answer for which places are taken at once; longer ones get more as they grow."""
_LENGTHS = 4
"""Graphs are captured for contexts of up to 512 tokens, and this many times as long again and again."""
_SHORTEST = 512
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Flight:
    """Tokens on their way to the host: of these sequences, one each, in its memory once the mark has come."""

    numbers: tuple[int, ...]
    tokens: torch.Tensor
    mark: Mark


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a graph is captured for: so many rows, contexts up to so long, with or without drawing."""

    rows: int
    longest: int
    drawing: bool


class GraphDecoder:
    """A `hwdash.engine.worker.decoder.Decoder` that captures its steps. *ends* are the tokens that end an answer.

    *upgrade* may have better operations some time later: they are taken between two steps.
    """

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
        upgrade: Upgrade | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.slots = slots
        self.choices = choices if upgrade is None else (*choices, upgrade.words)
        self.capture_s: float | None = None
        self._choices = choices
        self._network = network
        self._capture = capture or CudaCapture(network.device)
        self._upgrade = upgrade
        self._former: Operations | None = None
        self._store = KeyValueStore(network, places, flash=flash)
        for layer in network.layers:
            if isinstance(layer.feed, ExpertFeed):
                layer.feed.most_rows = max(layer.feed.most_rows, bucket(slots))
        self._state = RowState(bucket(slots), network.device, ends)
        self._numbers = itertools.count(1)
        self._open: dict[int, Member] = {}
        self._rows: list[Member] = []
        self._placed: list[Member] = []
        self._joining: list[Member] = []
        self._flights: deque[_Flight] = deque()
        self._spare: list[tuple[torch.Tensor, Mark]] = []
        self._graphs: dict[_Kind, Launch] = {}
        self._changed = False

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence with places for its keys and values. Raises `DeviceFull` where there are none."""
        room = _rounded(len(prompt) + min(limit, _ANSWER))
        start = self._take(room)
        member = Member(next(self._numbers), list(prompt), limit, sampling, start, room)
        self._open[member.number] = member
        return member.number

    def read(self, number: int) -> bool:
        """Read the next chunk of the prompt; the last one makes the first token, which leaves with `advance`."""
        with torch.inference_mode():
            return self._read(self._open[number])

    def advance(self) -> Sequence[Made]:
        """Launch the next step, then give the tokens of the step before it and of prompts read since.

        Raises `SequenceFailed` for one that there is no room for.
        """
        self._take_over()
        with torch.inference_mode():
            launched = self._launch()
        waiting = 1 if launched else 0
        made: list[Made] = []
        while len(self._flights) > waiting:
            flight = self._flights.popleft()
            flight.mark.synchronize()
            at_s = time.monotonic()
            tokens = flight.tokens.tolist()
            self._spare.append((flight.tokens, flight.mark))
            made += (
                Made(number, token, at_s)
                for number, token in zip(flight.numbers, tokens, strict=False)
                if number in self._open and token != NOBODY
            )
        return made

    def close(self, number: int) -> None:
        """Let go of a sequence. A step that is under way still writes to its places, before anything of a later one."""
        member = self._open.pop(number, None)
        if member is None:
            return
        self._store.segments.give(member.start)
        if member in self._rows:
            self._rows.remove(member)
            self._changed = True
        if member in self._joining:
            self._joining.remove(member)

    def idle(self) -> bool:
        """Wait for what nobody wants any more, and capture one of the steps of short sequences that are missing."""
        self._flights.clear()
        self._capture.wait()
        self._take_over()
        sizes = [1 << power for power in range(bucket(self.slots).bit_length())]
        missing = [kind for rows in sizes if (kind := _Kind(rows, _SHORTEST, drawing=False)) not in self._graphs]
        if missing:
            self._graph(missing[0])
        return len(missing) > 1

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes of weights, keys and values that one step reads for *batch* sequences with *context* tokens each."""
        return self._network.weight_bytes(batch) + batch * self._network.cache_bytes(context)

    # Steps

    def _read(self, member: Member) -> bool:
        chunk = member.prompt[member.length : member.length + _CHUNK]
        device = self._network.device
        tokens = torch.tensor(chunk, dtype=torch.int64).to(device, non_blocking=True)
        positions = torch.arange(member.length, member.length + len(chunk), device=device)
        attend = self._store.attend_chunk(member.start, member.length, len(chunk))
        rows = self._network.forward(tokens, positions, attend)
        length = member.length + len(chunk)
        if length == len(member.prompt) and member.left > 0:
            member.first = first_token(self._network.logits(rows[-1:]), member, length)
            self._send((member.number,), member.first, self._landing())
            member.left -= 1
            self._joining.append(member)
        member.length = length
        return length == len(member.prompt)

    def _launch(self) -> bool:
        """Start a step of all rows that may make a token; false where there is none. An error leaves all where they were."""
        going = [member for member in (*self._rows, *self._joining) if member.left > 0]
        if len(going) != len(self._rows) or self._joining:
            self._changed = True
        for member in going:
            try:
                self._make_room(member)
            except DeviceFull as error:
                raise SequenceFailed(member.number) from error
        if self._changed:
            self._place(going)
        if not going:
            return False
        longest = max(member.length for member in going) + 1
        drawing = any(member.sampling.temperature > 0 for member in going)
        graph = self._graph(_Kind(bucket(len(going)), _length(longest), drawing))
        landing = self._landing()
        graph.replay()
        for member in going:
            member.length += 1
            member.left -= 1
        self._send(tuple(member.number for member in going), self._state.made[: len(going)], landing)
        return True

    def _place(self, going: list[Member]) -> None:
        if going:
            self._state.place(going, self._placed, self._store.nowhere or 0)
            self._placed = list(going)
        self._rows, self._joining, self._changed = going, [], False

    def _step(self, kind: _Kind) -> None:
        """One step of the first ``kind.rows`` rows, all on the device."""
        state, count = self._state, kind.rows
        tokens, positions = state.tokens[:count], state.positions[:count]
        rows = Rows(state.starts[:count], positions, kind.longest)
        logits = self._network.logits(self._network.forward(tokens, positions, self._store.attend_rows(rows)))
        state.move_on(state.pick(logits, count, drawing=kind.drawing))

    def _graph(self, kind: _Kind) -> Launch:
        """The captured step of *kind*; with the operations from before, where it cannot be captured with newer ones."""
        if (known := self._graphs.get(kind)) is not None:
            return known
        began = time.monotonic()
        try:
            graph = self._capture.capture(lambda: self._step(kind), self._state.mutable)
        except Exception as error:
            if self._former is None:
                raise
            self._go_back(error)
            return self._graph(kind)
        self._graphs[kind] = graph
        self.capture_s = time.monotonic() - began
        _log.info("captured %s in %.2f s", kind, self.capture_s)
        return graph

    def _forget_graphs(self) -> None:
        self._graphs.clear()
        self._capture.forget()

    # Better operations

    def _take_over(self) -> None:
        """Use what was compiled meanwhile, if it is there and faster."""
        upgrade = self._upgrade
        if upgrade is None or self._former is not None or not upgrade.ready:
            return
        if (operations := upgrade.decide()) is None:
            self._upgrade = None
        else:
            forbid_compiling()
            self._former = self._network.operations
            self._use(operations)
        self.choices = (*self._choices, upgrade.words)
        _log.info("%s", upgrade.words)

    def _go_back(self, error: Exception) -> None:
        former, upgrade = self._former, self._upgrade
        assert former is not None
        assert upgrade is not None
        self._former = self._upgrade = None
        self._use(former)
        upgrade.failed(error)
        self.choices = (*self._choices, upgrade.words)

    def _use(self, operations: Operations) -> None:
        """Nothing that was captured before is launched again."""
        self._capture.wait()
        self._network.use(operations)
        self._forget_graphs()

    # Tokens on their way, and places

    def _landing(self) -> tuple[torch.Tensor, Mark]:
        return self._spare.pop() if self._spare else self._capture.landing(len(self._state))

    def _send(self, numbers: tuple[int, ...], tokens: torch.Tensor, landing: tuple[torch.Tensor, Mark]) -> None:
        target, mark = landing
        target[: len(numbers)].copy_(tokens, non_blocking=True)
        mark.record()
        self._flights.append(_Flight(numbers, target, mark))

    def _make_room(self, member: Member) -> None:
        """Have a place for the next token of *member*. Raises `DeviceFull`."""
        if member.length < member.room:
            return
        room = _rounded(min(2 * member.room, member.length + 1 + member.left))
        segments = self._store.segments
        if not segments.extend(member.start, room):
            start = self._take(room)
            self._store.move(member.start, start, member.length)
            segments.give(member.start)
            member.start = start
        member.room, self._changed = room, True

    def _take(self, room: int) -> int:
        store = self._store
        if (start := store.segments.take(room)) is not None:
            return start
        size = store.segments.size
        self._capture.wait()
        self._forget_graphs()  # whatever comes of it, tensors lie elsewhere then
        for places in sorted({max(2 * size, size + room), size + room}, reverse=True):
            try:
                with torch.inference_mode():
                    store.grow(places)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                full = error
            else:
                start = store.segments.take(room)
                assert start is not None
                return start
        raise DeviceFull(out_of_memory_text(full, self._network.device)) from full


def bucket(rows: int) -> int:
    """The number of rows that a step of *rows* is captured for: the next power of two."""
    return 1 << max(0, rows - 1).bit_length()


def _length(tokens: int) -> int:
    length = _SHORTEST
    while length < tokens:
        length *= _LENGTHS
    return length


def _rounded(tokens: int) -> int:
    return -(-tokens // GRAIN) * GRAIN
