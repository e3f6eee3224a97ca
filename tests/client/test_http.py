"""The client against daemons that do not behave, and against none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.client.endpoint import Endpoint, NotRunning
from hwdash.client.exchange import Exchange
from hwdash.client.http import HttpClient
from hwdash.core.errors import DaemonUnreachable, HwdashError, UsageError
from tests.daemon.living import ask_for, living, short_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@asynccontextmanager
async def answering(directory: Path, answer: bytes) -> AsyncIterator[HttpClient]:
    """A client of something that says *answer* to everything and hangs up."""
    path = directory / "s"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield HttpClient(Endpoint(socket=path))
    finally:
        server.close()


async def test_where_nobody_is(directory: Path) -> None:
    client = HttpClient(Endpoint(socket=directory / "none" / "s"))
    with pytest.raises(NotRunning, match="start one with: hwdash daemon"):
        await client.status()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "s"))
    with pytest.raises(NotRunning):
        await HttpClient(Endpoint(socket=directory / "s")).snapshot()
    with pytest.raises(NotRunning, match="no daemon runs at http://127"):
        await HttpClient(Endpoint(url="http://127.0.0.1:1")).status()


async def test_unsafe_places_are_not_connected_to(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(DaemonUnreachable, match="not a socket") as caught:
        await HttpClient(Endpoint(socket=directory / "file")).status()
    assert not isinstance(caught.value, NotRunning)
    directory.chmod(0o755)
    with pytest.raises(DaemonUnreachable, match="open to others"):
        await HttpClient(Endpoint(socket=directory / "s")).status()


@pytest.mark.parametrize("url", ["host:1", "ftp://host", "http://", "http://h:99999", "http://h/path", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        Endpoint(url=url)


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Endpoint(url="http://h:1", token="secret"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "gone away"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "gone away"),
        (b"SSH-2.0-OpenSSH_9.2\r\n" * 5, "no hwdash daemon"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", "HTTP status 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops", "not understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not understood"),
    ],
)
async def test_answers_that_are_none(directory: Path, answer: bytes, words: str) -> None:
    async with answering(directory, answer) as client:
        with pytest.raises(HwdashError, match=words):
            await client.status()


async def test_a_daemon_that_hangs_is_given_up(directory: Path) -> None:
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        client = HttpClient(Endpoint(socket=path), answer_s=0.05)
        for ask in (client.status(), client.snapshot(), anext(client.prompt(ask_for())), anext(client.pull("m"))):
            with pytest.raises(DaemonUnreachable, match="does not answer"):
                await asyncio.wait_for(ask, 30)


async def test_a_stream_that_breaks_off(directory: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with answering(directory, head + b"5\r\ndata:") as client:
        with pytest.raises(DaemonUnreachable):
            await anext(client.stream())
    (directory / "s").unlink(missing_ok=True)
    async with answering(directory, head + b"0\r\n\r\n") as client:
        with pytest.raises(DaemonUnreachable, match="broke off"):
            await anext(client.prompt(ask_for()))
    (directory / "s").unlink(missing_ok=True)
    line = b'{"type":"error","error":{"code":"worker_died","message":"dead"}}\n'
    async with answering(directory, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(line), line)) as client:
        with pytest.raises(HwdashError, match="dead"):
            await anext(client.prompt(ask_for()))


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))), st.integers(1, 7))
def test_lines_are_whole_however_they_arrive(texts: list[str], size: int) -> None:
    lines = [text.encode() for text in texts]
    data = b"\n".join(lines)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        for at in range(0, len(body), 5):
            reader.feed_data(body[at : at + 5])
        reader.feed_eof()
        near, far = socket.socketpair()
        _, writer = await asyncio.open_unix_connection(sock=near)
        exchange = Exchange(Endpoint(socket=Path("/s")), reader, writer)
        await exchange._send("GET", "/", b"")
        reader_head = asyncio.StreamReader()
        reader_head.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        reader_head.feed_eof()
        exchange._reader = reader_head
        await exchange._read_head()
        try:
            return [line async for line in exchange.lines()]
        finally:
            exchange.close()
            far.close()

    assert asyncio.run(read()) == [line for line in lines if line]


async def test_a_daemon_over_tcp_is_reached_with_its_token(directory: Path) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}')
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await HttpClient(Endpoint(url=f"http://127.0.0.1:{port}", token="abc")).models() == ()
    server.close()
    assert b"authorization: bearer abc" in seen[0].lower()


async def test_names_with_odd_characters_arrive_whole() -> None:
    async with living() as daemon:
        odd = "org/na me?#%2F&ü"
        daemon.models.names.append(odd)
        await daemon.client.remove_model(odd)
        assert odd not in daemon.models.names
