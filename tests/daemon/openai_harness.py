"""A daemon that also answers over TCP, for clients that know no Unix sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hwdash.core.config import Config
from hwdash.daemon.app import create_app
from hwdash.daemon.server import SocketServer
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource
from tests.daemon.living import Living, living


@asynccontextmanager
async def answering(
    engine: FakeEngine | None = None, source: FakeSource | None = None, config: Config | None = None
) -> AsyncIterator[tuple[Living, str]]:
    """A daemon with its first snapshot, and the URL of its root. Its model is `FakeModels`' one."""
    async with living(source, engine, config=config, interval_s=0.02) as daemon:
        await daemon.service.snapshot()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            server = SocketServer(create_app(daemon.service, lambda: None))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield daemon, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.end()
                await serving
