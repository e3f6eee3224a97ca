"""Workers of our own and external servers as one engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import EngineError
from hwdash.core.inference import EngineEvent, PromptRequest, StageEvent
from hwdash.core.measurement import MeasurePlan, MeasureReport
from hwdash.core.model import ModelShape
from hwdash.core.server import ServerConfig, server_key
from hwdash.core.status import WorkerStatus
from hwdash.core.trial import DeviceTrial
from hwdash.engine.engine import Engine, Standing
from hwdash.engine.remote import RemoteEngine

log = logging.getLogger(__name__)


class FleetEngine:
    """A `hwdash.engine.engine.Engine` that hands each request to the server that answers for the device, or to *workers*.

    A server answers for the device that is itself, for the one that its setting ``device`` names (of these, for the
    models that it serves; others go to *workers*), and for a chip whose profile gives its address.
    """

    def __init__(self, workers: Engine, config: EngineConfig) -> None:
        self._workers = workers
        self._config = config
        self._servers = [RemoteEngine(server, config.max_queue) for server in config.servers]
        self._by_url: dict[str, RemoteEngine] = {}
        self._closed = False

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Answer *request* on *device*, as the engine that stands for it does."""
        engine = await self._engine(request.model, device)
        async with aclosing(engine.generate(request, device)) as events:
            async for event in events:
                yield event

    async def check(self, model: str, device: Device) -> None:
        """Raise what the engine that stands for *device* is sure to raise."""
        engine = await self._engine(model, device)
        await engine.check(model, device)

    async def prewarm(self, model: str, device: Device) -> None:
        """Load *model* on *device*, where that is ours to do."""
        engine = await self._engine(model, device)
        await engine.prewarm(model, device)

    async def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Run *plan* on *device*, where that is ours to do."""
        engine = await self._engine(plan.model, device)
        async with aclosing(engine.measure(plan, device)) as reports:
            async for report in reports:
                yield report

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """Try the precisions of *device*, where that is ours to do."""
        return await self._known_engine(model, device).trial(model, device)

    def standing(self, model: str, device: Device) -> Standing:
        """How the engine that stands for *device* stands to *model*."""
        return self._known_engine(model, device).standing(model, device)

    async def shape(self, model: str) -> ModelShape | None:
        """What *model* needs, where the store knows it."""
        return await self._workers.shape(model)

    def served(self) -> Sequence[str]:
        """Names of the models that servers offer, each once, by server."""
        servers = [*self._servers, *self._by_url.values()]
        return tuple(dict.fromkeys(name for server in servers for name in server.served()))

    def workers(self) -> Sequence[WorkerStatus]:
        """The workers, then what servers answered for."""
        servers = [*self._servers, *self._by_url.values()]
        return (*self._workers.workers(), *(status for server in servers for status in server.workers()))

    async def close(self) -> None:
        """End all workers and let go of all servers."""
        self._closed = True
        engines = [self._workers, *self._servers, *self._by_url.values()]
        for problem in await asyncio.gather(*(engine.close() for engine in engines), return_exceptions=True):
            if isinstance(problem, BaseException):
                log.error("an engine did not end as it should", exc_info=problem)

    async def _engine(self, model: str, device: Device) -> Engine:
        """The engine for *model* on *device*, after each server that might be it was asked at least once."""
        if self._closed:
            raise EngineError("the daemon is shutting down; send the prompt again when it is back")
        for server in self._servers_of(device):
            if not server.roster.asked:
                await server.roster.refresh()
        return self._known_engine(model, device)

    def _known_engine(self, model: str, device: Device) -> Engine:
        """The engine for *model* on *device* by what is known now."""
        servers = self._servers_of(device)
        for server in servers:
            if server.serves(model):
                return server
            server.roster.want()
        # A device that is nothing but a server, or whose chip only its server can drive, has no worker to turn to.
        runtime = device.runtime
        if servers and runtime is not None and runtime.url is not None:
            return servers[0]
        return self._workers

    def _servers_of(self, device: Device) -> list[RemoteEngine]:
        own = [server for server in self._servers if server.server.device is None]
        for server in own:
            if device.key == server_key(server.server):
                return [server]
        bound = [server for server in self._servers if server.server.device in (device.id, device.key)]
        runtime = device.runtime
        if runtime is None or runtime.url is None or bound:
            return bound
        url = runtime.url.rstrip("/")
        if url not in self._by_url:
            self._by_url[url] = RemoteEngine(ServerConfig("", url), self._config.max_queue)
        return [self._by_url[url]]
