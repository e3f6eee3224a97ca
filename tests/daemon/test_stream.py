"""A body that is made chunk by chunk: whom it waits for, and what it takes for a mistake of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hwdash.daemon.connection import Patience
from hwdash.daemon.server import SocketServer
from hwdash.daemon.socket import listening
from hwdash.daemon.stream import EVENT_STREAM, Stream
from tests.daemon.living import short_directory, until

SHORT = Patience(stalled_s=0.1, look_s=0.02)


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("begun", [False, True])
async def test_a_timeout_of_the_one_who_makes_the_chunks_is_no_slow_client(begun: bool) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        if begun:
            yield b"a"
        raise TimeoutError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(TimeoutError):
        await Stream(chunks(), EVENT_STREAM, asyncio.Event())({"type": "http"}, never, send)
    assert len(sent) == (2 if begun else 0)


class Flood:
    """An application that sends without end; remembers that its stream was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Stream(self._chunks(), EVENT_STREAM, asyncio.Event())(scope, receive, send)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 65536
        finally:
            self.closed.set()


async def never_read(app: ASGIApp, listener: socket.socket, client: socket.socket, closed: asyncio.Event) -> None:
    listener.setblocking(False)
    server = SocketServer(app, patience=SHORT)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            await closed.wait()
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)
    finally:
        client.close()
        server.end()
        await serving


@pytest.mark.parametrize("tcp", [True, False])
async def test_who_does_not_read_is_dropped_on_both_listeners_and_is_no_error(
    tcp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    flood = Flood()
    if tcp:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            await never_read(flood, listener, client, flood.closed)
    else:
        with (
            short_directory() as directory,
            listening(directory / "run" / "s") as listener,
            socket.socket(socket.AF_UNIX) as client,
        ):
            await never_read(flood, listener, client, flood.closed)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
