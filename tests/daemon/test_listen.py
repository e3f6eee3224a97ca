"""The TCP address: what is checked before it is opened, and certificates."""

from __future__ import annotations

import datetime as dt
import socket
from pathlib import Path

import pytest
import trustme

from hwdash.core.address import Address
from hwdash.core.config import HttpConfig
from hwdash.core.errors import DaemonUnreachable, UsageError
from hwdash.daemon.certificate import server_tls
from hwdash.daemon.listen import Plan, opened, plan
from hwdash.daemon.token import TokenFile


def test_without_a_token_only_insecure_listens(tmp_path: Path) -> None:
    tokens = tmp_path / "s" / "tokens.json"
    assert plan(HttpConfig(), tokens) is None
    with pytest.raises(UsageError, match=r"hwdash token create.*--insecure"):
        plan(HttpConfig("127.0.0.1:0"), tokens)
    allowed = plan(HttpConfig("127.0.0.1:0", insecure=True), tokens)
    assert allowed is not None
    assert allowed.tokens is None
    _, token = TokenFile(tokens).create()
    assert plan(HttpConfig("127.0.0.1:0"), tokens) is not None
    TokenFile(tokens).revoke(token.id)
    with pytest.raises(UsageError):
        plan(HttpConfig("127.0.0.1:0"), tokens)
    tokens.write_text("oops")
    with pytest.raises(DaemonUnreachable, match="no list of tokens"):
        plan(HttpConfig("127.0.0.1:0"), tokens)


@pytest.mark.parametrize(
    ("host", "insecure", "words"),
    [
        ("127.0.0.1", False, ""),
        ("localhost", False, ""),
        ("0.0.0.0", False, "clear text"),
        ("127.0.0.1", True, "every user and program of this machine"),
        ("0.0.0.0", True, "everybody who reaches"),
    ],
)
def test_what_is_risky_is_said(tmp_path: Path, host: str, insecure: bool, words: str) -> None:
    tokens = None if insecure else TokenFile(tmp_path / "t")
    with opened(Plan(Address(host, 0), None, tokens)) as door:
        assert door is not None
        assert door.address.port > 0
        assert words in door.warning
        assert bool(words) == bool(door.warning)
        assert {listener.getsockname()[1] for listener in door.sockets} == {door.address.port}
        assert all(listener.proto == socket.IPPROTO_TCP for listener in door.sockets)
        with socket.create_connection(("127.0.0.1", door.address.port), 5):
            pass
    assert all(listener.fileno() == -1 for listener in door.sockets)


def test_places_that_cannot_be_listened_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = [
            (Address("127.0.0.1", taken.getsockname()[1]), "another program listens there"),
            (Address("192.0.2.1", 0), "no such address"),
            (Address("no-such-host.invalid", 0), "is the host right"),
        ]
        for address, words in cases:
            with pytest.raises(DaemonUnreachable, match=words), opened(Plan(address, None, None)):
                pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> tuple[str, str]:
    return issued(authority, tmp_path, "good")


def issued(
    authority: trustme.CA,
    directory: Path,
    name: str,
    not_before: dt.datetime | None = None,
    not_after: dt.datetime | None = None,
) -> tuple[str, str]:
    leaf = authority.issue_cert("localhost", not_before=not_before, not_after=not_after)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(certificate), append=number > 0)
    leaf.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


def test_a_certificate_and_its_key(pair: tuple[str, str]) -> None:
    assert server_tls(None, None) is None
    assert server_tls(*pair) is not None


def test_certificates_that_are_refused(authority: trustme.CA, pair: tuple[str, str], tmp_path: Path) -> None:
    certificate, key = pair
    now = dt.datetime.now(dt.UTC)
    old = issued(authority, tmp_path, "old", not_before=now - dt.timedelta(9), not_after=now - dt.timedelta(1))
    early = issued(authority, tmp_path, "early", not_before=now + dt.timedelta(1), not_after=now + dt.timedelta(9))
    _, other_key = issued(authority, tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("hello")
    cases: list[tuple[str | None, str | None, str]] = [
        (certificate, None, "http.key is missing"),
        (None, key, "http.certificate is missing"),
        (str(tmp_path / "none"), key, "cannot be read"),
        (certificate, str(tmp_path), "cannot be read"),
        (certificate, other_key, "not the key of the certificate"),
        (str(text), key, "no PEM certificate and key"),
        (*old, "has expired"),
        (*early, "not valid yet"),
    ]
    for one, two, words in cases:
        with pytest.raises(UsageError, match=words):
            server_tls(one, two)


@pytest.mark.parametrize(("mode", "risky"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_key_that_is_open_to_all_is_said(pair: tuple[str, str], tmp_path: Path, mode: int, risky: bool) -> None:
    Path(pair[1]).chmod(mode)
    wanted = plan(HttpConfig("127.0.0.1:0", True, *pair), tmp_path / "tokens.json")
    with opened(wanted) as door:
        assert door is not None
        assert "--insecure" in door.warning
        assert (f"http.key: {pair[1]} is open to every user of this machine (mode {mode:04o})" in door.warning) == risky
    TokenFile(tmp_path / "s" / "tokens.json").create()
    with opened(plan(HttpConfig("127.0.0.1:0", False, *pair), tmp_path / "s" / "tokens.json")) as door:
        assert door is not None
        assert bool(door.warning) == risky


def test_an_encrypted_key_asks_nobody(pair: tuple[str, str], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(pair[1]).read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(UsageError, match="encrypted"):
        server_tls(pair[0], str(encrypted))
