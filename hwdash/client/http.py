"""The client of the daemon's HTTP interface, over its socket or TCP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from hwdash.client.endpoint import Endpoint, NotRunning
from hwdash.client.exchange import Exchange
from hwdash.core.bench import BenchEvent, BenchFinished, BenchHistory, BenchRequest
from hwdash.core.bench_event import bench_event_from_wire
from hwdash.core.errors import DaemonUnreachable, HwdashError, UsageError, error_from_wire
from hwdash.core.event import EventKind
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import MAX_REQUEST_BYTES, FinishedEvent, PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.probe import ProbeRequest, ProbeResult, UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements, requirements_to_wire
from hwdash.core.snapshot import Snapshot
from hwdash.core.soak import SoakEvent, SoakFinished, SoakHistory, SoakRequest
from hwdash.core.soak_event import soak_event_from_wire
from hwdash.core.status import DaemonStatus
from hwdash.core.wire import dumps, event_from_wire, from_wire, loads, prompt_to_wire, to_wire

T = TypeVar("T")

_ANSWER_S = 15.0
_STOP_S = 15.0
_PROBE_S = 3600.0
_STOP_POLL_S = 0.02


class HttpClient:
    """A `hwdash.client.client.Client` of the daemon at *endpoint*. Each call has a connection of its own.

    A daemon that does not begin its answer within *answer_s* seconds is given up: `DaemonUnreachable`.
    """

    def __init__(self, endpoint: Endpoint, answer_s: float = _ANSWER_S) -> None:
        self._endpoint = endpoint
        self._answer_s = answer_s

    async def status(self) -> DaemonStatus:
        """The daemon's own state."""
        data = await self._call("GET", "/api/v1/status")
        return _decoded(lambda item: from_wire(item, DaemonStatus), data)

    async def snapshot(self) -> Snapshot:
        """The newest snapshot; waits for the first sample cycle."""
        async with aclosing(self.stream()) as snapshots:
            async for snapshot in snapshots:
                return snapshot
        raise DaemonUnreachable(f"the daemon at {self._endpoint} is stopping")

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        """The newest snapshot at once, then one an interval. Raises `DaemonUnreachable` when the daemon ends."""
        exchange = await Exchange.open(self._endpoint, "GET", "/api/v1/stream", answer_within_s=self._answer_s)
        try:
            async with aclosing(exchange.lines()) as lines:
                async for line in lines:
                    if line.startswith(b"data:"):
                        yield _decoded(_snapshot_of, line)
        finally:
            exchange.close()
        raise DaemonUnreachable(f"the daemon at {self._endpoint} has ended")

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request*; closing the iterator closes the connection, which cancels the generation."""
        async with aclosing(self._lines("/api/v1/prompt", prompt_to_wire(request))) as lines:
            async for data in lines:
                event = _decoded(event_from_wire, data)
                yield event
                if isinstance(event, FinishedEvent):
                    return
        raise DaemonUnreachable(f"the daemon at {self._endpoint} broke off its answer")

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        """The devices in order under *requirements*. Raises `UsageError` and `UnknownModel`."""
        options = requirements_to_wire(requirements)
        query = {name: ",".join(value) if isinstance(value, list) else value for name, value in options.items()}
        query |= {"prefer_low_power": "true"} if requirements.prefer_low_power else {}
        query |= (
            {"min_memory": f"{requirements.min_memory_bytes}B"} if requirements.min_memory_bytes is not None else {}
        )
        data = await self._call("GET", f"/api/v1/rank?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, Ranking), data)

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        """Latency of the last *since_s* seconds. Raises `UnknownDevice`."""
        query: dict[str, object] = {"since": f"{since_s:f}", "buckets": buckets}
        if device is not None:
            query["device"] = device
        data = await self._call("GET", f"/api/v1/history/latency?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, LatencyHistory), data)

    async def metric(self, metric: str, since_s: float, device: str | None = None, buckets: int = 120) -> MetricHistory:
        """*metric* over the last *since_s* seconds. Raises `UsageError` and `UnknownDevice`."""
        query: dict[str, object] = {"metric": metric, "since": f"{since_s:f}", "buckets": buckets}
        query |= {} if device is None else {"device": device}
        data = await self._call("GET", f"/api/v1/history/metrics?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, MetricHistory), data)

    async def events(
        self, since_s: float, device: str | None = None, kind: EventKind | None = None, limit: int = 1000
    ) -> EventHistory:
        """The newest *limit* events of the last *since_s* seconds. Raises `UnknownDevice`."""
        query: dict[str, object] = {"since": f"{since_s:f}", "limit": limit}
        query |= {} if device is None else {"device": device}
        query |= {} if kind is None else {"kind": kind.value}
        data = await self._call("GET", f"/api/v1/events?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, EventHistory), data)

    async def soak(self, request: SoakRequest) -> AsyncGenerator[SoakEvent, None]:
        """Load a device; closing the iterator closes the connection, which ends the load at once."""
        body = {name: value for name, value in to_wire(request).items() if value != ""}
        async with aclosing(self._lines("/api/v1/soak", body)) as lines:
            async for data in lines:
                event = _decoded(soak_event_from_wire, data)
                yield event
                if isinstance(event, SoakFinished):
                    return
        raise DaemonUnreachable(f"the daemon at {self._endpoint} broke off the soak")

    async def soaks(self, device: str | None = None, limit: int = 10) -> SoakHistory:
        """The newest *limit* reports of soaks. Raises `UnknownDevice`."""
        query = {"limit": limit} | ({} if device is None else {"device": device})
        data = await self._call("GET", f"/api/v1/soak?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, SoakHistory), data)

    async def uptime(self, since_s: float, device: str | None = None) -> UptimeHistory:
        """How devices and models stood their probes. Raises `UnknownDevice`."""
        query = {"since": f"{since_s:f}"} | ({} if device is None else {"device": device})
        data = await self._call("GET", f"/api/v1/history/uptime?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, UptimeHistory), data)

    async def probe(self, request: ProbeRequest) -> ProbeResult:
        """One probe now; may take as long as loading the model. Raises as `prompt` does."""
        data = await self._call("POST", "/api/v1/probe", dumps(to_wire(request)), _PROBE_S)
        return _decoded(lambda item: from_wire(item, ProbeResult), data)

    async def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        """Measure a device; closing the iterator closes the connection, which ends it at once."""
        body = {name: value for name, value in to_wire(request).items() if value != ""}
        async with aclosing(self._lines("/api/v1/bench", body)) as lines:
            async for data in lines:
                event = _decoded(bench_event_from_wire, data)
                yield event
                if isinstance(event, BenchFinished):
                    return
        raise DaemonUnreachable(f"the daemon at {self._endpoint} broke off the bench")

    async def benches(self, device: str | None = None, model: str | None = None, limit: int = 20) -> BenchHistory:
        """The newest *limit* reports of benches. Raises `UnknownDevice`."""
        query: dict[str, object] = {"limit": limit}
        query |= {} if device is None else {"device": device}
        query |= {} if model is None else {"model": model}
        data = await self._call("GET", f"/api/v1/bench?{urlencode(query)}")
        return _decoded(lambda item: from_wire(item, BenchHistory), data)

    async def replay(self, request: ReplayRequest) -> ReplayState:
        """Steer the recording that is being played. Raises `UsageError` when the daemon watches hardware."""
        data = await self._call("POST", "/api/v1/replay", dumps(to_wire(request)))
        return _decoded(lambda item: from_wire(item, ReplayState), data)

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models of the store."""
        data = await self._call("GET", "/api/v1/models")
        return _decoded(lambda item: from_wire(item["models"], tuple[ModelInfo, ...]), data)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch *model*; closing the iterator stops it. Raises `UnknownModel` and `ModelError`."""
        async with aclosing(self._lines("/api/v1/models/pull", {"model": model})) as lines:
            async for data in lines:
                progress = _decoded(_progress_of, data)
                yield progress
                if progress.done is not None:
                    return
        raise DaemonUnreachable(f"the daemon at {self._endpoint} broke off the download")

    async def remove_model(self, model: str) -> None:
        """Delete *model* from the store. Raises `UnknownModel`."""
        await self._call("DELETE", f"/api/v1/models/{quote(model, safe='')}")

    async def stop(self) -> None:
        """Ask the daemon to end, and wait until nobody listens at its place."""
        await self._call("POST", "/api/v1/stop")
        try:
            async with asyncio.timeout(_STOP_S):
                while True:
                    await asyncio.sleep(_STOP_POLL_S)
                    if not await self._listens():
                        return
        except TimeoutError:
            raise HwdashError(f"the daemon at {self._endpoint} does not end; end it by its pid") from None

    async def close(self) -> None:
        """Nothing to let go of: each call closes its own connection."""

    async def _listens(self) -> bool:
        """Somebody listens, or has not yet cleared away its socket."""
        if self._endpoint.socket is not None:
            return _is_there(self._endpoint.socket)
        try:
            _, writer = await self._endpoint.connect()
        except NotRunning:
            return False
        writer.transport.abort()
        return True

    async def _call(self, method: str, target: str, payload: bytes = b"", within_s: float = 0.0) -> Any:
        try:
            async with asyncio.timeout(max(self._answer_s, within_s)):
                exchange = await Exchange.open(self._endpoint, method, target, payload)
                try:
                    data = await exchange.body()
                finally:
                    exchange.close()
        except TimeoutError:
            raise DaemonUnreachable(f"the daemon at {self._endpoint} does not answer; see its log") from None
        return _decoded(loads, data)

    async def _lines(self, target: str, body: object) -> AsyncGenerator[Any, None]:
        """The lines of JSON that a POST is answered with; a line of an error is raised."""
        payload = dumps(body)
        if len(payload) > MAX_REQUEST_BYTES:
            raise UsageError("prompt: the request is larger than 8 MiB; shorten it", param="prompt")
        exchange = await Exchange.open(self._endpoint, "POST", target, payload, self._answer_s)
        try:
            async with aclosing(exchange.lines()) as lines:
                async for line in lines:
                    data = _decoded(loads, line)
                    if data.get("type") == "error":
                        error = data["error"]
                        raise error_from_wire(error["code"], error["message"], error.get("param"))
                    yield data
        finally:
            exchange.close()


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _snapshot_of(line: bytes) -> Snapshot:
    return from_wire(loads(line[len(b"data:") :]), Snapshot)


def _progress_of(data: Any) -> PullProgress:
    return from_wire(data, PullProgress)


def _decoded(decode: Callable[[Any], T], data: Any) -> T:
    try:
        return decode(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise HwdashError(f"the daemon's answer is not understood ({error}): is it of the same version?") from None
