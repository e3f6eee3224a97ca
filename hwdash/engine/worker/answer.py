"""One request while it is answered: its text, its end, its account."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence

from hwdash.core.errors import EngineError
from hwdash.core.inference import FinishReason
from hwdash.core.text import sanitise
from hwdash.engine.message import Done, Generate, Token
from hwdash.engine.stop import StopHolder
from hwdash.engine.worker.decoder import DAMAGED, Made, Sampling
from hwdash.engine.worker.detokenizer import Detokenizer

_SEED_BITS = 63
_TOKEN_BYTES = 4
_DIGEST_DIGITS = 16


class Answer:
    """The answer to *request*, whose prompt has so many tokens and which gets at most *limit* new ones.

    ``finish`` is why it ended, None while it goes on. ``device_s`` is what the device did for it, in seconds; it is
    written by who runs the device. ``began_s`` is when its prompt was first read, None before that.
    """

    def __init__(
        self,
        request: Generate,
        prompt_tokens: int,
        limit: int,
        ends: frozenset[int],
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.id = request.id
        self.limit = limit
        self.finish: FinishReason | None = None
        self.began_s: float | None = None
        self.device_s = 0.0
        self._prompt_tokens = prompt_tokens
        self._ends = ends
        self._detokenizer = Detokenizer(decode)
        self._holder = StopHolder(request.stop)
        self._digest = hashlib.sha256()
        self._count = 0
        self._newest_s: float | None = None

    def push(self, made: Made) -> Token | None:
        """What to tell of a token; None for one that ends the answer. Raises `EngineError` for a damaged one."""
        token = made.token
        if token == DAMAGED:
            raise EngineError("the model computed NaN or infinity; its weights are damaged or do not stand this dtype")
        self._newest_s = made.at_s
        if token in self._ends:
            self.finish = FinishReason.STOP
            return None
        self._count += 1
        self._digest.update(token.to_bytes(_TOKEN_BYTES, "little"))
        text = sanitise(self._holder.push(self._detokenizer.push(token)))
        if self._holder.stopped:
            self.finish = FinishReason.STOP
        elif self._count >= self.limit:
            self.finish = FinishReason.LENGTH
        return Token(self.id, text, self._count, made.at_s)

    def end(self, finish: FinishReason) -> list[Token | Done]:
        """The last messages: the text that was held back, and the account."""
        messages: list[Token | Done] = []
        if rest := sanitise(self._holder.push(self._detokenizer.flush()) + self._holder.flush()):
            messages.append(Token(self.id, rest, self._count, self._newest_s or 0.0))
        active_s = 0.0
        if self.began_s is not None:
            active_s = max(0.0, (self._newest_s or time.monotonic()) - self.began_s)
        device_s = min(self.device_s, active_s)
        digest = self._digest.hexdigest()[:_DIGEST_DIGITS]
        messages.append(Done(self.id, finish, self._prompt_tokens, self._count, active_s, device_s, digest))
        return messages


def sampling_of(request: Generate) -> Sampling:
    """How the tokens of *request* are picked; without a seed a fresh one is drawn."""
    seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
    return Sampling(request.temperature, request.top_p, seed)
