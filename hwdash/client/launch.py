"""A client that starts a daemon where none runs, and ends it when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO, TypeVar

from hwdash.client.client import Client
from hwdash.client.endpoint import Endpoint, NotRunning
from hwdash.client.http import HttpClient
from hwdash.core.bench import BenchEvent, BenchHistory, BenchRequest
from hwdash.core.errors import DaemonUnreachable
from hwdash.core.event import EventKind
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.paths import Paths
from hwdash.core.probe import ProbeRequest, ProbeResult, UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.core.soak import SoakEvent, SoakHistory, SoakRequest
from hwdash.core.status import DaemonStatus
from hwdash.core.text import sanitise_line

T = TypeVar("T")

log = logging.getLogger(__name__)

_START_S = 15.0
_POLL_S = 0.015
_END_S = 1.0
_ATTEMPTS = 2  # the first daemon found may be another's that is just ending
_STDERR_BYTES = 4096


def connect(
    paths: Paths,
    *,
    socket: Path | None = None,
    url: str | None = None,
    token: str | None = None,
    launch: bool = True,
    daemon_args: Sequence[str] = (),
) -> Client:
    """A client of the daemon at *url* (with *token*), at *socket*, or at the usual socket of *paths*.

    With *launch*, and without a *url*, the first call that finds nobody there starts a daemon with *daemon_args*;
    `Client.close` ends it. Without, such a call raises `DaemonUnreachable`.
    """
    if url is not None:
        endpoint = Endpoint(url=url, token=token or None)
        if endpoint.exposed:
            log.warning("the token travels in clear text to %s; use https:// there", endpoint)
        return HttpClient(endpoint)
    place = socket or paths.socket
    client = HttpClient(Endpoint(socket=place))
    if not launch:
        return client
    arguments = [*daemon_args, "--socket", str(socket)] if socket else list(daemon_args)
    return LaunchingClient(client, [sys.executable, "-P", "-m", "hwdash", "daemon", "--owned", *arguments])


class LaunchingClient:
    """A `Client` around *client*: where nobody listens it runs *command* and asks again.

    The daemon ends when the pipe on its stdin is closed: by `close`, or because this process is gone.
    """

    def __init__(self, client: HttpClient, command: Sequence[str]) -> None:
        self._client = client
        self._command = tuple(command)
        self._child: _Child | None = None
        self._starting = asyncio.Lock()

    async def status(self) -> DaemonStatus:
        """The daemon's own state."""
        return await self._call(self._client.status)

    async def snapshot(self) -> Snapshot:
        """The newest snapshot; waits for the first sample cycle."""
        return await self._call(self._client.snapshot)

    def stream(self) -> AsyncGenerator[Snapshot, None]:
        """The newest snapshot at once, then one an interval."""
        return self._stream(self._client.stream)

    def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request*."""
        return self._stream(lambda: self._client.prompt(request))

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        """The devices in order under *requirements*."""
        return await self._call(lambda: self._client.rank(requirements))

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        """Latency of the last *since_s* seconds."""
        return await self._call(lambda: self._client.latency(since_s, device, buckets))

    async def metric(self, metric: str, since_s: float, device: str | None = None, buckets: int = 120) -> MetricHistory:
        """*metric* over the last *since_s* seconds."""
        return await self._call(lambda: self._client.metric(metric, since_s, device, buckets))

    async def events(
        self, since_s: float, device: str | None = None, kind: EventKind | None = None, limit: int = 1000
    ) -> EventHistory:
        """The newest events of the last *since_s* seconds."""
        return await self._call(lambda: self._client.events(since_s, device, kind, limit))

    def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        """Measure a device."""
        return self._stream(lambda: self._client.bench(request))

    async def benches(self, device: str | None = None, model: str | None = None, limit: int = 20) -> BenchHistory:
        """The newest *limit* reports of benches."""
        return await self._call(lambda: self._client.benches(device, model, limit))

    def soak(self, request: SoakRequest) -> AsyncGenerator[SoakEvent, None]:
        """Load a device."""
        return self._stream(lambda: self._client.soak(request))

    async def soaks(self, device: str | None = None, limit: int = 10) -> SoakHistory:
        """The newest *limit* reports of soaks."""
        return await self._call(lambda: self._client.soaks(device, limit))

    async def uptime(self, since_s: float, device: str | None = None) -> UptimeHistory:
        """How devices and models stood their probes."""
        return await self._call(lambda: self._client.uptime(since_s, device))

    async def probe(self, request: ProbeRequest) -> ProbeResult:
        """One probe now."""
        return await self._call(lambda: self._client.probe(request))

    async def replay(self, request: ReplayRequest) -> ReplayState:
        """Steer the recording that is being played."""
        return await self._call(lambda: self._client.replay(request))

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models of the store."""
        return await self._call(self._client.models)

    def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch and convert *model*."""
        return self._stream(lambda: self._client.pull(model))

    async def remove_model(self, model: str) -> None:
        """Delete *model* from the store."""
        await self._call(lambda: self._client.remove_model(model))

    async def stop(self) -> None:
        """Ask the daemon to end; none is started for that."""
        await self._client.stop()

    async def close(self) -> None:
        """End the daemon that was started here; another one goes on."""
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    async def _call(self, ask: Callable[[], Awaitable[T]]) -> T:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(NotRunning):
                return await ask()
            await self._launch()
        return await ask()

    async def _stream(self, ask: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        for attempt in range(_ATTEMPTS + 1):
            try:
                async with aclosing(ask()) as items:
                    async for item in items:
                        yield item
            except NotRunning:
                if attempt == _ATTEMPTS:
                    raise
                await self._launch()
            else:
                return

    async def _launch(self) -> None:
        """Start a daemon and wait until one answers; it may be another's, started at the same time."""
        async with self._starting:
            if await self._answering(_START_S) is not None:
                return
            await self.close()
            try:
                child = await asyncio.to_thread(_Child, self._command)
            except OSError as error:
                raise DaemonUnreachable(f"no daemon could be started: {error.strerror or error}") from None
            self._child = child
            deadline = time.monotonic() + _START_S
            while time.monotonic() < deadline:
                ended = child.ended
                if (pid := await self._answering(deadline - time.monotonic())) is not None:
                    if pid != child.pid:
                        await self.close()
                    return
                if ended:
                    await self.close()
                    raise DaemonUnreachable(f"no daemon could be started: {child.last_words}")
                await asyncio.sleep(_POLL_S)
            await self.close()
            raise DaemonUnreachable(f"the daemon did not answer within {_START_S:.0f} s of its start; see its log")

    async def _answering(self, within_s: float) -> int | None:
        """The pid of the daemon that answers, None while nobody does (or it was just ending)."""
        with contextlib.suppress(DaemonUnreachable, TimeoutError):
            async with asyncio.timeout(within_s):
                return (await self._client.status()).pid
        return None


class _Child:
    """A started daemon: in a session of its own, so that a Ctrl-C here does not reach it, with a pipe as its leash."""

    def __init__(self, command: Sequence[str]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError:
            self._stderr.close()
            raise
        self.pid = self._process.pid
        self.last_words = ""

    @property
    def ended(self) -> bool:
        """The process is over."""
        return self._process.poll() is not None

    async def end(self) -> None:
        """Let go of the pipe; what is not over a second later is terminated, then killed."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        for push in (process.terminate, process.kill, None):
            try:
                process.wait(_END_S)
                break
            except subprocess.TimeoutExpired:
                if push is not None:
                    push()
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_BYTES))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        self.last_words = sanitise_line(lines[-1]).removeprefix("hwdash: ") if lines else f"exit {process.returncode}"
        self._stderr.close()
