"""The bytes between supervisor and worker: frames of a four-byte big-endian length and one msgpack message."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from hwdash.engine.message import FromWorker, ToWorker

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""No message is longer: a longer length in a header means that the stream is broken."""

_HEADER_BYTES = 4
_encoder = msgspec.msgpack.Encoder()
T = TypeVar("T")


class FrameError(ValueError):
    """The bytes are no frame of this protocol, or the message does not fit into one."""


def encode(message: ToWorker | FromWorker) -> bytes:
    """*message* as one frame. Raises `FrameError` above `MAX_FRAME_BYTES` and for text that is not valid Unicode."""
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise FrameError(f"text is not valid Unicode: {error.reason}") from None
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a message of {len(body)} bytes; at most {MAX_FRAME_BYTES} fit")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameDecoder(Generic[T]):
    """Cuts a stream of bytes, fed in pieces of any size, into the messages of one direction."""

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """The messages that *data* completes. Raises `FrameError` when the stream is broken, for good."""
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _HEADER_BYTES:
            body = start + _HEADER_BYTES
            length = int.from_bytes(self._buffer[start:body], "big")
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes was announced; at most {MAX_FRAME_BYTES} are allowed")
            if len(self._buffer) - body < length:
                break
            start = body + length
            try:
                messages.append(self._decoder.decode(self._buffer[body:start]))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FrameError(f"not a message of this protocol: {error}") from None
        del self._buffer[:start]
        return messages


def worker_decoder() -> FrameDecoder[ToWorker]:
    """A decoder of what a worker receives."""
    return FrameDecoder(ToWorker)


def supervisor_decoder() -> FrameDecoder[FromWorker]:
    """A decoder of what a worker sends."""
    return FrameDecoder(FromWorker)
