"""Alerts over real sockets: what arrives, what is refused, and what is said when it does not work."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hwdash import __version__
from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.daemon.post import Address, Poster, PostFailed
from hwdash.daemon.webhook import Pace, Webhook
from tests.daemon.living import until
from tests.daemon.receiver import OK, answer, receiving

FAST = Pace(timeout_s=5.0, retry_s=0.01)
IMPATIENT = Pace(timeout_s=0.05, retry_s=0.01)


def alert(number: int = 1, words: str = "too hot: memory_temperature_c 96 °C above 95 °C for 30 s") -> Event:
    return Event(
        datetime(2026, 11, 22, 9, 0, tzinfo=UTC),
        "fake:gpu-0",
        EventKind.ALERT,
        Severity.CRITICAL,
        words,
        device="gpu0",
        number=number,
        rule="too hot",
        active=True,
        actions=(AlertAction.WEBHOOK,),
    )


@asynccontextmanager
async def hook(url: str, pace: Pace = FAST) -> AsyncIterator[Webhook]:
    webhook = Webhook(url, pace=pace)
    try:
        yield webhook
    finally:
        await webhook.close()


async def test_an_alert_arrives_as_json() -> None:
    async with receiving() as receiver, hook(f"http://user:p%40ss@127.0.0.1:{receiver.port}/a/b?c=d#e") as webhook:
        words = 'name "x"\n\t\\ </script> {{7*7}} é 🔥 \x1b[2J'
        webhook.offer(alert(3, words))
        await until(lambda: bool(receiver.bodies))
        body = receiver.bodies[0]
        assert set(body) == {"event", "host", "version"}
        assert (body["host"], body["version"]) == (socket.gethostname(), __version__)
        assert body["event"] | {"reasons": [], "throttle": []} == {
            "at": "2026-11-22T09:00:00Z",
            "key": "fake:gpu-0",
            "kind": "alert",
            "severity": "critical",
            "words": words,
            "device": "gpu0",
            "number": 3,
            "suspected": False,
            "rule": "too hot",
            "active": True,
            "actions": ["webhook"],
            "reasons": [],
            "throttle": [],
        }
        head = receiver.heads[0]
        assert head.startswith("POST /a/b?c=d HTTP/1.1\r\n")
        for line in (
            f"Host: 127.0.0.1:{receiver.port}",
            "Content-Type: application/json",
            "Authorization: Basic dXNlcjpwQHNz",
            f"User-Agent: hwdash/{__version__}",
        ):
            assert line in head
        assert webhook.problems == ()


async def test_alerts_arrive_in_order() -> None:
    async with receiving() as receiver, hook(f"http://localhost:{receiver.port}") as webhook:
        for number in range(5):
            webhook.offer(alert(number))
        await until(lambda: len(receiver.bodies) == 5)
        assert [body["event"]["number"] for body in receiver.bodies] == list(range(5))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiving() as target:
        location = f"Location: http://127.0.0.1:{target.port}/secret\r\n"
        async with (
            receiving(answer(status, location)) as receiver,
            hook(f"http://127.0.0.1:{receiver.port}/token") as webhook,
        ):
            webhook.offer(alert())
            await until(lambda: bool(webhook.problems))
            assert len(webhook.problems) == 1
            assert webhook.problems[0] == (
                f"alerts.webhook http://127.0.0.1:{receiver.port}: it answered {status}: redirects are not followed; "
                "set the final URL; 1 message was not delivered"
            )
            assert len(receiver.bodies) == 1
            assert target.bodies == []


async def test_what_fails_once_is_tried_again() -> None:
    async with receiving(answer(503), OK) as receiver, hook(f"http://127.0.0.1:{receiver.port}") as webhook:
        webhook.offer(alert(1))
        webhook.offer(alert(2))
        await until(lambda: len(receiver.bodies) == 3)
        assert [body["event"]["number"] for body in receiver.bodies] == [1, 1, 2]
        assert webhook.problems == ()


async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    async with receiving(answer(404), OK) as receiver, hook(f"http://127.0.0.1:{receiver.port}") as webhook:
        webhook.offer(alert(1))
        await until(lambda: "it answered 404" in "".join(webhook.problems))
        webhook.offer(alert(2))
        await until(lambda: webhook.problems == ())
        assert [body["event"]["number"] for body in receiver.bodies] == [1, 2]


async def test_a_server_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        receiving(None) as receiver,
        hook(f"http://me:s3cret@127.0.0.1:{receiver.port}/s3cret", IMPATIENT) as webhook,
    ):
        for number in (1, 2):
            webhook.offer(alert(number))
        await until(lambda: "2 messages were" in "".join(webhook.problems))
        assert "no answer within 0.05 s" in webhook.problems[0]
        assert len(receiver.bodies) == 4
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "s3cret" not in caplog.text + str(webhook.problems)


@pytest.mark.parametrize(
    ("garbage", "words"),
    [
        (b"", "its answer is broken"),
        (b"220 smtp ready\r\n\r\n", "its answer is broken"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "its answer is broken"),
        (b"\x16\x03\x01\x00", "its answer is broken"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure(garbage: bytes, words: str) -> None:
    async with receiving(garbage) as receiver, hook(f"http://127.0.0.1:{receiver.port}") as webhook:
        webhook.offer(alert())
        await until(lambda: words in "".join(webhook.problems))


async def test_a_port_where_nobody_listens() -> None:
    async with receiving() as receiver:
        port = receiver.port
    async with hook(f"http://127.0.0.1:{port}") as webhook:
        webhook.offer(alert())
        await until(lambda: ": Connection refused; 1 message was not delivered" in "".join(webhook.problems))


async def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with hook("https://hooks.example.com/x") as webhook:
        webhook.offer(alert())
        await until(lambda: "Name or service not known" in "".join(webhook.problems))


@pytest.mark.parametrize("place", ["192.0.2.7", "10.0.0.1", "fe80::1", "::ffff:8.8.8.8", "0.0.0.0"])
async def test_a_name_that_is_another_machine_is_refused_for_http(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    found: list[tuple[Any, ...]] = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)),
        (family, socket.SOCK_STREAM, 6, "", (place, 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    poster = Poster(Address.of("http://hooks.localhost/x"))
    with pytest.raises(PostFailed, match="another machine: alerts go there by https only") as caught:
        await poster.post(b"{}", 5.0)
    assert caught.value.final
    poster.close()


async def test_a_resolver_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait(5)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with hook("http://localhost/x", IMPATIENT) as webhook:
        webhook.offer(alert())
        await until(lambda: "no answer within" in "".join(webhook.problems))
    assert not answered.is_set(), "closed while the resolver hangs"
    release.set()


async def test_a_storm_is_a_few_messages_and_a_summary() -> None:
    pace = Pace(retry_s=0.01, most=3, window_s=0.5)
    async with receiving() as receiver, hook(f"http://127.0.0.1:{receiver.port}", pace) as webhook:
        for number in range(1, 65):
            webhook.offer(alert(number))
        await until(lambda: len(receiver.bodies) == 4)
        assert [body["event"]["number"] for body in receiver.bodies[:3]] == [1, 2, 3]
        summary = receiver.bodies[3]
        assert summary["held_back"] == 61
        assert summary["words"] == "61 events were held back: at most 3 messages go out in 0.5 s"
        assert [event["number"] for event in summary["events"]] == list(range(45, 65))
        assert set(summary) == {"held_back", "words", "events", "host", "version"}
        webhook.offer(alert(65))
        await until(lambda: len(receiver.bodies) == 5)
        assert receiver.bodies[4]["event"]["number"] == 65


async def test_second_tries_count(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(retry_s=0.01, most=3, window_s=0.3)
    tries: list[float] = []

    async def fail(*_: object) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise PostFailed("it answered 500")

    monkeypatch.setattr(Poster, "post", fail)
    async with hook("http://localhost/x", pace) as webhook:
        for number in range(4):
            webhook.offer(alert(number))
            await until(lambda: len(tries) > 2 * number)  # noqa: B023 - awaited at once
        await until(lambda: len(tries) == 8)
    assert all(later - earlier >= pace.window_s for earlier, later in zip(tries, tries[3:], strict=False))


async def test_what_finds_no_room_is_counted() -> None:
    async with receiving() as receiver, hook(f"http://127.0.0.1:{receiver.port}") as webhook:
        for number in range(1000):
            webhook.offer(alert(number))
        await until(lambda: bool(receiver.bodies))
        assert receiver.bodies[0]["held_back"] == 1000


async def test_the_end_does_not_wait_for_a_server() -> None:
    async with receiving(None) as receiver:
        webhook = Webhook(f"http://127.0.0.1:{receiver.port}")
        webhook.offer(alert())
        await until(lambda: bool(receiver.bodies))
        async with asyncio.timeout(2):
            await webhook.close()
        webhook.offer(alert())
        assert len(receiver.bodies) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of our own for localhost, with its key in the same file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path / "own.pem"
    arguments = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = [openssl, *arguments.split(), "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text((tmp_path / "key").read_text() + (tmp_path / "crt").read_text())
    return path


async def test_a_certificate_must_be_trusted_and_of_that_host(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # the server's side of the failed handshakes
    async with receiving(context=context) as receiver:
        async with hook(f"https://localhost:{receiver.port}/x") as webhook:
            webhook.offer(alert())
            await until(lambda: "its certificate is not trusted: self" in "".join(webhook.problems))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with hook(f"https://127.0.0.1:{receiver.port}/x") as webhook:
            webhook.offer(alert())
            await until(lambda: "its certificate is not trusted: IP address mismatch" in "".join(webhook.problems))
        assert receiver.bodies == []
        async with hook(f"https://localhost:{receiver.port}/x") as webhook:
            webhook.offer(alert())
            await until(lambda: bool(receiver.bodies))
            assert webhook.problems == ()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@example.com/secret?secret", "https://example.com"),
        ("https://example.com:444/secret", "https://example.com:444"),
        ("http://[::1]:80/secret", "http://[::1]"),
        ("http://[::1]:81", "http://[::1]:81"),
    ],
)
def test_only_the_host_of_an_address_is_shown(url: str, shown: str) -> None:
    address = Address.of(url)
    assert str(address) == shown
    assert "secret" not in repr(address)
