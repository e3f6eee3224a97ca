"""The stream of an OpenAI-compatible server: bytes to events, events to pieces of an answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from hwdash.core.text import sanitise_line

MAX_EVENT_BYTES = 2**20
"""No event of a stream of tokens comes near this."""
_BREAK = re.compile(rb"\r\n?|\n")
_DONE = b"[DONE]"
_MAX_TOKENS = 10**9


class BadStream(Exception):
    """The bytes are no stream of events, or an event is no piece of an answer; the text says what is wrong."""


class EventStream:
    """Server-sent events from bytes that come in any pieces (HTML standard, "Interpreting an event stream").

    Comments and all fields but ``data`` are dropped.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._after_return = False
        self._first = True
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that *piece* completes. Raises `BadStream` for an event that is too long."""
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        self._rest += piece
        events: list[bytes] = []
        start = 0
        while (found := _BREAK.search(self._rest, max(start, self._scanned))) is not None:
            self._after_return = found[0] == b"\r" and found.end() == len(self._rest)
            self._line(bytes(self._rest[start : found.start()]), events)
            start = self._scanned = found.end()
        del self._rest[:start]
        self._scanned = len(self._rest)
        self._check(len(self._rest))
        return events

    def end(self) -> list[bytes]:
        """The data of the event whose empty line is missing at the end of the stream; half a line is dropped."""
        events: list[bytes] = []
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if self._first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._check(len(line))
            self._data.append(value.removeprefix(b" "))
            self._size += len(line)

    def _check(self, more: int) -> None:
        if self._size + more > MAX_EVENT_BYTES:
            raise BadStream(f"an event of more than {MAX_EVENT_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of an answer. ``finish`` is the server's word for why it ended, None before the end.

    The token counts are those that the server told, None where it did not. ``error`` is the server's own message, of
    any length, empty where it tells of none, ``status`` the HTTP status that it gives it.
    """

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str = ""
    status: int | None = None


def read_chunk(data: bytes) -> Chunk | None:
    """The piece of an answer that the event *data* holds; None for the end of the stream.

    Raises `BadStream` for what is none.
    """
    if data.strip() == _DONE:
        return None
    event = _event(data)
    if event.error or (event.object == "error" and event.message):
        status = event.code
        if isinstance(event.error, dict):
            status = event.error.get("code")
        words = error_words({"error": event.error} if event.error else {"message": event.message})
        return Chunk(error=words or "an error without words", status=status if isinstance(status, int) else None)
    usage = event.usage or _Usage()
    counts = (_count(usage.prompt_tokens), _count(usage.completion_tokens))
    for choice in event.choices or ():
        if choice.index == 0:
            delta = choice.delta or _Delta()
            text = (delta.reasoning_content or delta.reasoning or "") + _text(delta.content) + (choice.text or "")
            return Chunk(text, choice.finish_reason, *counts)
    return Chunk("", None, *counts)


def error_words(body: object) -> str:
    """The message in the JSON *body* of an error, in any of the shapes that servers give it, as one safe line of any length."""
    for _ in range(4):
        if isinstance(body, dict):
            body = next((body[key] for key in ("error", "message", "detail", "msg") if body.get(key)), "")
        elif isinstance(body, list):
            body = body[0] if body else ""
    return sanitise_line(body, len(body)) if isinstance(body, str) else ""


def _event(data: bytes) -> _Event:
    try:
        try:
            return _DECODER.decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # Half a surrogate pair, where a server cuts a character in two: only this decoder lets it pass.
            return msgspec.convert(json.loads(data), _Event)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadStream("an event that is no piece of an answer") from None


def _text(content: str | list[Any] | None) -> str:
    """The text of *content*, be it in parts, of which those that are no text are left out."""
    if not isinstance(content, list):
        return content or ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.index = self.index or 0


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    object: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


_DECODER = msgspec.json.Decoder(_Event)


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= _MAX_TOKENS else None
