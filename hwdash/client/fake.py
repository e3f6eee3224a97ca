"""The shipped fake of a client: a daemon that exists only as data, for the dashboard's tests and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from hwdash.core.errors import DaemonUnreachable, HwdashError, UnknownModel
from hwdash.core.history import LatencyHistory
from hwdash.core.inference import PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.snapshot import Snapshot
from hwdash.core.status import DaemonStatus


class FakeClient:
    """A `hwdash.client.client.Client` that plays what it was given.

    ``snapshots`` are streamed one an ``interval_s`` (the last one stays); ``events`` answer every prompt,
    ``event_delay_s`` apart. Set ``unreachable`` to have every call fail, ``failure`` to have prompts fail after
    their events.
    """

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        events: Sequence[PromptEvent] = (),
        history: LatencyHistory | None = None,
        models: Sequence[ModelInfo] = (),
        *,
        interval_s: float = 0.05,
        event_delay_s: float = 0.0,
    ) -> None:
        self.snapshots = list(snapshots)
        self.events = list(events)
        self.history = history
        self.store = list(models)
        self.interval_s = interval_s
        self.event_delay_s = event_delay_s
        self.unreachable = False
        self.failure: HwdashError | None = None
        self.requests: list[PromptRequest] = []
        self.latency_calls: list[tuple[float, str | None]] = []
        self.cancelled = 0
        self.stopped = False
        self.closed = False

    def _check(self) -> None:
        if self.unreachable:
            raise DaemonUnreachable("the daemon is gone")

    async def status(self) -> DaemonStatus:
        """A fixed status."""
        self._check()
        return DaemonStatus(1, "0", 1.0, self.snapshots[-1].interval_s, "/fake.sock", None, ())

    async def snapshot(self) -> Snapshot:
        """The last of the snapshots."""
        self._check()
        return self.snapshots[-1]

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        """Each snapshot once, then the last one again with a growing sequence number."""
        number = 0
        while True:
            self._check()
            if number < len(self.snapshots):
                yield self.snapshots[number]
            else:
                last = self.snapshots[-1]
                yield replace(last, sequence=last.sequence + number - len(self.snapshots) + 1)
            number += 1
            await asyncio.sleep(self.interval_s)

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """The given events."""
        self._check()
        self.requests.append(request)
        try:
            for event in self.events:
                await asyncio.sleep(self.event_delay_s)
                yield event
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        """The given history, whatever is asked."""
        self._check()
        self.latency_calls.append((since_s, device))
        if self.history is None:
            now = self.snapshots[-1].taken_at
            return LatencyHistory(now, now, since_s / buckets, (), ())
        return self.history

    async def models(self) -> tuple[ModelInfo, ...]:
        """The given models."""
        self._check()
        return tuple(self.store)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Half way, then done."""
        self._check()
        yield PullProgress("fetching", 0.5)
        info = ModelInfo(model, f"/fake/{model}", 1, ready=True)
        self.store.append(info)
        yield PullProgress("done", 1.0, info)

    async def remove_model(self, model: str) -> None:
        """Take *model* off the list."""
        self._check()
        if all(info.name != model for info in self.store):
            raise UnknownModel(f"no model {model!r}")
        self.store = [info for info in self.store if info.name != model]

    async def stop(self) -> None:
        """Remember that it was stopped."""
        self.stopped = True

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
