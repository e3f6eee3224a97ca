"""The guard of TCP, asked directly: who gets through, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from hwdash.daemon.guard import OpenGuard, TokenGuard, is_own_host
from hwdash.daemon.token import TokenFile
from tests.daemon.living import until

Headers = list[tuple[str, str]]


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def ask(
    guard: ASGIApp,
    path: str = "/ready",
    headers: Headers | None = None,
    query: str = "",
    method: str = "GET",
    **more: Any,
) -> tuple[int, dict[str, str], Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers or []],
        "server": ("10.0.0.5", 8080),
    } | more
    await guard(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, json.loads(sent[1]["body"])


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "s" / "tokens.json")


async def test_a_known_token_gets_in(file: TokenFile) -> None:
    secret, token = file.create()
    guard = TokenGuard(inside, file)
    for value in (f"Bearer {secret}", f"bearer   {secret} "):
        assert (await ask(guard, headers=[("Authorization", value)]))[0] == 200
    assert (await ask(guard, "/health"))[0] == 200
    file.revoke(token.id)
    status, head, body = await ask(guard, headers=[("Authorization", f"Bearer {secret}")])
    assert (status, head["www-authenticate"]) == (401, 'Bearer realm="hwdash"')
    assert body["error"]["code"] == "invalid_api_key"
    assert "revoked" in body["error"]["message"]


async def test_a_token_in_the_wrong_place_is_told_where_it_belongs(
    file: TokenFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret, _ = file.create()
    guard = TokenGuard(inside, file)
    cases: list[tuple[Headers, str, str]] = [
        ([], "", "a token is needed"),
        ([], f"token={secret}", "the address is not the place"),
        ([], f"x={secret}", "the address is not the place"),
        ([], "api%5Fkey=abc", "the address is not the place"),
        ([("X-API-Key", secret)], "", "the header x-api-key is not the place"),
        ([("Cookie", f"a={secret}")], "", "the header cookie is not the place"),
        ([("Authorization", f"Basic {secret}")], "", "not of the scheme Bearer"),
        ([("Authorization", secret)], "", "not of the scheme Bearer"),
        ([("Authorization", "Bearer")], "", "not of the scheme Bearer"),
        ([("Authorization", f"Bearer {secret}")] * 2, "", "more than one"),
    ]
    for headers, query, words in cases:
        status, head, body = await ask(guard, headers=headers, query=query)
        assert status == 401
        assert "www-authenticate" in head
        assert words in body["error"]["message"]
        assert "Authorization: Bearer TOKEN" in body["error"]["message"]
        assert secret not in json.dumps(body)
    assert secret not in caplog.text


@pytest.mark.parametrize(
    "path", ["/Health", "/health/", "//health", "/health%00", "/ready", "/metrics", "/v1/models", "/"]
)
async def test_only_health_is_open(file: TokenFile, path: str) -> None:
    file.create()
    assert (await ask(TokenGuard(inside, file), path))[0] == 401


async def test_a_file_that_cannot_be_trusted_lets_nobody_in(
    file: TokenFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, _ = file.create()
    guard = TokenGuard(inside, file)
    (tmp_path / "s" / "tokens.json").chmod(0o644)
    for _ in range(3):
        status, _, body = await ask(guard, headers=[("Authorization", f"Bearer {secret}")])
        assert status == 503
        assert str(tmp_path) not in json.dumps(body)
    assert caplog.text.count("open to others") == 1
    (tmp_path / "s" / "tokens.json").chmod(0o600)
    assert (await ask(guard, headers=[("Authorization", f"Bearer {secret}")]))[0] == 200


async def test_what_is_being_answered_ends_with_its_token(file: TokenFile) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    secret, token = file.create()
    file.create()
    guard = TokenGuard(endless, file)
    headers = [("Authorization", f"Bearer {secret}")]
    request = asyncio.create_task(ask(guard, headers=headers, state={"hang_up": lambda: ended.append("now")}))
    await begun.wait()
    file.revoke(token.id)
    await until(lambda: bool(ended))
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_nobody_ends_the_daemon_over_tcp(file: TokenFile) -> None:
    secret, _ = file.create()
    for guard in (TokenGuard(inside, file), OpenGuard(inside, "127.0.0.1")):
        status, _, body = await ask(
            guard, "/api/v1/stop", [("Authorization", f"Bearer {secret}"), ("Host", "localhost")], method="POST"
        )
        assert (status, body["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Host", "localhost:8080")], 200),
        ([("Host", "127.0.0.1:8080")], 200),
        ([("Host", "[::1]:8080")], 200),
        ([("Host", "10.0.0.5")], 200),
        ([("Host", "GPU-Box.lan.:8080")], 200),
        ([], 200),
        ([("Host", "evil.example:8080")], 421),
        ([("Host", "localhost.evil.example")], 421),
        ([("Host", "10.0.0.6")], 421),
        ([("Host", "")], 421),
        ([("Host", "localhost"), ("Origin", "http://localhost:8080")], 403),
        ([("Host", "localhost"), ("Origin", "null")], 403),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")], 403),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "none")], 200),
    ],
)
async def test_without_tokens_pages_of_a_browser_are_refused(headers: Headers, status: int) -> None:
    assert (await ask(OpenGuard(inside, "gpu-box.lan"), headers=headers))[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/api/v1/prompt", 200),
        ("GET", "/api/v1/models", 200),
        ("POST", "/api/v1/models/pull", 403),
        ("DELETE", "/api/v1/models/m", 403),
        ("POST", "/api/v1/replay", 403),
        ("OPTIONS", "/v1/models", 403),
    ],
)
async def test_without_tokens_nothing_is_changed(method: str, path: str, status: int) -> None:
    assert (await ask(OpenGuard(inside, "127.0.0.1"), path, [("Host", "localhost")], method=method))[0] == status


@given(st.text())
def test_hosts_of_any_text(text: str) -> None:
    if is_own_host(text, "gpu-box", "10.0.0.5"):
        assert any(name in text.lower() for name in ("localhost", "gpu-box", "10.0.0.5", "127.", ":"))
