"""The connection to an OpenAI-compatible server: what is asked over HTTP, and what failures of it mean in words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from hwdash.core.errors import ServerDown
from hwdash.core.server import ServerConfig, server_label, server_token
from hwdash.core.text import sanitise_line
from hwdash.engine.remote_error import error_of
from hwdash.engine.remote_stream import error_words

if TYPE_CHECKING:
    import httpx

SHUTTING_DOWN = "the daemon is shutting down; send the prompt again when it is back"
CONNECT_S = 3.0
SILENCE_S = 60.0
"""The longest wait for the first byte of an answer, and from one byte to the next."""
_WRITE_S = 30.0
_ERROR_BODY_S = 5.0
_MAX_ERROR_BYTES = 2**16
_MAX_LIST_BYTES = 2**22
_LONGEST_WORDS = 300


class Link:
    """HTTP to *server*: no proxy of the environment, no redirect, no compression; certificates by the system's store."""

    def __init__(self, server: ServerConfig) -> None:
        self._server = server
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._open: set[httpx.Response] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: object, model: str) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """POST *body* to *path* for the bytes of the answer; leaving closes the connection, which stops the server.

        Raises `ServerDown`, `UnknownModel`, `UsageError`, `PromptTooLong` and `Overloaded`, also while it is read.
        """
        client = await self._ready()
        content = msgspec.json.encode(body)
        with self._words():
            request = client.build_request("POST", self._server.url + path, content=content, headers=self._headers())
            response = await client.send(request, stream=True)
        self._open.add(response)
        try:
            if response.status_code != 200:
                raise await self._error(response, model)
            self._check_form(response)
            async with contextlib.aclosing(self._pieces(response)) as pieces:
                yield pieces
        finally:
            self._open.discard(response)
            with contextlib.suppress(Exception):
                await response.aclose()

    async def models(self, limit_s: float) -> tuple[int, Any]:
        """The status and the JSON of the server's list of models; None for what is no JSON.

        Raises `TimeoutError` when nothing answers within *limit_s* seconds, `ServerDown` when nothing can.
        """
        client = await self._ready()
        async with asyncio.timeout(limit_s):
            with self._words():
                headers = self._headers()
                async with client.stream("GET", self._server.url + "/models", headers=headers) as response:
                    body = await _body(response, _MAX_LIST_BYTES)
        return response.status_code, _json(body)

    async def probe(self, limit_s: float) -> int:
        """The status of the server to a question that costs it nothing: the head of its list of models.

        Raises as `models` does.
        """
        client = await self._ready()
        async with asyncio.timeout(limit_s):
            with self._words():
                response = await client.head(self._server.url + "/models", headers=self._headers())
        return response.status_code

    def told(self, words: str, longest: int = _LONGEST_WORDS) -> str:
        """The server's own *words* as one safe line without its token, of at most *longest* characters."""
        if token := server_token(self._server, os.environ):
            words = words.replace(token, "…")  # before they are cut: a part of a token gives it away as well
        return sanitise_line(words, longest)

    async def close(self) -> None:
        """Break off what is under way and let go of all connections."""
        self._closed = True
        for response in list(self._open):
            with contextlib.suppress(Exception):
                await response.aclose()
        if self._client is not None:
            await self._client.aclose()

    @property
    def _label(self) -> str:
        return server_label(self._server)

    async def _ready(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._closed:
                raise ServerDown(SHUTTING_DOWN)
            if self._client is None:
                try:
                    self._client = await asyncio.to_thread(_new_client)
                except OSError as error:
                    words = sanitise_line(str(error), 120)
                    raise ServerDown(f"{self._label}: the system's certificates cannot be read: {words}") from None
        return self._client

    def _headers(self) -> dict[str, str]:
        token = server_token(self._server, os.environ)
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        with self._words():
            async for piece in response.aiter_raw():
                yield piece

    def _check_form(self, response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ServerDown(f"{self._label} compresses its answer, unasked; turn that off")
        form = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if form and form != "text/event-stream":
            raise ServerDown(
                f"{self._label} answers with {self.told(form, 60)}, not with a stream of events; "
                "is its url the base of an OpenAI-compatible API?"
            )

    async def _error(self, response: httpx.Response, model: str) -> Exception:
        body = b""
        with contextlib.suppress(TimeoutError, ServerDown):
            async with asyncio.timeout(_ERROR_BODY_S):
                with self._words():
                    body = await _body(response, _MAX_ERROR_BYTES)
        words = self.told(error_words(_json(body)))
        return error_of(self._server, model, response.status_code, words, response.headers.get("retry-after", ""))

    @contextlib.contextmanager
    def _words(self) -> Iterator[None]:
        """Failures of HTTP as `ServerDown`."""
        import anyio
        import httpx

        try:
            yield
        except (httpx.HTTPError, httpx.StreamError, anyio.ClosedResourceError, anyio.EndOfStream) as error:
            if self._closed:
                raise ServerDown(SHUTTING_DOWN) from None
            raise ServerDown(f"{self._label} {_cause(error)}") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            # What a host may be is not settled: our check and this library's, both of them right, can differ.
            words = sanitise_line(str(error), 120)
            raise ServerDown(f"{self._label} cannot be asked: {words}; correct its url") from None


def _new_client() -> httpx.AsyncClient:
    """Takes a moment: the modules are loaded and the certificates read here. Blocks."""
    import httpx

    return httpx.AsyncClient(
        verify=ssl.create_default_context(),
        http2=False,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S, write=_WRITE_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        headers={
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "hwdash",
        },
    )


async def _body(response: httpx.Response, limit: int) -> bytes:
    """At most *limit* bytes of the body; empty for one that is longer."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > limit:
            return b""
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _cause(error: Exception) -> str:
    """Why a request came to nothing, as the end of a sentence that begins with the server."""
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"cannot be reached within {CONNECT_S:g} s; start it or correct its url"
    if isinstance(error, httpx.ConnectError):
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ConnectionRefusedError):
                return "refuses the connection; start it or correct its url"
            if isinstance(seen, ssl.SSLError):
                return f"fails to prove who it is: {sanitise_line(str(seen), 120)}"
            seen = seen.__cause__ or seen.__context__
        return f"cannot be reached: {sanitise_line(str(error), 120) or 'no connection'}"
    if isinstance(error, httpx.TimeoutException):
        return f"was silent for {SILENCE_S:g} s"
    return "broke off the connection"
