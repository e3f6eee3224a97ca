"""One HTTP POST to an address that the user has set: verified TLS, or plain to this machine alone; no redirects."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h11

from hwdash import __version__
from hwdash.core.text import sanitise_line

_PORTS = {"https": 443, "http": 80}
_MOST_ADDRESSES = 4


class PostFailed(Exception):
    """The request was not taken. ``final`` tells that another try would come to the same."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.final = final


@dataclass(frozen=True, slots=True)
class Address:
    """Where to post to. ``str()`` is what may be shown: scheme, host and port; path, query and user are secrets."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address of a *url* with which `hwdash.core.rule.webhook_problem` finds no fault."""
        parts = urlsplit(url)
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], target, authorization)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")


class Poster:
    """Posts JSON to one *address*. Names are looked up on a thread of its own: a resolver that hangs holds up nobody else."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._thread = ThreadPoolExecutor(1, "hwdash-webhook")
        self._context: ssl.SSLContext | None = None

    async def post(self, body: bytes, within_s: float) -> None:
        """Send *body* on a connection of its own. Raises `PostFailed` for anything but a 2xx answer *within_s* seconds."""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await self._connect()
                try:
                    status = await self._exchange(reader, writer, body)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise PostFailed(f"no answer within {within_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise PostFailed(f"its certificate is not trusted: {sanitise_line(error.verify_message)}") from None
        except (OSError, ssl.SSLError) as error:
            raise PostFailed(_words(error)) from None
        except h11.RemoteProtocolError as error:
            raise PostFailed(f"its answer is broken: {sanitise_line(str(error), 100)}") from None
        if 300 <= status < 400:
            raise PostFailed(f"it answered {status}: redirects are not followed; set the final URL", final=True)
        if not 200 <= status < 300:
            raise PostFailed(f"it answered {status}", final=400 <= status < 500 and status not in (408, 425, 429))

    def close(self) -> None:
        """Let go of the thread, whatever hangs in it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop, address = asyncio.get_running_loop(), self._address
        if address.scheme == "https" and self._context is None:
            self._context = await loop.run_in_executor(self._thread, ssl.create_default_context)
        found = await loop.run_in_executor(self._thread, _look_up, address.host, address.port)
        if address.scheme == "http":
            # The very addresses that are connected to: a name may say something else the next time it is asked for.
            _check_local(address.host, found)
        failure: OSError | None = None
        for place in found[:_MOST_ADDRESSES]:
            try:
                return await asyncio.open_connection(
                    place,
                    address.port,
                    ssl=self._context,
                    server_hostname=address.host if self._context is not None else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
        raise failure or OSError("its name has no address")

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
        """The status of the answer; its body is not read."""
        connection = h11.Connection(h11.CLIENT)
        host = str(self._address).partition("://")[2]
        headers = [
            ("Host", host),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", f"hwdash/{__version__}"),
            ("Connection", "close"),
        ]
        if self._address.authorization is not None:
            headers.append(("Authorization", self._address.authorization))
        for part in (
            h11.Request(method="POST", target=self._address.target, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(connection.send(part) or b"")
        await writer.drain()
        while not isinstance(event := connection.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(16_384))
        return event.status_code


def _words(error: OSError) -> str:
    """Why it failed; asyncio's own words for a failed connection do not tell."""
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None or error.errno <= 0:
        return sanitise_line(error.strerror or str(error) or type(error).__name__)
    return os.strerror(error.errno)


def _look_up(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise PostFailed(f"{sanitise_line(host, 80)} is no name of a host", final=True) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _check_local(host: str, addresses: Sequence[str]) -> None:
    for place in addresses:
        if not ipaddress.ip_address(place).is_loopback:
            raise PostFailed(f"{host} is {place}, another machine: alerts go there by https only", final=True)
