"""Answers in the shapes of OpenAI's API: whole, and chunk by chunk."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from hwdash import __version__
from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.inference import InferenceRecord
from hwdash.core.wire import Json, answer_to_wire, dumps

FINGERPRINT = f"hwdash-{__version__}"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and made."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    """The answer to a chat."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """The one answer to a chat, and why it ended."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """The one completion of a prompt, and why it ended."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """The answer of ``POST /v1/chat/completions``. ``usage`` is null where the engine does not count the prompt."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: Usage | None
    hwdash: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer of ``POST /v1/completions``. ``usage`` is null where the engine does not count the prompt."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[CompletionChoice, ...]
    usage: Usage | None
    hwdash: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be asked. ``created`` is when this daemon began to offer models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@dataclass(frozen=True, slots=True)
class ModelList:
    """The answer of ``GET /v1/models``."""

    object: Literal["list"]
    data: tuple[ModelCard, ...]


def model_card(name: str, created: int) -> ModelCard:
    """The model called *name*."""
    return ModelCard(name, "model", created, "hwdash")


def unix_time() -> int:
    """The time as OpenAI's API writes it: whole seconds since 1970."""
    return int(SYSTEM_CLOCK.now().timestamp())


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer on its way: what all its chunks have in common.

    ``chat`` tells a chat from a completion. ``wants_usage`` puts the counts of tokens in a chunk of their own after the
    last one.
    """

    model: str
    chat: bool
    wants_usage: bool = False
    created: int = field(default_factory=unix_time)
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def whole(self, text: str, record: InferenceRecord) -> bytes:
        """The answer in one piece."""
        end: Any = record.finish_reason.value
        usage, extra = _usage(record), _extra(record)
        if self.chat:
            choices = (ChatChoice(0, AnswerMessage("assistant", text), end),)
            chat = ChatCompletion(
                self._id, "chat.completion", self.created, self.model, FINGERPRINT, choices, usage, extra
            )
            return dumps(chat)
        texts = (CompletionChoice(0, text, end),)
        return dumps(
            Completion(self._id, "text_completion", self.created, self.model, FINGERPRINT, texts, usage, extra)
        )

    def frame(self) -> Frame:
        """What stands before and after the text of a chunk, encoded once."""
        if self.chat:
            choice = b'{"index":0,"delta":{"content":', b'},"logprobs":null,"finish_reason":null}'
        else:
            choice = b'{"index":0,"text":', b',"logprobs":null,"finish_reason":null}'
        usage = b',"usage":null' if self.wants_usage else b""
        head = dumps(self._head())[:-1]
        return Frame(b"data: " + head + b',"choices":[' + choice[0], choice[1] + b"]" + usage + b"}\n\n")

    def opening(self) -> bytes:
        """The chunk that begins a chat: who speaks. A completion has none."""
        if not self.chat:
            return b""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def ending(self, record: InferenceRecord) -> bytes:
        """The chunks that end the stream: why it ended, the counts where they are wanted, and OpenAI's own last line.

        The field ``hwdash`` stands on the last chunk.
        """
        end, extra = record.finish_reason.value, {"hwdash": _extra(record)}
        last: Any = {} if self.chat else ""
        if not self.wants_usage:
            return self._chunk(last, end, **extra) + DONE
        counts = self._head() | {"choices": [], "usage": _usage(record)} | extra
        return self._chunk(last, end) + b"data: " + dumps(counts) + b"\n\n" + DONE

    @property
    def _id(self) -> str:
        return ("chatcmpl-" if self.chat else "cmpl-") + self.number

    def _head(self) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(self, piece: Any, end: str | None, **more: Any) -> bytes:
        choice = {"index": 0, "delta" if self.chat else "text": piece, "logprobs": None, "finish_reason": end}
        usage = {"usage": None} if self.wants_usage else {}
        return b"data: " + dumps(self._head() | {"choices": [choice]} | usage | more) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes around the text of a chunk: what is left to do for a token is to escape its text."""

    before: bytes
    after: bytes

    def around(self, text: str) -> bytes:
        """The chunk with *text*."""
        return self.before + dumps(text) + self.after


def _usage(record: InferenceRecord) -> Usage | None:
    tokens = record.tokens
    if tokens.prompt is None:
        return None
    return Usage(tokens.prompt, tokens.completion, tokens.prompt + tokens.completion)


def _extra(record: InferenceRecord) -> Json:
    data = answer_to_wire(record, "")
    del data["text"]
    return data
