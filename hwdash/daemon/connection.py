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
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from hwdash.core.errors import HwdashError
from hwdash.core.wire import dumps, error_to_wire
from hwdash.daemon.inlet import MAX_CHUNKS, Flow, HeadTooLarge, Inlet, Parser

_PARTING_S = 1.0
_PARTING_BYTES = 8 << 20

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
        self._parser = Parser()
        self.conn = self._parser
        self._inlet = Inlet(self._parser)
        self._turn: asyncio.Handle | None = None
        self._parting: asyncio.Handle | None = None
        self._dropped_bytes = 0

    @property
    def made(self) -> bool:
        """It has begun, and its end will be told."""
        transport: object = self.transport
        return transport is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection has begun."""
        super().connection_made(transport)
        self._flow = Flow(transport)
        self.flow = self._flow

    def data_received(self, data: bytes) -> None:
        """The client has sent *data*. It is taken in piece by piece, one a turn of the event loop."""
        if self._parting is not None:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _PARTING_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._inlet.add(data)
        if self._turn is None:
            self._feed()

    def on_response_complete(self) -> None:
        """A request has been answered: what came after it has its turn."""
        super().on_response_complete()
        if self._inlet and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._feed_later()

    def _feed(self) -> None:
        """Give the parser one piece of what has come, and see to the rest later."""
        self._turn = None
        if self.transport.is_closing() or self._parting is not None:
            self._inlet.clear()
            return
        try:
            piece = self._inlet.take()
        except HeadTooLarge as error:
            self._part(refusal(431, str(error), "head_too_large"))
            return
        if piece:
            self.conn.receive_data(piece)
            self.handle_events()
        if piece and self._inlet:
            self._flow.hold()
            self._feed_later()
        elif self._inlet.waits_for_answer:
            self._flow.hold()
        else:
            cycle: RequestResponseCycle | None = self.cycle
            waiting = cycle is not None and not cycle.response_complete and len(cycle.body) > HIGH_WATER_LIMIT
            self._flow.release(resume=not waiting)

    def _feed_later(self) -> None:
        if self._turn is None:
            self._turn = self.loop.call_soon(self._feed)

    def _part(self, answer: bytes) -> None:
        """Send *answer* as the last, and close. An answer is lost with a connection that ends over unread bytes: for a
        moment what still comes is read and dropped.
        """
        self._inlet.clear()
        self.transport.write(answer)
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._parting = self.loop.call_later(_PARTING_S, self.transport.close)
        self._flow.release(resume=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._unset_keepalive_if_required()
        for handle in (self._turn, self._parting):
            if handle is not None:
                handle.cancel()
        self._inlet.clear()
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
        if self.transport.is_closing() or self._parting is not None:
            return Phase.FLUSH, cycle, self.transport.get_write_buffer_size()
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY, cycle, 0
        if cycle is not None and not cycle.response_complete:
            return Phase.ANSWER, cycle, 0
        if cycle is None or self.conn.trailing_data[0] or self._inlet:
            return Phase.HEAD, cycle, 0
        return Phase.IDLE, cycle, 0

    def send_400_response(self, msg: str) -> None:
        """Tell the client that its bytes are no request, and end the connection."""
        in_body = self.cycle is not None and not self.cycle.response_complete
        if in_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            words = "these bytes are no HTTP/1.1 request"
            if self._parser.in_too_many_chunks:
                words = f"the body of the request comes in more than {MAX_CHUNKS} chunks; send larger ones"
            elif in_body:
                words = "the body of the request is not what its head announces"
            self._part(refusal(400, words, "bad_request"))
        else:
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
