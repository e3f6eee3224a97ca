"""Clients that do not behave, against a server in this process: nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from hwdash.daemon.connection import Patience, origin_form
from hwdash.daemon.inlet import MAX_HEAD_BYTES, MAX_HEAD_LINES
from hwdash.daemon.server import Place, Places, SocketServer
from hwdash.daemon.token import TokenFile
from hwdash.engine.fake import FakeEngine
from tests.daemon.living import sockets_of, until
from tests.daemon.serving import HEAD, LASTING, OK, serving

ENDLESS = Patience(head_s=600.0, body_s=600.0, idle_s=600.0, stalled_s=600.0)
BUSY_S = 120.0
"""How long a crowd may take on a machine with other things to do."""
SHORT = Patience(head_s=0.1, body_s=0.1, idle_s=0.1, stalled_s=0.1, look_s=0.02)


async def test_two_hundred_that_open_a_stream_and_vanish() -> None:
    # Nothing here is ended by a limit or by itself: the clients' leaving alone does it.
    async with serving(ENDLESS, FakeEngine(600.0), interval_s=1.0, total=256, tcp=256) as server:
        before = sockets_of(os.getpid())
        body = b'{"prompt": "' + b"word " * 500 + b'", "model": "fake"}'
        prompt = b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        stream = b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"
        clients = [await server.connect() for _ in range(200)]
        for number, (_, writer) in enumerate(clients):
            writer.write(prompt if number % 8 == 0 else stream)
        for number, (reader, _) in enumerate(clients):
            if number % 8:
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BUSY_S)
        for _, writer in clients:
            writer.transport.abort()
        await server.nothing_is_left(BUSY_S)
        await until(lambda: sockets_of(os.getpid()) <= before, BUSY_S)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /hea",
        HEAD[:-2] + b"X: ",
        b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
        HEAD,
        HEAD + b"G",
        HEAD * 3 + b"GET",
    ],
)
async def test_slow_clients_are_dropped_wherever_they_stop(sent: bytes) -> None:
    async with serving(SHORT) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.count(OK) == sent.count(HEAD)
        writer.close()
        await server.nothing_is_left()


async def test_fifty_that_send_a_byte_now_and_then() -> None:
    async with serving(replace(SHORT, head_s=0.5)) as server:
        clients = [await server.connect() for _ in range(50)]

        async def drip(writer: asyncio.StreamWriter) -> None:
            for byte in b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 10_000:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)

        drips = [asyncio.create_task(drip(writer)) for _, writer in clients]
        for reader, _ in clients:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
        for task in drips:
            task.cancel()
        await asyncio.wait(drips)
        for _, writer in clients:
            writer.transport.abort()
        await server.nothing_is_left()


async def test_a_reader_that_stops_reading_is_dropped() -> None:
    async with serving(SHORT) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        asking = asyncio.create_task(
            loop.sock_sendall(client, b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000)
        )
        await until(lambda: server.places.taken == 1)
        await until(lambda: server.places.taken == 0)
        asking.cancel()
        await asyncio.wait({asking})
        client.close()
        await server.nothing_is_left()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"BOGUS\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * MAX_HEAD_BYTES, b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES, b"431"),
        (b"GET /" + b"a" * 2 * MAX_HEAD_BYTES, b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 500_000 + b"\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * MAX_HEAD_LINES + b"\r\n", b"431"),
        (b"\r\n" + HEAD, b"400"),
        (b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n", b"400"),
        (
            b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
            b"400",
        ),
        (b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
    ],
)
async def test_nonsense_is_answered_in_the_shape_of_all_errors(
    sent: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(replace(LASTING, head_s=0.2)) as server:
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await server.say(sent)
        if status and answer:
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b'"error":{"message":' in answer
            assert b"connection: close" in answer
        assert OK in await server.say(HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
        await server.nothing_is_left()
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")] == []


async def test_old_pipelined_and_half_closed() -> None:
    async with serving() as server:
        assert OK in await server.say(b"GET /health HTTP/1.0\r\n\r\n")
        last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await server.say(HEAD * 100 + last)).count(OK) == 101
        assert len(await server.say(HEAD * 10, eof=True)) >= 0
        assert len(await server.say(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n", eof=True)) >= 0
        await server.nothing_is_left()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.write(b"{")
        writer.transport.abort()
        await server.nothing_is_left()
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.parametrize(
    ("target", "host", "told"),
    [
        (b"http://elsewhere:80/health", b"x", OK),
        (b"HTTP://elsewhere/health?", b"x", OK),
        (b"http://elsewhere", b"x", b"no such path: /"),
        (b"http://elsewhere?a=b", b"x", b"no such path: /"),
        (b"http://user@elsewhere/health", b"x", b"no such path: /http:"),
        (b"http:///health", b"x", b"no such path: /http:"),
        (b"ftp://elsewhere/health", b"x", b"no such path: /ftp:"),
    ],
)
async def test_a_target_with_scheme_and_authority(target: bytes, host: bytes, told: bytes) -> None:
    async with serving() as server:
        answer = await server.say(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert told in answer


def test_the_authority_of_a_target_takes_the_place_of_the_host() -> None:
    scope = {
        "type": "http",
        "path": "http://b:1/x y",
        "raw_path": b"http://b:1/x%20y",
        "query_string": b"z",
        "headers": [(b"host", b"a"), (b"accept", b"*/*")],
    }
    assert origin_form(scope) == scope | {
        "path": "/x y",
        "raw_path": b"/x%20y",
        "headers": [(b"host", b"b:1"), (b"accept", b"*/*")],
    }
    plain = scope | {"path": "/http://b/", "raw_path": b"/http://b/"}
    assert origin_form(plain) is plain


async def test_a_body_is_not_taken_from_whom_the_guard_refuses(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "s" / "tokens.json")
    secret, _ = tokens.create()
    async with serving(tokens=tokens) as server:
        reader, writer = await server.connect()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000000\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in head

        async def pour() -> None:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(pour(), 20)
        # What is on its way already is taken, so that the answer is not lost with the connection.
        body = b'{"prompt": "' + b"x" * 200_000 + b'"}'
        asked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        answer = await server.say(asked)
        assert b"a token is needed" in answer
        # Without a refusal a connection stays.
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret.encode() + b"\r\n\r\n")
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            await asyncio.wait_for(reader.readuntil(b"}"), 20)
        writer.close()
        await server.nothing_is_left()


@pytest.mark.parametrize("begun", [False, True])
async def test_what_is_cancelled_at_the_end_is_no_fault(caplog: pytest.LogCaptureFixture, begun: bool) -> None:
    asked = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        asked.set()
        await asyncio.Event().wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server = SocketServer(endless)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD)
        await asyncio.wait_for(asked.wait(), 20)
        server.end()
        await asyncio.wait_for(task, 20)
        with contextlib.suppress(ConnectionError):
            assert OK not in await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")] == []


async def test_what_an_application_fails_with_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    async with serving(app=failing) as server:
        assert (await server.say(HEAD)).startswith(b"HTTP/1.1 500")
    assert "a bug" in caplog.text


async def test_no_place_is_left() -> None:
    async with serving(total=3, tcp=2, waiting=1) as server:
        held = [await server.connect() for _ in range(2)]
        await until(lambda: server.places.taken == 2)
        answer = await server.say(HEAD)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after:" in answer
        lobby = await server.connect()
        await until(lambda: server.places.taken == 3)
        with contextlib.suppress(ConnectionError):
            assert (await server.say(b"")).startswith(b"HTTP/1.1 503")
        for _, writer in (*held, lobby):
            writer.transport.abort()
        await server.nothing_is_left()
        assert OK in await server.say(HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))


def test_places_are_counted_by_their_kind() -> None:
    places = Places(total=3, tcp=2, waiting=1)
    taken = [places.take(tcp=True) for _ in range(4)]
    assert taken == [Place(True, True), Place(True, True), Place(True, False), None]
    assert [places.take(tcp=False) for _ in range(3)] == [Place(False, True), Place(False, False), None]
    for place in taken[:2]:
        assert place is not None
        places.free(place)
    assert places.take(tcp=True) == Place(True, True)
    assert places.taken == 4
