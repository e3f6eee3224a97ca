"""Who may ask what over TCP. (The Unix socket needs no guard: only its owner can open it.)"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_plus

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hwdash.core.errors import HwdashError, Unauthorised, UsageError
from hwdash.core.text import sanitise_line
from hwdash.daemon.listen import Door
from hwdash.daemon.openai_error import is_openai_path, openai_refusal
from hwdash.daemon.stream import error_response
from hwdash.daemon.token import PREFIX, Token, TokenFile, TokenFileBusy, TokenFileError, matching
from hwdash.daemon.token_reader import LIMIT_S, TokenReader

log = logging.getLogger(__name__)

_OPEN = frozenset({"/health"})
_BELONGS = "send a token in the header: Authorization: Bearer TOKEN; make one with: hwdash token create"
_OTHER_HEADERS = frozenset({"x-api-key", "api-key", "x-auth-token", "x-access-token", "token", "proxy-authorization"})
_QUERY_NAMES = frozenset({"token", "access_token", "api_key", "apikey", "api-key", "key", "bearer", "authorization"})
_HARMLESS = frozenset({"/api/v1/prompt", "/v1/completions", "/v1/chat/completions"})
"""What may be posted without a token: prompts. All else changes what others see or what the machine holds."""
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LOOK_AGAIN_S = 1.0
_SWALLOWED_BYTES = 1 << 20
_SWALLOWING_S = 1.0


class Refused(HwdashError):
    """What is asked for is not for a client over TCP, or not for this one."""

    http_status = 403
    code = "forbidden"


class Misdirected(Refused):
    """The name in the ``Host`` header is not one of this daemon."""

    http_status = 421


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A request that is being answered: with which token, and how to end it."""

    sha256: str
    hang_up: Callable[[], None]


class TokenGuard:
    """Lets requests with a known bearer token through to *app*, and ``/health`` without one.

    A token that is revoked is refused from the next request on; what is still being answered under it ends within
    two seconds. While the file of tokens cannot be trusted nobody gets in; while it cannot be read, within *limit_s*,
    nobody new.
    """

    def __init__(
        self, app: ASGIApp, tokens: TokenFile, limit_s: float = LIMIT_S, look_again_s: float = _LOOK_AGAIN_S
    ) -> None:
        self._app = app
        self._tokens = TokenReader(tokens, limit_s)
        self._look_again_s = look_again_s
        self._open: set[_Open] = set()
        self._watch: asyncio.Task[None] | None = None
        self._problem = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            _receive_over_tcp(scope)
            token = None if scope["path"] in _OPEN else await self._token_of(bearer(scope))
        except HwdashError as error:
            await _refuse(error, scope, receive, send)
            return
        with self._watched(token, scope) if token is not None else contextlib.nullcontext():
            await self._app(scope, receive, send)

    def close(self) -> None:
        """Wait for no disk any more."""
        self._tokens.close()

    async def _token_of(self, secret: str) -> str:
        """The hash of the token that *secret* is. Raises `Unauthorised` and `TokenFileError`."""
        try:
            tokens = await self._read()
        except TokenFileError:
            raise TokenFileError("tokens cannot be checked: see the daemon's log, or: hwdash token list") from None
        token = matching(tokens, secret)
        if token is None:
            raise Unauthorised("the token is not known, or was revoked; make one with: hwdash token create")
        return token.sha256

    async def _read(self) -> tuple[Token, ...]:
        """All tokens. Raises `TokenFileError`, with a word in the log."""
        try:
            tokens = await self._tokens.read()
        except TokenFileError as error:
            if error.message != self._problem:
                self._problem = error.message
                log.warning("requests over TCP are refused: %s", error.message)
            raise
        self._problem = ""
        return tokens

    @contextlib.contextmanager
    def _watched(self, sha256: str, scope: Scope) -> Iterator[None]:
        """While this lasts, the request ends when its token is revoked."""
        hang_up = scope.get("state", {}).get("hang_up")
        if hang_up is None:
            yield
            return
        request = _Open(sha256, hang_up)
        self._open.add(request)
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_revoked())
        try:
            yield
        finally:
            self._open.discard(request)
            if not self._open:
                self._watch.cancel()
                self._watch = None

    async def _end_revoked(self) -> None:
        while True:
            await asyncio.sleep(self._look_again_s)
            try:
                valid = {token.sha256 for token in await self._read()}
            except TokenFileBusy:
                continue
            except TokenFileError:
                valid = set()
            for request in list(self._open):
                if request.sha256 not in valid:
                    request.hang_up()


class OpenGuard:
    """Lets requests through to *app* without a token, as ``--insecure`` asks for; not those of a browser's foreign pages.

    A page of any site can make its reader's browser ask a daemon that listens on loopback. Such requests carry an
    ``Origin``, or a ``Host`` that is a name of the page's own. *host* is the name that the daemon listens at.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            _receive_over_tcp(scope)
            self._check(scope)
        except HwdashError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            raise Refused("requests of web pages are refused by a daemon that asks for no token")
        local = scope["server"][0] if scope.get("server") else ""
        if "host" in headers and not is_own_host(headers["host"], self._host, local):
            shown = sanitise_line(headers["host"], 80)
            raise Misdirected(f"{shown} is no name of this daemon; use the address that it listens at: {self._host}")
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD") and path not in _HARMLESS:
            raise Refused(f"{sanitise_line(path, 80)} changes this machine: that needs a token or the daemon's socket")


def guarded(app: ASGIApp, door: Door) -> TokenGuard | OpenGuard:
    """*app* as clients of *door* may use it."""
    return OpenGuard(app, door.address.host) if door.tokens is None else TokenGuard(app, door.tokens)


def over_tcp(scope: Scope) -> bool:
    """Whether a request has come over TCP, past a guard."""
    return bool(scope.get("state", {}).get("tcp", False))


def _receive_over_tcp(scope: Scope) -> None:
    """Mark a request as one of TCP. Raises `Refused` for what is no HTTP, `UsageError` for a path that is no text."""
    if scope["type"] != "http":
        raise Refused("only HTTP is spoken here")
    scope.setdefault("state", {})["tcp"] = True
    # What matches a route need not equal it: to a pattern a path may end before a last line feed.
    if _CONTROL.search(scope["path"]):
        raise UsageError("the path has control characters; leave them out", param="path")


def bearer(scope: Scope) -> str:
    """The bearer token of a request. Raises `Unauthorised` that says where it belongs, never what was sent."""
    found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise Unauthorised(f"there is more than one Authorization header; {_BELONGS}")
    if found and (match := _BEARER.fullmatch(found[0].strip())):
        return match[1]
    if found:
        raise Unauthorised(f"the Authorization header is not of the scheme Bearer; {_BELONGS}")
    for name, value in scope["headers"]:
        header = name.decode("latin-1")
        if header in _OTHER_HEADERS or PREFIX.encode() in value:
            raise Unauthorised(f"the header {sanitise_line(header, 40)} is not the place of a token; {_BELONGS}")
    for part in scope["query_string"].decode("latin-1").split("&"):
        name, _, _ = part.partition("=")
        if unquote_plus(name).lower() in _QUERY_NAMES or PREFIX in unquote_plus(part):
            raise Unauthorised(
                f"the address is not the place of a token: it ends up in logs; make a new one, and {_BELONGS}"
            )
    raise Unauthorised(f"a token is needed: {_BELONGS}")


def is_own_host(header: str, listen: str, local: str) -> bool:
    """The ``Host`` *header* names the daemon: a loopback name or address, *listen*, or the address *local* of the connection."""
    match = _HOST.fullmatch(header.strip())
    if match is None:
        return False
    name = (match["address"] or match["name"]).lower().rstrip(".")
    if name in ("localhost", listen.lower().rstrip(".")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or str(address) == local


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _refuse(error: HwdashError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer *error*, and end the connection: nothing more is taken from it."""
    if scope["type"] == "http":
        await _swallow(scope, receive)
    await _refusal(scope, error)(scope, receive, send)


async def _swallow(scope: Scope, receive: Receive) -> None:
    """Take the body if it is short and there soon: an answer is lost with a connection that ends over unread bytes."""
    headers = _headers(scope)
    length = headers.get("content-length", "0")
    if "expect" in headers or len(length) > 9 or not length.isdecimal() or int(length) > _SWALLOWED_BYTES:
        return
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SWALLOWING_S):
            while taken <= _SWALLOWED_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _refusal(scope: Scope, error: HwdashError) -> Response:
    openai = scope["type"] == "http" and is_openai_path(scope["path"])
    response = openai_refusal(error) if openai else error_response(error)
    response.headers["connection"] = "close"
    if isinstance(error, Unauthorised):
        response.headers["www-authenticate"] = 'Bearer realm="hwdash"'
    return response
