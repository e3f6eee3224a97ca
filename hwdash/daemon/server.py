"""uvicorn on sockets of our own: no signal handling, bounded in clients and in their time, an end within a fraction of a second."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_UNIX, SHUT_WR
from socket import socket as Socket  # noqa: N812 - a class with a lower-case name

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server

from hwdash.core.errors import Overloaded
from hwdash.core.wire import dumps, error_to_wire
from hwdash.daemon.connection import Connection, Patience, refusal

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
MAX_TCP_CONNECTIONS = 128
_TOLD_CONNECTIONS = 16
_GRACE_S = 0.3
_FLUSH_S = 0.02
_EXHAUSTED_S = 1.0
_RETRY_AFTER_S = 5
_LINGER_S = 1.0
_MAX_LINGERING = 64
_MAX_DROPPED = 256
_BRIEF = frozenset({"/health", "/ready", "/api/v1/status", "/api/v1/devices", "/api/v1/rank", "/api/v1/stop"})
"""What the socket's owner may ask where all places are taken: it is answered at once, and helps to find out why."""
_FULL = "all places for clients are taken; try again in some seconds"
_LOST = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM),
)
"""accept(2) gives what the network has done to a client before it was let in; EPERM: a firewall forbids it."""
_NO_LISTENER = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)
_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Place:
    """A client's place: whether it came over TCP, and whether it is served or only told that all places are taken."""

    tcp: bool
    served: bool


class Places:
    """How many clients are served at once: *total*, of them *tcp* over TCP, so that the socket's owner always gets in.

    *waiting* more of either kind are told so, and on the socket answered what is brief; the rest is not let in.
    """

    def __init__(
        self, total: int = MAX_CONNECTIONS, tcp: int = MAX_TCP_CONNECTIONS, waiting: int = _TOLD_CONNECTIONS
    ) -> None:
        self._total = total
        self._tcp = tcp
        self._waiting = waiting
        self._taken: Counter[Place] = Counter()

    def take(self, tcp: bool) -> Place | None:
        """A place, or None where even those are taken that nobody is served at."""
        over_tcp, over_socket = (self._taken[Place(kind, served=True)] for kind in (True, False))
        free = over_tcp + over_socket < self._total and not (tcp and over_tcp >= self._tcp)
        place = Place(tcp, served=free)
        if not free and self._taken[place] >= self._waiting:
            return None
        self._taken[place] += 1
        return place

    def free(self, place: Place) -> None:
        """Give *place* back."""
        self._taken[place] -= 1

    @property
    def taken(self) -> int:
        """How many clients there are."""
        return self._taken.total()


class SocketServer(Server):
    """Serves *app* until `end` is called. Servers that share *places* share the bound on clients.

    *tls* wraps every connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        places: Places | None = None,
        tls: ssl.SSLContext | None = None,
        patience: Patience = _PATIENCE,
    ) -> None:
        super().__init__(
            Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=round(patience.idle_s),
                workers=1,
            )
        )
        self._places = places or Places()
        self._tls = tls
        self._patience = patience
        self._ended = asyncio.Event()
        self._listeners: list[asyncio.Task[None]] = []
        self._greetings: set[asyncio.Task[None]] = set()
        self._refusals: set[asyncio.Task[None]] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Stop serving: requests that are being answered have a moment to finish."""
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def startup(self, sockets: list[Socket] | None = None) -> None:
        """Accept clients on *sockets*. (uvicorn's own way sees a client only after its TLS handshake: too late to count.)"""
        self._listeners = [asyncio.create_task(self._listen(listener)) for listener in sockets or []]
        self.started = True

    async def main_loop(self) -> None:
        """Wait for `end`; raises what a listener has failed with. (uvicorn's own loop wakes ten times a second.)"""
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, *self._listeners}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        for listener in self._listeners:
            if listener.done():
                listener.result()

    async def shutdown(self, sockets: list[Socket] | None = None) -> None:
        """Accept no more, let answers finish for 0.3 s and reach the wire, then drop all connections."""
        for task in self._listeners:
            task.cancel()
        await asyncio.sleep(0)  # a greeting that has not begun would lose its client
        early = [*self._listeners, *self._greetings, *self._refusals]
        for task in early:
            task.cancel()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=_GRACE_S)
        await asyncio.sleep(_FLUSH_S)
        for task in list(state.tasks):
            task.cancel()
        for connection in list(state.connections):
            connection.transport.abort()
        if waited := [*state.tasks, *early]:
            await asyncio.wait(waited, timeout=_GRACE_S)
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()

    async def _listen(self, listener: Socket) -> None:
        loop = asyncio.get_running_loop()
        tcp = listener.family != AF_UNIX
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _NO_LISTENER:
                    raise
                if error.errno in _LOST:
                    log.debug("a client was lost before it was let in: %s", error)
                    await asyncio.sleep(0)
                else:
                    log.warning("no further client can be let in: %s", error.strerror)
                    await asyncio.sleep(_EXHAUSTED_S)
                continue
            if (place := self._places.take(tcp)) is not None:
                greeting = asyncio.create_task(self._greet(client, place))
                self._greetings.add(greeting)
                greeting.add_done_callback(self._greetings.discard)
            else:
                self._refuse(client)
            await asyncio.sleep(0)  # a flood of clients is accepted without a pause for anything else

    async def _greet(self, client: Socket, place: Place) -> None:
        """Make *client* a connection, after the TLS handshake where there is one."""
        loop = asyncio.get_running_loop()
        connection = Connection(self.config, self.server_state, self._patience, lambda: self._places.free(place))
        if not place.served:
            connection.app = _full if place.tcp else _brief(connection.app)
        handshake_s = None if self._tls is None else self._patience.head_s
        try:
            await loop.connect_accepted_socket(
                lambda: connection, client, ssl=self._tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:
            log.debug("a client was lost while it was greeted: %s", error)
        finally:
            if not connection.made:  # its end will not be told
                client.close()
                self._places.free(place)
            elif self._sweep_handle is None:
                self._sweep_handle = loop.call_later(self._patience.look_s, self._sweep)

    def _refuse(self, client: Socket) -> None:
        """Tell *client* that there is no place. It has to have read that before its connection ends over what it sends."""
        if self._tls is not None or len(self._refusals) >= _MAX_LINGERING:
            client.close()
            return
        refused = asyncio.create_task(_tell_full(client))
        self._refusals.add(refused)
        refused.add_done_callback(self._refusals.discard)

    def _sweep(self) -> None:
        """Drop all clients that take too long; again and again, as long as there are any."""
        loop = asyncio.get_running_loop()
        self._sweep_handle = None
        now_s = loop.time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.overdue(now_s):
                connection.hang_up()
        if self.server_state.connections:
            self._sweep_handle = loop.call_later(self._patience.look_s, self._sweep)


async def _tell_full(client: Socket) -> None:
    """Say that there is no place, and drop what *client* sends until it leaves, for a moment at most."""
    loop = asyncio.get_running_loop()
    with client, contextlib.suppress(OSError, TimeoutError):
        client.setblocking(False)
        client.send(refusal(503, _FULL, "overloaded", _RETRY_AFTER_S))
        client.shutdown(SHUT_WR)
        async with asyncio.timeout(_LINGER_S):
            for _ in range(_MAX_DROPPED):
                if not await loop.sock_recv(client, 65536):
                    break
                await asyncio.sleep(0)  # what is there is given without a pause for anything else


def _brief(app: ASGIApp) -> ASGIApp:
    """*app* for one brief request; `_full` for all others."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        if scope["path"] in _BRIEF:
            await app(scope, receive, send_last)
        else:
            await _full(scope, receive, send)

    return answer


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of clients for whom there is no place."""
    body = dumps(error_to_wire(Overloaded(_FULL)))
    headers = {"retry-after": str(_RETRY_AFTER_S), "connection": "close"}
    await Response(body, 503, headers, "application/json")(scope, receive, send)
