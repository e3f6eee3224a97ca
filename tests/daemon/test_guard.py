"""The guard of TCP, asked directly: who gets through, and what the others are told."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from hwdash.daemon.app import create_app
from hwdash.daemon.guard import OpenGuard, TokenGuard, is_own_host
from hwdash.daemon.token import Token, TokenFile
from tests.daemon.living import living, until

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


async def test_of_all_routes_only_health_is_open(file: TokenFile) -> None:
    file.create()
    async with living() as daemon:
        app = create_app(daemon.service, daemon.stop.set)
        routes = [(route.path or "", route.methods or set()) for route in iter_route_contexts(app.routes)]
        assert {"/health", "/openapi.json", "/metrics", "/v1/chat/completions"} <= {path for path, _ in routes}
        guard = TokenGuard(app, file)
        opened = set()
        for route, methods in routes:
            path = re.sub(r"\{[^}]*\}", "x", route)
            assert methods
            for method in methods:
                status, _, _ = await ask(guard, path, method=method)
                if status != 401:
                    opened.add((method, route, status))
    assert opened == {("GET", "/health", 200), ("HEAD", "/health", 200)}


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


class _Unreadable:
    """What asking for a file gives, such as while a process can open no more."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0

    def fstat(self, _: int) -> os.stat_result:
        self.asked += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(("number", "ends"), [(errno.EMFILE, False), (errno.ENOMEM, False), (errno.EACCES, True)])
async def test_a_file_that_cannot_be_read_for_a_moment_ends_nothing(
    file: TokenFile, monkeypatch: pytest.MonkeyPatch, number: int, ends: bool
) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    secret, token = file.create()
    guard = TokenGuard(endless, file, look_again_s=0.01)
    headers = [("Authorization", f"Bearer {secret}")]
    request = asyncio.create_task(ask(guard, headers=headers, state={"hang_up": lambda: ended.append("now")}))
    await begun.wait()
    broken = _Unreadable(number)
    with monkeypatch.context() as patch:
        patch.setattr("hwdash.daemon.token.os.fstat", broken.fstat)
        await until(lambda: broken.asked > 3)
        assert (await ask(guard, headers=headers))[0] == 503
        assert bool(ended) == ends
    file.revoke(token.id)
    await until(lambda: bool(ended))
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_tokens_are_checked_while_the_threads_of_others_hang(file: TokenFile) -> None:
    secret, _ = file.create()
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    hanging = loop.run_in_executor(None, go_on.wait)
    guard = TokenGuard(inside, file)
    try:
        assert (await ask(guard, headers=[("Authorization", f"Bearer {secret}")]))[0] == 200
    finally:
        go_on.set()
        await hanging
        guard.close()


class _Hanging(TokenFile):
    """A file on a disk that does not answer until it is told to."""

    go_on = threading.Event()
    reads = 0

    def read(self) -> tuple[Token, ...]:
        self.reads += 1
        self.go_on.wait()
        return super().read()


async def test_a_disk_that_hangs_is_told_and_waited_for_by_one_thread(file: TokenFile, tmp_path: Path) -> None:
    secret, _ = file.create()
    slow = _Hanging(tmp_path / "s" / "tokens.json")
    guard = TokenGuard(inside, slow, limit_s=0.05)
    headers = [("Authorization", f"Bearer {secret}")]
    try:
        answers = [
            answer
            for _ in range(6)
            for answer in await asyncio.gather(*(ask(guard, headers=headers) for _ in range(5)))
        ]
        assert {(status, body["error"]["code"]) for status, _, body in answers} == {(503, "token_file")}
        assert slow.reads == 1
        assert (await ask(guard, "/health"))[0] == 200
        slow.go_on.set()
        async with asyncio.timeout(20):
            while (await ask(guard, headers=headers))[0] != 200:
                pass
        assert slow.reads <= 4  # those who gave up have left none behind them
    finally:
        slow.go_on.set()
        guard.close()


async def test_the_end_waits_for_no_disk(file: TokenFile, tmp_path: Path) -> None:
    slow = _Hanging(tmp_path / "s" / "tokens.json")
    slow.go_on = threading.Event()
    guard = TokenGuard(inside, slow)
    request = asyncio.create_task(ask(guard, headers=[("Authorization", "Bearer x")]))
    try:
        await until(lambda: slow.reads == 1)
        guard.close()
        with pytest.raises(asyncio.CancelledError):
            await request
    finally:
        slow.go_on.set()


STOPS = ["/api/v1/stop", "/api/v1/stop\n", "/api/v1/stop\r", "/api/v1/stop\x00", "/api/v1/stop\x7f"]


@pytest.mark.parametrize("path", STOPS)
async def test_nobody_ends_the_daemon_over_tcp(file: TokenFile, path: str) -> None:
    secret, _ = file.create()
    headers = [("Authorization", f"Bearer {secret}"), ("Host", "localhost")]
    async with living() as daemon:
        app = create_app(daemon.service, daemon.stop.set)
        for guard in (TokenGuard(app, file), OpenGuard(app, "127.0.0.1")):
            status, _, body = await ask(guard, path, headers, method="POST")
            expected = (403, "forbidden") if path == STOPS[0] else (400, "usage")
            assert (status, body["error"]["code"]) == expected
        assert not daemon.stop.is_set()
        assert (await daemon.ask("POST", "/api/v1/stop"))[0] == 202
        assert daemon.stop.is_set()


async def test_what_is_refused_ends_its_connection(file: TokenFile) -> None:
    file.create()
    for guard in (TokenGuard(inside, file), OpenGuard(inside, "127.0.0.1")):
        for path, method in (("/ready", "DELETE"), ("/v1/models", "DELETE"), ("/x\n", "GET")):
            status, head, _ = await ask(guard, path, [("Host", "localhost")], method=method)
            assert status >= 400
            assert head["connection"] == "close"


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
