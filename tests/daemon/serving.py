"""A server at a port of the loopback address, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from hwdash.daemon.app import create_app
from hwdash.daemon.connection import Patience
from hwdash.daemon.guard import TokenGuard
from hwdash.daemon.server import Places, SocketServer
from hwdash.daemon.token import TokenFile
from hwdash.engine.fake import FakeEngine
from tests.daemon.living import Living, living, until

LASTING = Patience(look_s=0.02)
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b'{"status":"ok"}'


@dataclass
class Open:
    """A server that listens at a port of the loopback address."""

    daemon: Living
    port: int
    places: Places
    before: set[asyncio.Task[object]]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes, *, eof: bool = False) -> bytes:
        """All that is answered to *data* until the server hangs up."""
        reader, writer = await self.connect()
        writer.write(data)
        if eof:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    async def nothing_is_left(self, within_s: float = 20.0) -> None:
        await until(lambda: self.places.taken == 0, within_s)
        mine = asyncio.current_task()
        await until(lambda: not {task for task in asyncio.all_tasks() if task is not mine} - self.before, within_s)
        assert self.daemon.service.watchers == 0


@asynccontextmanager
async def serving(
    patience: Patience = LASTING,
    engine: FakeEngine | None = None,
    *,
    tokens: TokenFile | None = None,
    app: ASGIApp | None = None,
    interval_s: float = 0.1,
    **limits: int,
) -> AsyncIterator[Open]:
    async with living(engine=engine, interval_s=interval_s) as daemon:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        places = Places(**limits)
        app = app or create_app(daemon.service, daemon.stop.set)
        server = SocketServer(app if tokens is None else TokenGuard(app, tokens), places, patience=patience)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        await daemon.service.snapshot()
        await asyncio.sleep(0)
        before: set[asyncio.Task[object]] = set(asyncio.all_tasks())
        try:
            yield Open(daemon, listener.getsockname()[1], places, before)
        finally:
            server.end()
            await task
        assert places.taken == 0
