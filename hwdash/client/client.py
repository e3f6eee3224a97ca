"""The seam between the faces (dashboard, commands) and the daemon."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from hwdash.core.bench import BenchEvent, BenchHistory, BenchRequest
from hwdash.core.event import EventKind
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.probe import ProbeRequest, ProbeResult, UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.core.soak import SoakEvent, SoakHistory, SoakRequest
from hwdash.core.status import DaemonStatus


class Client(Protocol):
    """What the daemon can be asked. Every call raises `DaemonUnreachable` when the daemon is gone."""

    async def status(self) -> DaemonStatus:
        """The daemon's own state."""
        ...

    async def snapshot(self) -> Snapshot:
        """The newest snapshot. Waits for the first sample cycle of a daemon that has just started."""
        ...

    def stream(self) -> AsyncGenerator[Snapshot, None]:
        """The newest snapshot at once, then one an interval, until closed."""
        ...

    def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request*: stages, tokens, one `FinishedEvent`. Closing the iterator cancels the generation.

        Raises `UnknownDevice`, `UnknownModel`, `NoSuitableDevice`, `Overloaded`, `EngineError` and its kinds.
        """
        ...

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        """The devices in order under *requirements*, and the excluded ones with their reasons.

        Raises `UsageError` for requirements that cannot be, `UnknownModel` for a model that is not there.
        """
        ...

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        """Latency of the last *since_s* seconds in about *buckets* stretches, of one device (id or key) or of all.

        Raises `UnknownDevice` for a device that neither the machine nor history knows.
        """
        ...

    async def metric(self, metric: str, since_s: float, device: str | None = None, buckets: int = 120) -> MetricHistory:
        """*metric* over the last *since_s* seconds in about *buckets* stretches, of one device (id or key) or of all.

        Raises `UsageError` for an unknown metric, and `UnknownDevice` as `latency` does.
        """
        ...

    async def events(
        self, since_s: float, device: str | None = None, kind: EventKind | None = None, limit: int = 1000
    ) -> EventHistory:
        """The newest *limit* events of the last *since_s* seconds, of one device (id or key) or of all, of one kind or of all.

        Raises `UnknownDevice` for a device that neither the machine nor history knows.
        """
        ...

    def soak(self, request: SoakRequest) -> AsyncGenerator[SoakEvent, None]:
        """Load a device for a while: stages, one `SoakStarted`, samples, one `SoakFinished`.

        Closing the iterator ends the load at once. Raises as `prompt` does, and `UsageError` for a device that hwdash
        cannot load.
        """
        ...

    async def soaks(self, device: str | None = None, limit: int = 10) -> SoakHistory:
        """The newest *limit* reports of soaks of one device (id or key) or of all. Raises `UnknownDevice`."""
        ...

    async def uptime(self, since_s: float, device: str | None = None) -> UptimeHistory:
        """How devices and models stood their probes, over 1 h, 24 h, 7 d and the last *since_s* seconds.

        Of one device (id or key) or of all. Raises `UnknownDevice` as `latency` does.
        """
        ...

    async def probe(self, request: ProbeRequest) -> ProbeResult:
        """One probe now. Raises as `prompt` does where it never came to it; a probe that failed is a result."""
        ...

    def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        """Measure a device: stages, steps, one `BenchFinished`. Closing the iterator ends it at once.

        Raises `UnknownDevice`, `UnknownModel`, `ModelError`, `NoSuitableDevice`, `UsageError`, `Overloaded`, `EngineError`.
        """
        ...

    async def benches(self, device: str | None = None, model: str | None = None, limit: int = 20) -> BenchHistory:
        """The newest *limit* reports of benches of one device (id or key) and model, or of all. Raises `UnknownDevice`."""
        ...

    async def replay(self, request: ReplayRequest) -> ReplayState:
        """Steer the recording that is being played. Raises `UsageError` when the daemon watches hardware."""
        ...

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models of the store."""
        ...

    def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch and convert *model*; the last item has ``done``. Closing the iterator stops it and leaves nothing half-written.

        Raises `UnknownModel` and `ModelError`.
        """
        ...

    async def remove_model(self, model: str) -> None:
        """Delete *model* from the store. Raises `UnknownModel`."""
        ...

    async def stop(self) -> None:
        """Ask the daemon to end, and wait until its socket is gone."""
        ...

    async def close(self) -> None:
        """Let go of all connections, and of a daemon that was started for this client."""
        ...
