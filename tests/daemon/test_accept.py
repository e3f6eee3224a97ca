"""What the system says while clients are let in, and what becomes of the server then."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket

import pytest
from starlette.types import Receive, Scope, Send

from hwdash.daemon.server import SocketServer
from tests.daemon.living import until
from tests.daemon.serving import HEAD, OK, serving

LOST = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM),
)
NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EIO)


@pytest.mark.parametrize("number", [*LOST, *NONE_LEFT])
async def test_a_client_that_cannot_be_accepted_ends_nothing(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failures = [OSError(number, os.strerror(number)) for _ in range(3)]

    async def flaky(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", flaky)
    monkeypatch.setattr("hwdash.daemon.server._EXHAUSTED_S", 0.01)
    async with serving() as server:
        await until(lambda: not failures)
        assert OK in await server.say(HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
    assert ("no further client can be let in" in caplog.text) == (number in NONE_LEFT)


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
async def test_a_listener_that_is_none_ends_the_server(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: socket.socket) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", broken)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

        with pytest.raises(OSError, match=re.escape(f"[Errno {number}]")):
            await asyncio.wait_for(SocketServer(nothing).serve(sockets=[listener]), 20)
