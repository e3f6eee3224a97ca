"""Servers that are devices: found, asked, lost and back."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device, DeviceKind, Runtime
from hwdash.core.server import ServerConfig
from hwdash.routing.rank import rank
from hwdash.sources.builtin import builtin_sources
from hwdash.sources.server import PROBE_EVERY_S, ServerSource
from hwdash.sources.source import DeviceLost
from tests.monitor.watching import has_state, row, until, watching
from tests.openai_server import OpenAiServer, openai_server


async def words_of(source: ServerSource, key: str = "server:s", fresh: bool = True) -> str:
    """Why the device is lost; empty when it is there."""
    try:
        sample = await asyncio.to_thread(source.read, key, fresh)
    except DeviceLost as lost:
        return str(lost)
    assert not sample.readings
    return ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_a_device_for_every_server() -> None:
    source = ServerSource((ServerConfig("a", "http://127.0.0.1:1/v1"), ServerConfig("b", "http://b", model="m")))
    first, second = source.discover()
    assert first == Device(
        "server:a",
        DeviceKind.OTHER,
        "server",
        "a",
        "server",
        capabilities=first.capabilities,
        runtime=Runtime(url="http://127.0.0.1:1/v1"),
    )
    assert first.capabilities.inference
    assert second.key == "server:b"
    source.close()


def test_only_servers_without_a_device_are_one() -> None:
    bound, free = ServerConfig("a", "http://a", device="gpu0"), ServerConfig("b", "http://b")
    assert [source.name for source in builtin_sources(Path("/"), servers=(bound,))].count("server") == 0
    (source,) = [source for source in builtin_sources(Path("/"), servers=(bound, free)) if source.name == "server"]
    assert [device.key for device in source.discover()] == ["server:b"]


@pytest.mark.parametrize("status", [200, 401, 404, 500])
async def test_what_answers_is_there(status: int) -> None:
    async with openai_server(list_status=status) as server:
        assert await words_of(ServerSource([ServerConfig("s", server.url)])) == ""
        assert server.asked[0].path == "/v1/models"


@pytest.mark.parametrize(("status", "words"), [(503, "s at http.*503"), (301, "redirect")])
async def test_what_is_not_ready_is_lost(status: int, words: str) -> None:
    async with openai_server(list_status=status) as server:
        with pytest.raises(DeviceLost, match=words):
            await asyncio.to_thread(ServerSource([ServerConfig("s", server.url)]).read, "server:s")


async def test_what_is_wrong_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwdash.sources.server.PROBE_LIMIT_S", 0.2)
    url = f"http://127.0.0.1:{free_port()}/v1"
    assert await words_of(ServerSource([ServerConfig("s", url)])) == (
        f"s at {url} refuses the connection; start it or correct its url"
    )
    assert "cannot be" in await words_of(ServerSource([ServerConfig("s", "http://no-such-host.invalid/v1")]))

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00" * 70_000)
        writer.close()

    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert "cannot be asked" in await words_of(ServerSource([ServerConfig("s", f"http://127.0.0.1:{port}")]))
        tls = await words_of(ServerSource([ServerConfig("s", f"https://127.0.0.1:{port}")]))
        assert tls.startswith(f"s at https://127.0.0.1:{port} ")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert "does not answer within 0.2 s" in await words_of(ServerSource([ServerConfig("s", url)]))


async def test_a_server_that_drips_and_a_name_that_is_looked_up_for_ever_hold_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hwdash.sources.server.PROBE_LIMIT_S", 0.3)
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not reader.at_eof():
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            ended.set()
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        source = ServerSource([ServerConfig("s", f"http://127.0.0.1:{port}")])
        assert "does not answer within 0.3 s" in await words_of(source)
        await asyncio.wait_for(ended.wait(), 20)

    found = threading.Event()
    asked = []

    def look_up(*address: object, **more: object) -> list[object]:
        asked.append(address)
        found.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    source = ServerSource([ServerConfig("s", "http://slow.invalid")])
    for _ in range(3):
        assert "does not answer within 0.3 s" in await words_of(source)
    assert len(asked) == 1
    found.set()
    monkeypatch.setattr("hwdash.sources.server.PROBE_LIMIT_S", 20)
    assert "cannot be found" in await words_of(source)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.0 404\n", b"HTTP/1.1 500"])
async def test_no_more_than_the_first_line_is_waited_for(head: bytes) -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head[:5])
        await writer.drain()
        writer.write(head[5:])
        if b"\n" in head:
            await reader.read()
        writer.close()

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert await words_of(ServerSource([ServerConfig("s", f"http://127.0.0.1:{port}")])) == ""


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
async def test_a_host_that_no_library_takes_is_a_server_that_is_lost(host: str) -> None:
    assert "cannot be asked" in await words_of(ServerSource([ServerConfig("s", f"http://{host}/v1")]))


async def test_a_question_that_fails_in_an_unknown_way_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(status: int) -> str:
        raise RuntimeError("boom")

    monkeypatch.setattr("hwdash.sources.server.status_problem", broken)
    async with openai_server() as server:
        assert "internal error; see the log" in await words_of(ServerSource([ServerConfig("s", server.url)]))
    assert "boom" in caplog.text


async def test_it_is_asked_once_in_a_while() -> None:
    clock = ManualClock()
    async with openai_server() as server:
        source = ServerSource([ServerConfig("s", server.url)], clock)
        for _ in range(3):
            assert await words_of(source, fresh=False) == ""
        assert len(server.asked) == 1
        server.list_status = 503
        assert await words_of(source, fresh=False) == ""
        clock.advance(PROBE_EVERY_S)
        assert "503" in await words_of(source, fresh=False)
        server.list_status = 200
        assert "503" in await words_of(source, fresh=False)
        assert await words_of(source, fresh=True) == ""


async def test_the_token_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async with openai_server() as server:
        source = ServerSource([ServerConfig("s", server.url, token_variable="THEIR_TOKEN")])
        monkeypatch.setenv("THEIR_TOKEN", "secret")
        assert await words_of(source) == ""
        assert server.asked[0].headers["authorization"] == "Bearer secret"
        monkeypatch.setenv("THEIR_TOKEN", "sec ret")
        words = await words_of(source)
        assert words.startswith(f"s at {server.url}: the token in THEIR_TOKEN must be ASCII")
        assert "sec ret" not in words


async def test_a_monitor_shows_it_without_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwdash.sources.server.PROBE_EVERY_S", 0.02)
    async with openai_server() as server, watching(_source_of(server), lost_retry_s=0.02) as monitor:
        snapshot = await until(monitor, has_state("server:s", "ok"))
        status = row(snapshot, "other0")
        assert (dict(status.readings), status.pools, status.throttle) == ({}, (), ())
        assert [device.device for device in rank(snapshot).ranked] == ["other0"]
        server.list_status = 503
        snapshot = await until(monitor, has_state("server:s", "lost"))
        assert "503" in row(snapshot, "other0").health.reasons[0]
        assert [device.device for device in rank(snapshot).excluded] == ["other0"]
        server.list_status = 200
        await until(monitor, has_state("server:s", "ok"))


def _source_of(server: OpenAiServer) -> ServerSource:
    return ServerSource([ServerConfig("s", server.url)])
