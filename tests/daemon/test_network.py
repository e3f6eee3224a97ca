"""A real daemon that listens over TCP, and its clients: tokens, TLS, refusals, a crowd, the end."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from hwdash.client.endpoint import Endpoint
from hwdash.client.http import HttpClient
from hwdash.core.errors import DaemonUnreachable, HwdashError, Unauthorised, UsageError
from hwdash.core.inference import FinishedEvent
from hwdash.core.snapshot import Snapshot
from hwdash.daemon.token import TokenFile
from tests.daemon.living import ask_for, sockets_of, until
from tests.place import home, hwdash

SCRIPT = Path(__file__).with_name("fake_daemon.py")


@dataclass
class Network:
    """A user's directories, the tokens in them, and daemons that are started there."""

    environ: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def tokens(self) -> TokenFile:
        return TokenFile(Path(self.environ["XDG_STATE_HOME"]) / "hwdash" / "tokens.json")

    @property
    def log(self) -> str:
        return (Path(self.environ["XDG_STATE_HOME"]) / "hwdash" / "daemon.log").read_text()

    def start(self, **http: str) -> str:
        """Start a daemon; gives its URL."""
        extra = {f"HWDASH_HTTP__{key.upper()}": value for key, value in ({"listen": "127.0.0.1:0"} | http).items()}
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], env=self.environ | extra, stderr=subprocess.PIPE, text=True
        )
        self.started.append(process)
        assert process.stderr is not None
        lines = []
        while line := process.stderr.readline():
            lines.append(line)
            if found := re.search(r"serves on .* and (https?://\S+);", line):
                return found[1]
        raise AssertionError("".join(lines))

    @property
    def socket_client(self) -> HttpClient:
        return HttpClient(Endpoint(socket=Path(self.environ["XDG_RUNTIME_DIR"]) / "hwdash" / "hwdash.sock"))


@pytest.fixture
def network() -> Iterator[Network]:
    with home() as environ:
        network = Network(environ)
        yield network
        for process in network.started:
            process.kill()
            process.communicate()


def client_of(url: str, token: str | None) -> HttpClient:
    return HttpClient(Endpoint(url=url, token=token))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def drained(stream: AsyncGenerator[Snapshot, None]) -> None:
    async with asyncio.timeout(20):
        async for _ in stream:
            pass


async def test_tokens_let_in_and_keep_out(network: Network) -> None:
    secret, token = network.tokens.create("laptop")
    url = network.start()
    client = client_of(url, secret)
    status = await client.status()
    assert f"http://{status.listen}" == url
    assert status.problems == ()
    events = [event async for event in client.prompt(ask_for())]
    assert isinstance(events[-1], FinishedEvent)
    with pytest.raises(Unauthorised, match="asks for a token; set HWDASH_TOKEN"):
        await client_of(url, None).status()
    with pytest.raises(Unauthorised, match="does not know the token in HWDASH_TOKEN"):
        await client_of(url, secret[:-1]).status()
    with pytest.raises(HwdashError, match="not ended over TCP"):
        await client.stop()
    assert b'{"status":"ok"}' in await raw(
        port_of(url), b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    stream = client.stream()
    await anext(stream)
    network.tokens.revoke(token.id)
    with pytest.raises(Unauthorised):
        await client.status()
    with pytest.raises(DaemonUnreachable):
        await drained(stream)
    assert (await network.socket_client.status()).pid == network.started[0].pid
    other, _ = network.tokens.create()
    assert (await client_of(url, other).status()).pid == network.started[0].pid
    assert secret not in network.log


async def test_both_doors_close_at_the_end(network: Network) -> None:
    secret, _ = network.tokens.create()
    url = network.start()
    streams = [client_of(url, secret).stream(), network.socket_client.stream()]
    for stream in streams:
        await anext(stream)
    idle = socket.create_connection(("127.0.0.1", port_of(url)))
    await network.socket_client.stop()
    assert network.started[0].wait(20) == 0
    for stream in streams:
        with pytest.raises(DaemonUnreachable):
            await drained(stream)
    with pytest.raises(DaemonUnreachable, match="no daemon runs"):
        await client_of(url, secret).status()
    with idle:
        assert idle.recv(1) == b""
    assert "Traceback" not in network.log


async def test_tls_with_an_authority_of_ones_own(network: Network, tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    ours, certificate, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ours))
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))
    key.chmod(0o644)
    secret, _ = network.tokens.create()
    url = network.start(certificate=str(certificate), key=str(key))
    assert url.startswith("https://127.0.0.1:")
    environ = network.environ | {"HWDASH_TOKEN": secret}
    trusted = environ | {"SSL_CERT_FILE": str(ours)}
    done = hwdash(trusted, "status", "--json", "--connect", url)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert f"https://{status['listen']}" == url
    assert any(f"{key} is open to every user" in problem for problem in status["problems"])
    assert f"{key} is open to every user" in network.log
    done = hwdash(trusted, "prompt", "one two three", "--connect", url, "--model", "fake")
    assert done.stdout == "one two three\n", done.stderr
    done = hwdash(environ, "status", "--connect", url)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "is not trusted" in done.stderr
    assert "SSL_CERT_FILE" in done.stderr
    done = hwdash(trusted, "status", "--connect", url.replace("https", "http"))
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    # Whoever never says hello holds a place for ten seconds, no more, and nobody up.
    with socket.create_connection(("127.0.0.1", port_of(url))):
        assert (await network.socket_client.status()).pid == network.started[0].pid


async def test_insecure_is_said_everywhere(network: Network) -> None:
    url = network.start(insecure="true")
    status = await client_of(url, None).status()
    assert any("--insecure" in problem for problem in status.problems)
    assert "--insecure: every user and program of this machine" in network.log
    page = b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil\r\nConnection: close\r\n\r\n"
    answer = await raw(port_of(url), page)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"access-control" not in answer.lower()
    rebound = b"GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await raw(port_of(url), rebound)).startswith(b"HTTP/1.1 421")
    assert isinstance([event async for event in client_of(url, None).prompt(ask_for())][-1], FinishedEvent)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--listen", "127.0.0.1:0"], 2, "hwdash token create"),
        (["--listen", "nonsense"], 2, "write HOST:PORT"),
        (["--listen", ""], 2, "write HOST:PORT"),
        (["--insecure"], 2, "add --listen HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--insecure", "--certificate", "/none"], 2, "http.key is missing"),
        (["--listen", "192.0.2.1:0", "--insecure"], 4, "no such address"),
        (["--listen", "127.0.0.1:0", "--owned"], 2, "does not listen over TCP"),
    ],
)
def test_refusals_at_the_start(network: Network, arguments: list[str], code: int, words: str) -> None:
    done = hwdash(network.environ, "daemon", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert words in done.stderr


def test_a_daemon_that_a_command_starts_for_itself_does_not_listen(network: Network) -> None:
    network.environ["HWDASH_HTTP__LISTEN"] = "127.0.0.1:0"
    done = hwdash(network.environ, "devices", "--json")
    assert done.returncode == 0, done.stderr
    assert "listen" not in done.stderr


async def test_the_owner_gets_in_when_tcp_is_full(network: Network) -> None:
    secret, _ = network.tokens.create()
    url = network.start()
    crowd = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(128)]
    try:
        answer = await raw(
            port_of(url),
            f"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 5" in answer
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert told["error"]["code"] == "overloaded"
        assert (await network.socket_client.status()).pid == network.started[0].pid
        with pytest.raises(HwdashError, match="all places for clients are taken"):
            await client_of(url, secret).status()
    finally:
        for each in crowd:
            each.close()
    async with asyncio.timeout(20):
        while True:
            try:
                await client_of(url, secret).status()
            except HwdashError:
                await asyncio.sleep(0.02)
            else:
                break


async def test_a_crowd_that_vanishes_leaves_no_descriptor(network: Network) -> None:
    secret, _ = network.tokens.create()
    url = network.start()
    await network.socket_client.snapshot()
    pid = network.started[0].pid
    await client_of(url, secret).status()
    before = sockets_of(pid)
    head = f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
    writers = []
    for _ in range(120):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(head)
        writers.append((reader, writer))
    for reader, _ in writers:
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert (await network.socket_client.status()).watchers == 120
    for _, writer in writers:
        writer.transport.abort()
    await until(lambda: sockets_of(pid) <= before)
    assert (await network.socket_client.status()).watchers == 0
    assert "Traceback" not in network.log


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "ä"])
def test_tokens_that_cannot_be_sent(token: str) -> None:
    with pytest.raises(UsageError, match="HWDASH_TOKEN"):
        Endpoint(url="http://h:1", token=token)


@pytest.mark.parametrize(
    ("url", "token", "exposed"),
    [
        ("http://10.0.0.1:1", "t", True),
        ("http://gpu-box:1", "t", True),
        ("https://10.0.0.1:1", "t", False),
        ("http://127.0.0.1:1", "t", False),
        ("http://[::1]:1", "t", False),
        ("http://localhost:1", "t", False),
        ("http://10.0.0.1:1", None, False),
    ],
)
def test_when_a_token_is_exposed(url: str, token: str | None, exposed: bool) -> None:
    assert Endpoint(url=url, token=token).exposed == exposed
