"""A daemon that also answers over TCP, for clients that know no Unix sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hwdash.core.config import Config
from hwdash.daemon.app import create_app
from hwdash.daemon.guard import TokenGuard
from hwdash.daemon.server import SocketServer
from hwdash.daemon.token import TokenFile
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource
from tests.daemon.living import Living, living


@asynccontextmanager
async def answering(
    engine: FakeEngine | None = None,
    source: FakeSource | None = None,
    config: Config | None = None,
    tokens: TokenFile | None = None,
) -> AsyncIterator[tuple[Living, str]]:
    """A daemon with its first snapshot, and the URL of its root. Over TCP it asks for one of *tokens*, if any are given."""
    async with living(source, engine, config=config, interval_s=0.02) as daemon:
        await daemon.service.snapshot()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            app = create_app(daemon.service, lambda: None)
            server = SocketServer(app if tokens is None else TokenGuard(app, tokens))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield daemon, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.end()
                await serving
