"""External servers that are devices of their own: there or not there, and nothing else to read."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Capabilities, Device, DeviceKind, Runtime
from hwdash.core.errors import ServerDown
from hwdash.core.sample import Sample
from hwdash.core.server import ServerConfig, server_key, server_label, server_token, status_problem
from hwdash.core.text import sanitise_line
from hwdash.sources.pace import Pace
from hwdash.sources.source import DeviceLost

log = logging.getLogger(__name__)

PROBE_EVERY_S = 5.0
PROBE_LIMIT_S = 1.5
"""Less than a read may take (``monitor.deadline_s``), so that a silent server is told from a driver that hangs."""
_LONGEST_LINE = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?![0-9])")


class ServerSource:
    """A `hwdash.sources.source.Source` of *servers*, each of which is asked for its models now and then."""

    name = "server"
    per_device = True
    problem = ""

    def __init__(self, servers: Sequence[ServerConfig], clock: Clock = SYSTEM_CLOCK) -> None:
        self._probes = {server_key(server): _Probe(server) for server in servers}
        self._clock = clock

    def discover(self) -> Sequence[Device]:
        """One device for each server, whether it answers or not."""
        return tuple(_device(key, probe.server) for key, probe in self._probes.items())

    def read(self, key: str, fresh: bool = False) -> Sample:
        """A sample without readings. Raises `DeviceLost`, with words, while the server does not answer."""
        now_s = self._clock.monotonic()
        if problem := self._probes[key].problem(now_s, fresh):
            raise DeviceLost(problem)
        return Sample(key, now_s, self._clock.now(), MappingProxyType({}))

    def close(self) -> None:
        """Nothing is held between two probes."""


def _device(key: str, server: ServerConfig) -> Device:
    return Device(
        key=key,
        kind=DeviceKind.OTHER,
        vendor="server",
        name=server.name,
        source=ServerSource.name,
        capabilities=Capabilities(inference=True),
        runtime=Runtime(url=server.url),
    )


class _Probe:
    """What the newest question to *server* came to."""

    def __init__(self, server: ServerConfig) -> None:
        self.server = server
        self._pace = Pace(PROBE_EVERY_S)
        self._problem = ""
        self._found = ""
        self._asking: threading.Thread | None = None

    def problem(self, now_s: float, fresh: bool) -> str:
        """Why the server cannot answer, as of the last few seconds, or as of now for *fresh*. Blocks for `PROBE_LIMIT_S` at most."""
        if fresh:
            self._pace.hasten()
        if self._pace.due(now_s):
            self._problem = self._ask_within(PROBE_LIMIT_S)
        return self._problem

    def _ask_within(self, limit_s: float) -> str:
        """What keeps the server from answering. On a thread of its own: nothing else ends the look-up of a name in time."""
        asking = self._asking
        if asking is None or not asking.is_alive():
            asking = threading.Thread(target=self._ask, args=(limit_s,), daemon=True, name="hwdash-server")
            self._asking = asking
            asking.start()
        asking.join(limit_s)
        late = f"{server_label(self.server)} does not answer within {limit_s:g} s"
        return late if asking.is_alive() else self._found

    def _ask(self, limit_s: float) -> None:
        try:
            words = _why_not(self.server, limit_s)
            self._found = f"{server_label(self.server)} {words}" if words else ""
        except ServerDown as error:
            self._found = error.message
        except Exception:
            log.exception("asking %s failed", server_label(self.server))
            self._found = f"{server_label(self.server)} cannot be asked: internal error; see the log"


def _why_not(server: ServerConfig, limit_s: float) -> str:
    """What keeps *server* from answering, as the end of a sentence that begins with it. Raises `ServerDown`."""
    try:
        return status_problem(_status(server, limit_s))
    except ConnectionRefusedError:
        return "refuses the connection; start it or correct its url"
    except TimeoutError:
        return f"does not answer within {limit_s:g} s"
    except socket.gaierror as error:
        return f"cannot be found: {sanitise_line(error.strerror or str(error), 120)}"
    except ssl.SSLError as error:
        return f"fails to prove who it is: {sanitise_line(str(error), 120)}"
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        return f"cannot be asked: {sanitise_line(str(error), 120) or type(error).__name__}"


def _status(server: ServerConfig, limit_s: float) -> int:
    """The status of *server* to a question that costs it nothing; no step of asking takes longer than *limit_s* seconds.

    Raises `OSError`, `HTTPException`, `UnicodeError` and `ServerDown`.
    """
    parts = urlsplit(server.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port or 443, timeout=limit_s, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=limit_s)
    token = server_token(server, os.environ)
    headers = {"User-Agent": "hwdash", "Accept-Encoding": "identity"}
    try:
        connection.request(
            "HEAD",  # no server computes anything for it, and no answer of a busy one is broken off
            f"{parts.path}/models",
            headers=headers | ({"Authorization": f"Bearer {token}"} if token else {}),
        )
        return _first_line(connection.sock, limit_s)
    finally:
        connection.close()


def _first_line(connection: socket.socket, limit_s: float) -> int:
    """The status in the first line of an answer, all of which counts against *limit_s*: bytes may come one by one."""
    until = time.monotonic() + limit_s
    line = b""
    while b"\n" not in line and len(line) < _LONGEST_LINE:
        if (left_s := until - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        if not (piece := connection.recv(_LONGEST_LINE)):
            break
        line += piece
    found = _STATUS.match(line)
    if found is None:
        raise http.client.BadStatusLine("what answers there does not speak HTTP" if line else "it hung up")
    return int(found[1])
