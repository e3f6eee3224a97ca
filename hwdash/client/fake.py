"""The shipped fake of a client: a daemon that exists only as data, for the dashboard's tests and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from hwdash.core.bench import BenchEvent, BenchHistory, BenchReport, BenchRequest
from hwdash.core.errors import DaemonUnreachable, HwdashError, UnknownModel, UsageError
from hwdash.core.event import Event, EventKind
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory, MetricSeries
from hwdash.core.inference import PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.probe import ProbeOutcome, ProbeRequest, ProbeResult, UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.core.soak import SoakEvent, SoakFinished, SoakHistory, SoakRequest
from hwdash.core.status import DaemonStatus

E = TypeVar("E")


class FakeClient:
    """A `hwdash.client.client.Client` that plays what it was given.

    ``snapshots`` are streamed one an ``interval_s`` (the last one stays); ``answer`` is what every prompt is told,
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
        self.answer = list(events)
        self.history = history
        self.store = list(models)
        self.interval_s = interval_s
        self.event_delay_s = event_delay_s
        self.unreachable = False
        self.failure: HwdashError | None = None
        self.requests: list[PromptRequest] = []
        self.latency_calls: list[tuple[float, str | None]] = []
        self.cancelled = 0
        self.past_metrics: tuple[MetricSeries, ...] = ()
        self.metric_calls: list[tuple[str, float, str | None]] = []
        self.past_events: tuple[Event, ...] = ()
        self.event_calls: list[tuple[float, str | None, EventKind | None, int]] = []
        self.past_uptime: UptimeHistory | None = None
        self.uptime_calls: list[tuple[float, str | None]] = []
        self.probe_result: ProbeResult | None = None
        self.probe_requests: list[ProbeRequest] = []
        self.replay_state: ReplayState | None = None
        self.replay_requests: list[ReplayRequest] = []
        self.rankings: dict[Policy, Ranking] = {}
        self.rank_calls: list[Requirements] = []
        self.soak_events: tuple[SoakEvent, ...] = ()
        self.soak_requests: list[SoakRequest] = []
        self.bench_events: tuple[BenchEvent, ...] = ()
        self.bench_requests: list[BenchRequest] = []
        self.past_benches: tuple[BenchReport, ...] = ()
        self.stopped = False
        self.watchers = 0
        self.closed = False

    async def _told(self, events: Iterable[E]) -> AsyncGenerator[E, None]:
        """*events* with a delay before each, then ``failure``; who leaves before the end is counted."""
        try:
            for event in events:
                await asyncio.sleep(self.event_delay_s)
                yield event
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure

    def _check(self) -> None:
        if self.unreachable:
            raise DaemonUnreachable("the daemon is gone")

    async def status(self) -> DaemonStatus:
        """A fixed status."""
        self._check()
        return DaemonStatus(1, "0", 1.0, self.snapshots[-1].interval_s, "/fake.sock", None, (), watchers=self.watchers)

    async def snapshot(self) -> Snapshot:
        """The last of the snapshots."""
        self._check()
        return self.snapshots[-1]

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        """That of ``rankings`` for the policy, else the last snapshot's own."""
        self._check()
        self.rank_calls.append(requirements)
        own = self.snapshots[-1].ranking
        return self.rankings.get(requirements.policy) or own or Ranking(requirements.policy, {}, (), ())

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
        async with aclosing(self._told(self.answer)) as events:
            async for event in events:
                yield event

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        """The given history, whatever is asked."""
        self._check()
        self.latency_calls.append((since_s, device))
        if self.history is None:
            now = self.snapshots[-1].taken_at
            return LatencyHistory(now, now, since_s / buckets, (), ())
        return self.history

    async def metric(self, metric: str, since_s: float, device: str | None = None, buckets: int = 120) -> MetricHistory:
        """``past_metrics``, whatever is asked."""
        self._check()
        self.metric_calls.append((metric, since_s, device))
        until = self.snapshots[-1].taken_at
        return MetricHistory(metric, until - timedelta(seconds=since_s), until, since_s / buckets, self.past_metrics)

    async def events(
        self, since_s: float, device: str | None = None, kind: EventKind | None = None, limit: int = 1000
    ) -> EventHistory:
        """Those of ``past_events`` that are asked for, whenever they were."""
        self._check()
        self.event_calls.append((since_s, device, kind, limit))
        found = [
            event
            for event in self.past_events
            if device in (None, event.device, event.key) and kind in (None, event.kind)
        ]
        until = self.snapshots[-1].taken_at
        return EventHistory(until - timedelta(seconds=since_s), until, tuple(found[-limit:]), len(found) > limit)

    async def soak(self, request: SoakRequest) -> AsyncGenerator[SoakEvent, None]:
        """``soak_events``, whatever is asked; then ``failure``."""
        self._check()
        self.soak_requests.append(request)
        async with aclosing(self._told(self.soak_events)) as events:
            async for event in events:
                yield event

    async def soaks(self, device: str | None = None, limit: int = 10) -> SoakHistory:
        """The reports in ``soak_events``."""
        self._check()
        found = [event.report for event in self.soak_events if isinstance(event, SoakFinished)]
        return SoakHistory(tuple(report for report in found if device in (None, report.device, report.device_key)))

    async def uptime(self, since_s: float, device: str | None = None) -> UptimeHistory:
        """``past_uptime``, whatever is asked; else that of a daemon that never probed."""
        self._check()
        self.uptime_calls.append((since_s, device))
        until = self.snapshots[-1].taken_at
        return self.past_uptime or UptimeHistory(until - timedelta(seconds=since_s), until, ())

    async def probe(self, request: ProbeRequest) -> ProbeResult:
        """``probe_result``, else one that was well; or ``failure``."""
        self._check()
        self.probe_requests.append(request)
        if self.failure is not None:
            raise self.failure
        snapshot, model = self.snapshots[-1], request.model or "m"
        made = ProbeResult(
            snapshot.taken_at, request.device, request.device, model, ProbeOutcome.OK, 0.02, 0.01, 0.2, 16
        )
        return self.probe_result or made

    async def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        """``bench_events``, whatever is asked; then ``failure``."""
        self._check()
        self.bench_requests.append(request)
        async with aclosing(self._told(self.bench_events)) as events:
            async for event in events:
                yield event

    async def benches(self, device: str | None = None, model: str | None = None, limit: int = 20) -> BenchHistory:
        """Those of ``past_benches`` that are asked for."""
        self._check()
        found = [
            report
            for report in self.past_benches
            if device in (None, report.device, report.device_key) and model in (None, report.model)
        ]
        return BenchHistory(tuple(found[-limit:]))

    async def replay(self, request: ReplayRequest) -> ReplayState:
        """Remember the request; what it changes is seen in ``replay_state``."""
        self._check()
        self.replay_requests.append(request)
        state = self.replay_state
        if state is None:
            raise UsageError("nothing is replayed: the daemon watches hardware")
        here = state.position_s if request.seek_s is None else request.seek_s
        self.replay_state = replace(
            state,
            position_s=min(state.duration_s, max(0.0, here + (request.skip_s or 0.0))),
            paused=state.paused if request.paused is None else request.paused,
            speed=state.speed if request.speed is None else request.speed,
            loop=state.loop if request.loop is None else request.loop,
        )
        return self.replay_state

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
