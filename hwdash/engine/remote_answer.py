"""The answer of a server as it comes in: text, tokens, times, end."""

from __future__ import annotations

import re
import time

from hwdash.core.inference import FinishReason, Generation, PromptRequest, TokenCounts, TokenEvent
from hwdash.core.text import sanitise
from hwdash.engine.remote_stream import Chunk
from hwdash.engine.stop import StopHolder
from hwdash.engine.timing import timing_of

_MOST_BYTES_PER_TOKEN = 64
_MOST_BYTES = 2**20
"""What an answer may have beside that: no vocabulary has tokens of 64 bytes on average, and some of 1000."""
_HALF = re.compile("[\ud800-\udfff]")


class Answer:
    """One answer. A token is a chunk with text until the server tells its own count.

    ``ended`` is true once the server told why it ended, a stop string was met, or more chunks came than tokens were
    asked for, which also makes it ``overlong``. It is ``bloated`` once its text is larger than any answer of so many
    tokens can be.
    """

    def __init__(self, request: PromptRequest, arrived: float, queue_s: float) -> None:
        self.ended = False
        self.overlong = False
        self.bloated = False
        self._limit = request.max_tokens
        self._arrived = arrived
        self._queue_s = queue_s
        self._most_bytes = request.max_tokens * _MOST_BYTES_PER_TOKEN + _MOST_BYTES
        self._bytes = 0
        self._half = ""
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
        half, self._half = self._half, ""
        text = sanitise(self._holder.push(half) + self._holder.flush())
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
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        self.bloated = self._bytes > self._most_bytes
        shown = sanitise(self._holder.push(self._whole(text)))
        if self._holder.stopped:
            self._end(FinishReason.STOP)
        return TokenEvent(shown, len(self._stamps), self._last - self._arrived)

    def _whole(self, text: str) -> str:
        """*text* with the two halves of a surrogate pair as one character; the first half waits for the second."""
        if not self._half and not _HALF.search(text):
            return text
        text = (self._half + text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return text.removesuffix(self._half)

    def _end(self, finish: FinishReason) -> None:
        self.ended = True
        self._finish = finish
        self._last = time.monotonic()
