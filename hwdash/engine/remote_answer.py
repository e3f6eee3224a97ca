"""The answer of a server as it comes in: text, tokens, times, end."""

from __future__ import annotations

import time

from hwdash.core.inference import FinishReason, Generation, PromptRequest, TokenCounts, TokenEvent
from hwdash.core.text import sanitise
from hwdash.engine.remote_stream import Chunk
from hwdash.engine.stop import StopHolder
from hwdash.engine.timing import timing_of


class Answer:
    """One answer. A token is a chunk with text until the server tells its own count.

    ``ended`` is true once the server told why it ended, a stop string was met, or more chunks came than tokens were
    asked for, which also makes it ``overlong``.
    """

    def __init__(self, request: PromptRequest, arrived: float, queue_s: float) -> None:
        self.ended = False
        self.overlong = False
        self._limit = request.max_tokens
        self._arrived = arrived
        self._queue_s = queue_s
        self._holder = StopHolder(request.stop)
        self._stamps: list[float] = []
        self._last = arrived
        self._finish: FinishReason | None = None
        self._prompt: int | None = None
        self._completion: int | None = None

    @property
    def complete(self) -> bool:
        """Whether it may end here: it was told to, or has all tokens that were asked for."""
        return self.ended or len(self._stamps) >= self._limit

    @property
    def begun(self) -> bool:
        """Whether a token came."""
        return bool(self._stamps)

    def take(self, chunk: Chunk) -> TokenEvent | None:
        """What *chunk* brings to whoever reads along; None when it brings nothing."""
        if chunk.prompt_tokens is not None:
            self._prompt = chunk.prompt_tokens
        if chunk.completion_tokens is not None:
            self._completion = chunk.completion_tokens
        event = self._token(chunk.text) if chunk.text and not self.ended else None
        if chunk.finish is not None and not self.ended:
            self._end(FinishReason.LENGTH if chunk.finish == "length" else FinishReason.STOP)
        return event

    def rest(self) -> TokenEvent | None:
        """Text that was held back as the possible beginning of a stop string, at the end of the stream."""
        text = sanitise(self._holder.flush())
        return TokenEvent(text, len(self._stamps), self._last - self._arrived) if text else None

    def generation(self) -> Generation:
        """The account of the answer."""
        made = len(self._stamps)
        if self._finish is None:
            self._last = time.monotonic()
            self._finish = FinishReason.LENGTH if made >= self._limit else FinishReason.STOP
        tokens = self._completion if self._completion or not made else made
        timing = timing_of(self._stamps, self._arrived, queue_s=self._queue_s, tokens=tokens, ended=self._last)
        return Generation(self._finish, TokenCounts(self._prompt, tokens or 0), timing)

    def _token(self, text: str) -> TokenEvent | None:
        if len(self._stamps) >= self._limit:
            self.overlong = True
            self._end(FinishReason.LENGTH)
            return None
        self._last = time.monotonic()
        self._stamps.append(self._last)
        shown = sanitise(self._holder.push(text))
        if self._holder.stopped:
            self._end(FinishReason.STOP)
        return TokenEvent(shown, len(self._stamps), self._last - self._arrived)

    def _end(self, finish: FinishReason) -> None:
        self.ended = True
        self._finish = finish
        self._last = time.monotonic()
