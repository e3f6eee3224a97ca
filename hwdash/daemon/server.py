"""uvicorn on a socket of our own: no signal handling, no tick, and an end within a fraction of a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from socket import socket

from fastapi import FastAPI
from uvicorn import Config, Server

_MAX_CONNECTIONS = 256
_GRACE_S = 0.3
_FLUSH_S = 0.02


class SocketServer(Server):
    """Serves *app* until `end` is called."""

    def __init__(self, app: FastAPI) -> None:
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
                limit_concurrency=_MAX_CONNECTIONS,
                workers=1,
            )
        )
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Stop serving: requests that are being answered have a moment to finish."""
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def main_loop(self) -> None:
        """Wait for `end`. (uvicorn's own loop wakes ten times a second to look for reasons to stop.)"""
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Close the listener, let answers finish for 0.3 s and reach the wire, then drop all connections."""
        for server in self.servers:
            server.close()
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
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=_GRACE_S)
