"""What a client has sent, handed to the parser of HTTP piece by piece: no turn of the event loop takes long, whatever is in it."""

from __future__ import annotations

import re
from asyncio import Transport

import h11
from uvicorn.protocols.http.flow_control import FlowControl

MAX_HEAD_BYTES = 16 * 1024
MAX_HEAD_LINES = 100
MAX_CHUNKS = 16 * 1024
"""Chunks of one body: each costs some microseconds, however short it is. Full bodies have 512 bytes in each then."""
_CHUNKED_BYTES = 2 * 1024
"""So much of a chunked body at a time: at worst some hundred chunks, a few milliseconds."""
_PLAIN_BYTES = 64 * 1024
_HEAD_END = re.compile(rb"\n\r?\n")


class HeadTooLarge(Exception):
    """The head of a request has more than `MAX_HEAD_BYTES` or `MAX_HEAD_LINES`."""


class Parser(h11.Connection):
    """h11's parser, which knows how much of a body is still to come and does not take a body in endlessly many chunks."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self.body_left: int | None = None
        """Bytes of a body with a declared length; None for one in chunks."""
        self.chunks = 0

    @property
    def in_too_many_chunks(self) -> bool:
        """The body has come in more than `MAX_CHUNKS`."""
        return self.chunks > MAX_CHUNKS

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """The next event; raises `h11.RemoteProtocolError` for what is no HTTP and for too many chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            headers = dict(event.headers)
            length = headers.get(b"content-length")
            self.body_left = None if length is None or b"transfer-encoding" in headers else int(length)
            self.chunks = 0
        elif isinstance(event, h11.Data):
            if self.body_left is not None:
                self.body_left -= len(event.data)
            self.chunks += event.chunk_start
            if self.in_too_many_chunks:
                raise h11.RemoteProtocolError("too many chunks")
        return event


class Inlet:
    """Bytes of one client that its parser has not been given yet."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._data = bytearray()

    def __bool__(self) -> bool:
        return bool(self._data)

    def add(self, data: bytes) -> None:
        """Keep *data* after what is there."""
        self._data += data

    def clear(self) -> None:
        """Forget all that is there."""
        self._data.clear()

    @property
    def waits_for_answer(self) -> bool:
        """What is there comes after a request that is being answered."""
        return bool(self._data) and self._parser.their_state is not h11.IDLE

    def take(self) -> bytes:
        """The next piece for the parser: a whole head, or some of a body; empty while there is none.

        Raises `HeadTooLarge`, before the parser has seen such a head.
        """
        state = self._parser.their_state
        if state is h11.IDLE:
            return self._cut(self._head_bytes())
        if state is h11.SEND_BODY:
            left = self._parser.body_left
            return self._cut(_CHUNKED_BYTES if left is None else min(left, _PLAIN_BYTES))
        if state in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            self.clear()  # nothing is read after the last request of a connection
        return b""

    def _head_bytes(self) -> int:
        """How many bytes complete the head; 0 while they are not there."""
        begun = self._parser.trailing_data[0]  # what came in one piece with the end of a body
        head = begun + bytes(self._data[: MAX_HEAD_BYTES + 1 - len(begun)])
        if not self._data or head[0] <= 0x20:
            return min(len(self._data), 2)  # no head begins so: the parser says it
        found = _HEAD_END.search(head)
        end = len(head) if found is None else found.end()
        if end > MAX_HEAD_BYTES:
            raise HeadTooLarge(f"the head of the request is larger than {MAX_HEAD_BYTES // 1024} KiB; shorten it")
        if head.count(b"\n", 0, end) > MAX_HEAD_LINES + 2:
            raise HeadTooLarge(f"the head of the request has more than {MAX_HEAD_LINES} lines; send fewer")
        return 0 if found is None else end - len(begun)

    def _cut(self, count: int) -> bytes:
        piece = bytes(self._data[:count])
        del self._data[:count]
        return piece


class Flow(FlowControl):
    """uvicorn's flow control; while it is *held*, an application that wants to read on makes nothing more come in."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._held = False

    def hold(self) -> None:
        """Read nothing more from the client."""
        self._held = True
        self.pause_reading()
        self._transport.pause_reading()

    def release(self, *, resume: bool) -> None:
        """Leave reading to the application again; *resume*: read on at once."""
        self._held = False
        if resume:
            self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless held."""
        if not self._held:
            super().resume_reading()
