"""Where a daemon is, and a connection to it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hwdash.core.errors import DaemonUnreachable, UsageError
from hwdash.core.paths import why_not_own_socket, why_not_private

_CONNECT_S = 10.0
_TOKEN = re.compile(r"[\x21-\x7e]+")


class NotRunning(DaemonUnreachable):
    """Nobody listens there, or no longer: the request was not answered, and a daemon may be started for it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A daemon's Unix *socket*, or the *url* (``http(s)://host:port``) of one with its bearer *token*."""

    socket: Path | None = None
    url: str | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.socket is None) == (self.url is None):
            raise UsageError("a daemon is reached by either a socket or a URL")
        if self.url is not None:
            self._address()
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise UsageError("HWDASH_TOKEN is empty or has characters that no token has; set it as it was printed")

    def __str__(self) -> str:
        return self.url or str(self.socket)

    @property
    def host(self) -> str:
        """The value of the ``Host`` header."""
        return urlsplit(self.url).netloc.rpartition("@")[2] if self.url else "localhost"

    @property
    def exposed(self) -> bool:
        """The token would travel in clear text to another machine."""
        if self.url is None or self.token is None:
            return False
        host, _, secure = self._address()
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        return not secure and not local

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A fresh connection. Raises `NotRunning` when nobody listens, `DaemonUnreachable` when the place is unsafe."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                if self.socket is not None:
                    self._check(self.socket)
                    return await asyncio.open_unix_connection(self.socket)
                host, port, secure = self._address()
                return await asyncio.open_connection(host, port, ssl=secure or None)
        except (FileNotFoundError, ConnectionRefusedError):
            hint = "; start one with: hwdash daemon" if self.socket else ""
            raise NotRunning(f"no daemon runs at {self}{hint}") from None
        except TimeoutError:
            raise DaemonUnreachable(f"the daemon at {self} does not answer") from None
        except ssl.SSLCertVerificationError as error:
            raise DaemonUnreachable(
                f"the certificate of {self} is not trusted: {error.verify_message.rstrip('.')}; "
                "for a certificate authority of your own set SSL_CERT_FILE to its PEM file"
            ) from None
        except ssl.SSLError as error:
            raise DaemonUnreachable(
                f"{self} does not speak TLS as expected ({error.reason or error}); is it http:// there?"
            ) from None
        except OSError as error:
            raise DaemonUnreachable(f"the daemon at {self} cannot be reached: {error.strerror or error}") from None

    def _address(self) -> tuple[str, int, bool]:
        parts = urlsplit(self.url or "")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.path not in ("", "/"):
            raise UsageError(f"not a daemon's address: {self.url!r}; write http://HOST:PORT", param="connect")
        return parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https"

    @staticmethod
    def _check(path: Path) -> None:
        uid = os.getuid()
        problem = why_not_private(path.parent, path.parent.lstat(), uid) or why_not_own_socket(path, path.lstat(), uid)
        if problem:
            raise DaemonUnreachable(problem)
