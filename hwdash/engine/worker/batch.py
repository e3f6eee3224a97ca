"""Several requests at once: a chunk of one prompt, then one step of all answers, again and again."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hwdash.core.errors import DeviceFull
from hwdash.core.inference import FinishReason
from hwdash.engine.message import Done, FromWorker, Generate, Prefill
from hwdash.engine.worker.answer import Answer, sampling_of
from hwdash.engine.worker.decoder import Decoder, Made, SequenceFailed
from hwdash.engine.worker.failure import failure_of, is_beyond_repair
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.memory import is_out_of_memory, release_memory
from hwdash.engine.worker.prompt import read_prompt

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """A request that waits or runs; ``number`` is that of its sequence, and ``answer`` is there, once it runs."""

    request: Generate
    tokens: list[int] = field(default_factory=list)
    detail: str = ""
    number: int = 0
    answer: Answer | None = None


class Batch:
    """Answers requests by *decoder*, as many at once as it has slots; the others wait in the order in which they came.

    A request joins and leaves between two steps. What fails fails alone: a request that there is no memory for waits
    until another one has ended, and where memory runs out under way the youngest gives way. ``broken`` is set by an
    error after which the device answers nothing; every request has failed then. *architecture* is as in `failure_of`.
    """

    def __init__(self, model: ReadyModel, decoder: Decoder, architecture: str = "") -> None:
        self.broken = False
        self._model = model
        self._decoder = decoder
        self._architecture = architecture
        self._waiting: deque[_Entry] = deque()
        self._running: dict[int, _Entry] = {}
        self._unread: deque[_Entry] = deque()
        self._messages: list[FromWorker] = []
        self._is_full = False
        self._is_short = False
        self._mark = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting or self._running)

    def add(self, request: Generate) -> None:
        """Take in a request."""
        self._waiting.append(_Entry(request))

    def cancel(self, number: int) -> None:
        """End request *number*, if it is here; the next `step` tells of it."""
        for entry in (*self._waiting, *self._running.values()):
            if entry.request.id == number:
                if entry.answer is None:
                    if entry is self._waiting[0]:
                        self._is_full = False  # there may be room for the next one
                    self._waiting.remove(entry)
                    self._messages.append(Done(number, FinishReason.CANCELLED, len(entry.tokens), 0))
                else:
                    self._end(entry, entry.answer, FinishReason.CANCELLED)

    def step(self) -> list[FromWorker]:
        """Take in who waits, read a chunk of one prompt, make a token of every answer: what there is to tell of it."""
        if not self._running:
            self._mark = time.monotonic()
        self._admit()
        self._read()
        for made in self._advance():
            self._deliver(made)
        self._tidy()
        messages, self._messages = self._messages, []
        return messages

    # Who comes

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._decoder.slots and not self._is_full:
            entry = self._waiting[0]
            try:
                answer = self._open(entry)
            except Exception as error:  # noqa: BLE001 - whatever the libraries raise concerns this request alone
                if self._running and (isinstance(error, DeviceFull) or is_out_of_memory(error)):
                    self._is_full = True
                    break
                self._waiting.popleft()
                self._fail(entry, error)
                continue
            self._waiting.popleft()
            entry.answer = answer
            self._messages.append(Prefill(entry.request.id, len(entry.tokens), entry.detail))
            if answer.limit <= 0:
                self._messages += answer.end(FinishReason.LENGTH)
                continue
            self._running[entry.number] = entry
            self._unread.append(entry)
            self._mark = time.monotonic()

    def _open(self, entry: _Entry) -> Answer:
        """Give *entry* a sequence. Raises what tokenizers and decoders do."""
        model, request = self._model, entry.request
        if not entry.tokens:
            entry.tokens, entry.detail = read_prompt(model, request)
        limit = request.max_tokens
        if model.context_length is not None:
            limit = min(limit, model.context_length - len(entry.tokens))
        if limit > 0:
            entry.number = self._decoder.open(entry.tokens, limit, sampling_of(request))
        return Answer(request, len(entry.tokens), limit, model.ends, model.decode)

    # What is computed

    def _read(self) -> None:
        """Read a chunk of one prompt; several prompts take turns, so that a short one does not wait for a long one."""
        if not self._unread:
            return
        entry = self._unread.popleft()
        assert entry.answer is not None
        if entry.answer.began_s is None:
            entry.answer.began_s = self._mark
        try:
            is_read = self._decoder.read(entry.number)
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail(entry, error)
            return
        entry.answer.device_s += self._lap()
        if not is_read:
            self._unread.append(entry)

    def _advance(self) -> Sequence[Made]:
        """The tokens of a step; whoever it fails for is failed, and the step made again."""
        while going := [entry for entry in self._running.values() if entry not in self._unread]:
            try:
                made = self._decoder.advance()
            except Exception as error:  # noqa: BLE001 - likewise
                self._blame(error, going)
            else:
                share = self._lap() / len(going)
                for entry in going:
                    if entry.answer is not None:
                        entry.answer.device_s += share
                return made
            self._tidy()
        return ()

    def _lap(self) -> float:
        """Seconds since the last lap: together the laps are all the time in which requests ran."""
        before, self._mark = self._mark, time.monotonic()
        return self._mark - before

    def _deliver(self, made: Made) -> None:
        entry = self._running.get(made.number)
        if entry is None or entry.answer is None:
            return
        try:
            token = entry.answer.push(made)
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail(entry, error)
            return
        if token is not None:
            self._messages.append(token)
        if entry.answer.finish is not None:
            self._end(entry, entry.answer, entry.answer.finish)

    # Who goes

    def _end(self, entry: _Entry, answer: Answer, finish: FinishReason) -> None:
        self._close(entry)
        self._messages += answer.end(finish)

    def _close(self, entry: _Entry) -> None:
        if entry in self._unread:
            self._unread.remove(entry)
        if self._running.pop(entry.number, None) is not None:
            self._decoder.close(entry.number)
            self._is_full = False

    def _blame(self, error: Exception, going: Sequence[_Entry]) -> None:
        """Fail those whom a failed step concerns; where nobody knows whom, all, or the youngest where memory ran out."""
        concerned: list[_Entry] = []
        if isinstance(error, SequenceFailed) and isinstance(error.__cause__, Exception):
            concerned = [entry for entry in going if entry.number == error.number]
            error = error.__cause__
        if not concerned and (is_out_of_memory(error) or isinstance(error, DeviceFull)):
            concerned = [self._running[max(self._running)]]
        for entry in concerned or going:
            if not self.broken:
                self._fail(entry, error)

    def _fail(self, entry: _Entry, error: Exception) -> None:
        _log.error("request %d failed", entry.request.id, exc_info=error)
        self._messages.append(failure_of(error, self._model.device, entry.request.id, self._architecture))
        if self.broken:
            return
        if is_beyond_repair(error):
            self._break(entry, error)
            return
        self._is_short = self._is_short or is_out_of_memory(error) or isinstance(error, DeviceFull)
        self._close(entry)

    def _break(self, first: _Entry, error: Exception) -> None:
        self.broken = True
        others = [entry for entry in (*self._running.values(), *self._waiting) if entry is not first]
        self._running.clear()
        self._unread.clear()
        self._waiting.clear()
        for entry in others:
            self._fail(entry, error)

    def _tidy(self) -> None:
        """Give back what a request left that there was no memory for; not in its ``except``, which still holds it."""
        if self._is_short:
            self._is_short = False
            release_memory()
