"""What comes in is taken in small pieces: how it is cut on its way changes nothing, and nobody holds up the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hwdash.daemon.connection import Patience
from hwdash.daemon.inlet import MAX_CHUNKS, MAX_HEAD_BYTES, MAX_HEAD_LINES, HeadTooLarge, Inlet, Parser
from hwdash.daemon.server import Places, SocketServer
from tests.daemon.living import until
from tests.daemon.serving import HEAD, LASTING, OK, serving

CHUNKED = b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how long the body was."""
    body = await Request(scope, receive).body()
    await Response(f"<{len(body)}>")(scope, receive, send)


async def test_a_body_in_a_million_chunks_is_refused() -> None:
    async with serving(app=length) as server:
        answer = await server.say(CHUNKED + b"1\r\na\r\n" * 1_000_000)
        assert answer.startswith(b"HTTP/1.1 400")
        assert f"more than {MAX_CHUNKS} chunks".encode() in answer
        enough = CHUNKED + b"1\r\na\r\n" * MAX_CHUNKS + b"0\r\n\r\n"
        assert f"<{MAX_CHUNKS}>".encode() in await server.say(enough + LAST)
        await server.nothing_is_left()


async def test_no_turn_of_the_loop_takes_much_of_what_has_come() -> None:
    taken: list[int] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(len(message["body"]))
            more = message["more_body"]
        await Response("<all>")(scope, receive, send)

    async with serving(app=counting) as server:
        assert b"<all>" in await server.say(CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n" + LAST)
    assert sum(taken) == 10_000
    assert max(taken) < 2_000


async def test_large_bodies_and_what_follows_them() -> None:
    megabyte = b"x" * 2**20
    plain = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(megabyte) + megabyte
    chunked = CHUNKED + b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"
    async with serving(app=length) as server:
        answer = await server.say(plain + chunked + plain + chunked + LAST)
        assert [answer.count(size) for size in (b"<1048576>", b"<65536>", b"<0>")] == [2, 2, 1]
        # A head is not longer for coming in one piece with the end of a body.
        for before in (plain, chunked):
            answer = await server.say(before + LAST[:-2] + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n")
            assert b"HTTP/1.1 431" in answer
        await server.nothing_is_left()


async def test_a_body_that_nobody_reads() -> None:
    body = b"x" * 300_000
    asked = b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with serving() as server:
        last = HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        answer = await server.say(asked + asked + last)
        assert (answer.count(b"405 Method Not Allowed"), answer.count(OK)) == (2, 1)
        await server.nothing_is_left()


@pytest.mark.parametrize("path", [b"/health", b"/ready"])
async def test_the_head_alone_can_be_asked_for(path: bytes) -> None:
    async with serving() as server:
        answer = await server.say(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n")


@given(st.lists(st.integers(1, 40), max_size=30), st.booleans())
def test_a_head_is_handed_on_whole(cuts: list[int], bare: bool) -> None:
    head = HEAD.replace(b"\r\n", b"\n") if bare else HEAD
    inlet, rest, pieces = Inlet(Parser()), head, []
    for cut in (*cuts, len(head)):
        inlet.add(rest[:cut])
        rest = rest[cut:]
        pieces.append(inlet.take())
    assert [piece for piece in pieces if piece] == [head]
    assert not inlet


@pytest.mark.parametrize(
    ("lines", "taken"), [(MAX_HEAD_LINES, True), (MAX_HEAD_LINES + 1, False), (100 * MAX_HEAD_LINES, False)]
)
def test_the_lines_of_a_head_are_counted(lines: int, taken: bool) -> None:
    inlet = Inlet(Parser())
    inlet.add(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * lines + b"\r\n")
    with contextlib.nullcontext() if taken else pytest.raises(HeadTooLarge):
        assert inlet.take()


async def test_on_the_socket_everybody_is_told_that_all_places_are_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def say(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(OK)(scope, receive, send)

    patience: Patience = LASTING
    places = Places(total=1, tcp=1, waiting=1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        listener.setblocking(False)
        server = SocketServer(app, places, patience=patience)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        _, holder = await asyncio.open_unix_connection(path)
        await until(lambda: places.taken == 1)
        # One more is told, and gets what is brief.
        assert OK in await say(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: places.taken == 1)
        assert (await say(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 503")
        await until(lambda: places.taken == 1)
        _, waiter = await asyncio.open_unix_connection(path)
        await until(lambda: places.taken == 2)
        body = b"x" * 20_000
        post = b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for answer in await asyncio.gather(*(say(post) for _ in range(30))):
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: " in answer
        for writer in (holder, waiter):
            writer.close()
        await until(lambda: places.taken == 0)
        server.end()
        await asyncio.wait_for(task, 20)
