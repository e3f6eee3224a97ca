"""One HTTP request and its answer on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import h11

from hwdash.client.endpoint import Endpoint, NotRunning
from hwdash.core.errors import DaemonUnreachable, HwdashError, Unauthorised, error_from_wire
from hwdash.core.wire import loads

_READ_BYTES = 65_536
_MAX_LINE_BYTES = 32 * 2**20
_MAX_BODY_BYTES = 64 * 2**20


class Exchange:
    """A request that has been answered with ``status``; the body is read as it comes. `close` drops the connection."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self._heard = False
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._connection = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(
        cls, endpoint: Endpoint, method: str, target: str, body: bytes = b"", answer_within_s: float | None = None
    ) -> Exchange:
        """Send a request and wait for the head of its answer.

        Raises `NotRunning` when nobody listens or whoever listened has gone before it said a word,
        `DaemonUnreachable`, and the error that the daemon answers with.
        """
        exchange = cls(endpoint, *await endpoint.connect())
        try:
            async with asyncio.timeout(answer_within_s):
                await exchange._send(method, target, body)
                await exchange._read_head()
                if exchange.status >= 400:
                    raise await exchange._error()
        except TimeoutError:
            exchange.close()
            raise DaemonUnreachable(f"the daemon at {endpoint} does not answer; see its log") from None
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def body(self) -> bytes:
        """The whole body, at most 64 MiB."""
        data = bytearray()
        async for chunk in self._chunks():
            data += chunk
            if len(data) > _MAX_BODY_BYTES:
                raise HwdashError("the daemon's answer is too large")
        return bytes(data)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The body line by line, as it comes, without line ends; empty lines are left out."""
        rest = bytearray()
        async for chunk in self._chunks():
            rest += chunk
            if b"\n" in chunk:
                *whole, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in whole:
                    if line:
                        yield line
            elif len(rest) > _MAX_LINE_BYTES:
                raise HwdashError("a line of the daemon's answer is too long")
        if rest:
            yield bytes(rest)

    def close(self) -> None:
        """Drop the connection, whatever is still under way on it."""
        self._writer.transport.abort()

    async def _send(self, method: str, target: str, body: bytes) -> None:
        headers = [("Host", self._endpoint.host), ("Content-Length", str(len(body))), ("Connection", "close")]
        if body:
            headers.append(("Content-Type", "application/json"))
        if self._endpoint.token:
            headers.append(("Authorization", f"Bearer {self._endpoint.token}"))
        request = h11.Request(method=method, target=target, headers=headers)
        try:
            for event in (request, h11.Data(data=body), h11.EndOfMessage()):
                self._writer.write(self._connection.send(event) or b"")
            await self._writer.drain()
        except OSError:
            raise self._broken() from None

    async def _read_head(self) -> None:
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise self._broken()
        self.status = event.status_code

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise self._broken()
            yield bytes(event.data)

    async def _next(self) -> Any:
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(_READ_BYTES)
                self._heard = self._heard or bool(data)
                self._connection.receive_data(data)
        except h11.RemoteProtocolError:
            if self.status or not self._heard:
                raise self._broken() from None
            raise DaemonUnreachable(f"what answers at {self._endpoint} is no hwdash daemon") from None
        except OSError:
            raise self._broken() from None
        return event

    async def _error(self) -> HwdashError:
        data = await self.body()
        try:
            told = loads(data)["error"]
            error = error_from_wire(str(told["code"]), str(told["message"]), told.get("param"))
            return self._unauthorised() if isinstance(error, Unauthorised) else error
        except (ValueError, TypeError, LookupError):
            return DaemonUnreachable(f"{self._endpoint} answers with HTTP status {self.status}, not as a hwdash daemon")

    def _unauthorised(self) -> Unauthorised:
        """What the daemon says to a hand-made request, in the words of who has a command before them."""
        problem = "asks for a token" if self._endpoint.token is None else "does not know the token in HWDASH_TOKEN"
        return Unauthorised(
            f"the daemon at {self._endpoint} {problem}; set HWDASH_TOKEN to one that "
            "`hwdash token create` printed on its machine"
        )

    def _broken(self) -> DaemonUnreachable:
        kind = DaemonUnreachable if self._heard else NotRunning
        return kind(f"the daemon at {self._endpoint} has gone away")
