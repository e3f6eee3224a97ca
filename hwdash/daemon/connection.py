"""One client's connection: how long each part of a request may take, and what is said to nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from hwdash.core.errors import HwdashError
from hwdash.core.wire import dumps, error_to_wire

MAX_HEAD_BYTES = 16 * 1024

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/@]+)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def _is_fault(record: logging.LogRecord) -> bool:
    """Something is wrong with the daemon itself. What clients do wrong is told to them, and the end cancels requests."""
    error = record.exc_info[1] if record.exc_info else None
    return record.levelno >= logging.ERROR and not isinstance(error, asyncio.CancelledError)


log = logging.getLogger(__name__)
log.addFilter(_is_fault)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a client may take.

    ``head_s``: from the connection, or the first byte of a further request, to the end of its headers. ``body_s``: from
    there to the end of the body; more than `hwdash.daemon.body.read_body` waits, so that its answer comes first.
    ``idle_s``: between two requests. ``stalled_s``: to read on when 64 KiB wait for it, and for each part of the rest
    once nothing more is to come. All are looked at every ``look_s``.
    """

    head_s: float = 10.0
    body_s: float = 35.0
    idle_s: float = 30.0
    stalled_s: float = 35.0
    look_s: float = 1.0


class Phase(StrEnum):
    """What a connection is waiting for."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    IDLE = "idle"
    FLUSH = "flush"


class Connection(H11Protocol):
    """uvicorn's connection, with limits. Someone has to ask `overdue` now and then; *on_end* is called once, at its end.

    An application finds `hang_up` in its scope, as ``scope["state"]["hang_up"]``.
    """

    def __init__(
        self, config: Config, server_state: ServerState, patience: Patience, on_end: Callable[[], None]
    ) -> None:
        super().__init__(config, server_state, {"hang_up": self.hang_up})
        self.logger = log
        self.app = _in_origin_form(self.app)
        self._patience = patience
        self._on_end = on_end
        self._stage: tuple[Phase, RequestResponseCycle | None, int] | None = None
        self._since_s = 0.0
        self._full_since_s: float | None = None

    @property
    def made(self) -> bool:
        """It has begun, and its end will be told."""
        transport: object = self.transport
        return transport is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._on_end()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to."""
        self._full_since_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read on."""
        self._full_since_s = None
        super().resume_writing()

    def hang_up(self) -> None:
        """Drop the connection, whatever is under way on it: the application is told that the client has left."""
        self.transport.abort()

    def shutdown(self) -> None:
        """End after the request that is being answered, at once where there is none."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come."""
        with contextlib.suppress(h11.LocalProtocolError):
            super().timeout_keep_alive_handler()
        self.transport.close()

    def overdue(self, now_s: float) -> bool:
        """The client has taken longer than it may, at the event loop's time *now_s*. Asked about every ``look_s``."""
        if self._full_since_s is not None and now_s - self._full_since_s > self._patience.stalled_s:
            return True
        stage = self._at()
        if stage != self._stage:
            self._stage, self._since_s = stage, now_s
        limits = {
            Phase.HEAD: self._patience.head_s,
            Phase.BODY: self._patience.body_s,
            Phase.IDLE: self._patience.idle_s,
            Phase.FLUSH: self._patience.stalled_s,
        }
        limit_s = limits.get(stage[0])
        return limit_s is not None and now_s - self._since_s > limit_s

    def _at(self) -> tuple[Phase, RequestResponseCycle | None, int]:
        """What is waited for, of which request, and, once nothing more is to come, how much is still to be sent."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing():
            return Phase.FLUSH, cycle, self.transport.get_write_buffer_size()
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY, cycle, 0
        if cycle is not None and not cycle.response_complete:
            return Phase.ANSWER, cycle, 0
        if cycle is None or self.conn.trailing_data[0]:
            return Phase.HEAD, cycle, 0
        return Phase.IDLE, cycle, 0

    def send_400_response(self, msg: str) -> None:
        """Tell the client that its bytes are no request, and end the connection."""
        in_body = self.cycle is not None and not self.cycle.response_complete
        if in_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            if in_body:
                answer = refusal(400, "the body of the request is not what its head announces", "bad_request")
            elif len(self.conn.trailing_data[0]) > MAX_HEAD_BYTES:
                words = f"the head of the request is larger than {MAX_HEAD_BYTES // 1024} KiB; shorten it"
                answer = refusal(431, words, "head_too_large")
            else:
                answer = refusal(400, "these bytes are no HTTP/1.1 request", "bad_request")
            self.transport.write(answer)
        self.transport.close()


def origin_form(scope: Scope) -> Scope:
    """*scope* with a target that is a path. One with scheme and authority (RFC 9112, 3.2.2) is without them; the authority
    takes the place of the ``Host``.
    """
    match = _ABSOLUTE.fullmatch(scope["raw_path"])
    if match is None:
        return scope
    raw_path = match["path"] or b"/"
    headers = [(name, match["authority"] if name == b"host" else value) for name, value in scope["headers"]]
    return {**scope, "raw_path": raw_path, "path": unquote(raw_path.decode("ascii")), "headers": headers}


def _in_origin_form(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(origin_form(scope), receive, send)

    return answer


def refusal(status: int, message: str, code: str, retry_after_s: int | None = None) -> bytes:
    """A whole answer, head and body, in the shape of all errors. The connection ends after it."""
    error = HwdashError(message)
    error.http_status, error.code = status, code
    body = dumps(error_to_wire(error))
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if retry_after_s is not None:
        lines.append(f"retry-after: {retry_after_s}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body
