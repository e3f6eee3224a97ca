"""External servers that are devices of their own: there or not there, and nothing else to read."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
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

PROBE_EVERY_S = 5.0
PROBE_LIMIT_S = 1.5
"""Less than a read may take (``monitor.deadline_s``), so that a silent server is told from a driver that hangs."""


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

    def problem(self, now_s: float, fresh: bool) -> str:
        """Why the server cannot answer, as of the last few seconds, or as of now for *fresh*. Blocks, briefly."""
        if fresh:
            self._pace.hasten()
        if self._pace.due(now_s):
            try:
                words = self._ask()
                self._problem = f"{server_label(self.server)} {words}" if words else ""
            except ServerDown as error:
                self._problem = error.message
        return self._problem

    def _ask(self) -> str:
        parts = urlsplit(self.server.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port or 443, timeout=PROBE_LIMIT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=PROBE_LIMIT_S)
        token = server_token(self.server, os.environ)
        headers = {"User-Agent": "hwdash", "Accept-Encoding": "identity"}
        try:
            connection.request(
                "HEAD",  # no server computes anything for it, and no answer of a busy one is broken off
                f"{parts.path}/models",
                headers=headers | ({"Authorization": f"Bearer {token}"} if token else {}),
            )
            return status_problem(connection.getresponse().status)
        except ConnectionRefusedError:
            return "refuses the connection; start it or correct its url"
        except TimeoutError:
            return f"does not answer within {PROBE_LIMIT_S:g} s"
        except socket.gaierror as error:
            return f"cannot be found: {sanitise_line(error.strerror or str(error), 120)}"
        except ssl.SSLError as error:
            return f"fails to prove who it is: {sanitise_line(str(error), 120)}"
        except (OSError, http.client.HTTPException) as error:
            return f"cannot be asked: {sanitise_line(str(error), 120) or type(error).__name__}"
        finally:
            connection.close()
