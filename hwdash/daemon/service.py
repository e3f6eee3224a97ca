"""The daemon without its transport: monitor, engine, store and models put together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hwdash import __version__
from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.config import Config
from hwdash.core.errors import HwdashError, ModelError, UnknownDevice, UnknownModel, UsageError
from hwdash.core.event import AlertAction, EventKind, Severity
from hwdash.core.group import group_names
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import AUTO, PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.probe import UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements
from hwdash.core.server import unbound_servers
from hwdash.core.snapshot import Snapshot
from hwdash.core.status import DaemonStatus
from hwdash.daemon.alert import AlertBook
from hwdash.daemon.bench import Bencher
from hwdash.daemon.dispatch import Dispatcher, Follower, Observer
from hwdash.daemon.events import RECENT_S, EventLog
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.parts import Models, Player
from hwdash.daemon.probe import Prober
from hwdash.daemon.recall import Recall
from hwdash.daemon.soak import Soaker
from hwdash.daemon.trial import Trier
from hwdash.daemon.webhook import Webhook
from hwdash.engine.catalogue import CATALOGUE
from hwdash.monitor.broadcast import Broadcast
from hwdash.routing.rank import rank
from hwdash.routing.settle import settle

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

T = TypeVar("T")

log = logging.getLogger(__name__)

_FIRST_SNAPSHOT_S = 15.0
_RECALLED_S = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """How the daemon was started. ``problem`` is a sentence about a degraded start, or empty."""

    socket: str
    owned: bool = False
    problem: str = ""


class Service:
    """Everything that a client can ask for. ``snapshots`` carries ranked snapshots; ``stopping`` ends all streams.

    ``watchers`` counts the clients that are sent every snapshot; whoever sends them keeps it. ``listen`` is the TCP
    address that the daemon listens at, set by whoever opens it. ``observers`` are called with the record of every
    attempt that had a place on a device, after it was stored: more than once for a request that another device takes
    over, and not at all for one that was refused before it had a place anywhere. ``followers`` are called with the key of the device and the model of
    every attempt; what each gives is called with the attempt's tokens.

    ``failure`` is done, with its exception, when a background task has crashed. *events* is what the monitor tells;
    alerts are added to it here. While a *player* plays a recording, no alert leaves the machine.
    """

    def __init__(
        self,
        monitor: Monitor,
        engine: Engine,
        store: Store,
        models: Models,
        config: Config,
        identity: Identity,
        events: EventLog,
        clock: Clock = SYSTEM_CLOCK,
        player: Player | None = None,
    ) -> None:
        self.snapshots: Broadcast[Snapshot] = Broadcast()
        self.stopping = asyncio.Event()
        self.watchers = 0
        self.listen: str | None = None
        self.observers: list[Observer] = []
        self.followers: list[Follower] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._monitor = monitor
        self._engine = engine
        self._store = store
        self._models = models
        self._config = config
        self._identity = identity
        self._events = events
        self._clock = clock
        self._player = player
        self._alerts = AlertBook(config.alerts.rules)
        webhook = config.alerts.webhook if player is None else None
        self._webhook = None if webhook is None else Webhook(webhook, clock)
        self._started = SYSTEM_CLOCK.monotonic()
        self._prewarm_problems: list[str] = []
        self.ledger = Ledger(engine, config.engine.max_concurrent, events.add, clock)
        self._dispatcher = Dispatcher(
            engine, store, monitor, self.snapshots, self.ledger, self.snapshot, self.observers, self.followers,
            self.stopping, config.engine.max_queue, clock,
        )  # fmt: skip
        self.bencher = Bencher(engine, store, monitor, self.snapshots, self.ledger, self.rank, self.snapshot, clock)
        self.soaker = Soaker(
            engine, store, models, monitor, self.snapshots, self.ledger, self.snapshot, config.engine.model, clock
        )
        self.prober = Prober(
            engine, store, monitor, models, self.snapshots, self.ledger,
            self._dispatcher.best, config, events.add, clock,
        )  # fmt: skip
        self.trier = Trier(engine, store, monitor, self.ledger, self.prober.pairs, events.add, clock)
        self._recall = Recall()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def default_model(self) -> str:
        """The model of a prompt that names none."""
        return self._config.engine.model

    async def start(self) -> None:
        """Start watching; returns at once. The first snapshot comes when all devices were read, or their deadline passed."""
        if self._player is not None:
            self._player.on_jump = self._alerts.forget
            self._player.attach(self._monitor)
        await self._monitor.start()
        self._keep(self._background, self._publish()).add_done_callback(self._crashed)
        self._keep(self._background, self._prepare()).add_done_callback(self._crashed)
        if self._player is None:
            self._keep(self._background, self.prober.run()).add_done_callback(self._crashed)
            self._keep(self._background, self.trier.run()).add_done_callback(self._crashed)
        self._keep(self._background, self._dispatcher.watch()).add_done_callback(self._crashed)

    async def close(self) -> None:
        """End everything, the store last, so that the records of broken-off requests are in it."""
        self.stopping.set()
        for task in self._background:
            task.cancel()
        if self._player is not None:
            await self._player.close()
        await self.prober.close()
        await asyncio.gather(self._engine.close(), self._monitor.stop(), return_exceptions=True)
        if self._webhook is not None:
            await self._webhook.close()
        await self._dispatcher.close()
        await self.soaker.close()
        await self.bencher.close()
        await self._store.close()

    async def snapshot(self) -> Snapshot:
        """The newest ranked snapshot. Waits for the first one; raises `HwdashError` when it does not come."""
        if (latest := self.snapshots.latest) is not None:
            return latest
        try:
            async with asyncio.timeout(_FIRST_SNAPSHOT_S), aclosing(self.snapshots.subscribe()) as snapshots:
                return await anext(snapshots)
        except (TimeoutError, StopAsyncIteration):
            raise HwdashError("no sample yet: the devices do not answer; see `hwdash status` and the log") from None

    def status(self) -> DaemonStatus:
        """The daemon's own state, with a sentence for everything that is degraded."""
        latest = self.snapshots.latest
        problems = [
            f"{source.name}: {source.problem}" for source in (latest.sources if latest else ()) if source.problem
        ]
        problems += [*self._store.problems, *self._prewarm_problems, *self.prober.problems]
        problems += self._webhook.problems if self._webhook is not None else ()
        if latest is not None and self._player is None:
            problems += unbound_servers(self._config.engine.servers, (status.device for status in latest.devices))
        if self._identity.problem:
            problems.append(self._identity.problem)
        return DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            uptime_s=SYSTEM_CLOCK.monotonic() - self._started,
            interval_s=self._monitor.interval_s,
            socket=self._identity.socket,
            listen=self.listen,
            workers=tuple(self._engine.workers()),
            owned=self._identity.owned,
            default_model=self.default_model,
            problems=tuple(problems),
            watchers=self.watchers,
            admission=() if latest is None else self.ledger.admission(latest),
        )

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        """The devices in order under *requirements*, and the excluded ones with their reasons.

        Where they name no model, the default one counts if a prompt for it could be answered; the ranking says so.
        The order is settled: it keeps to what was told last under the same requirements, if that is not long ago.
        Raises `UnknownModel` for a model that is neither on this machine, nor in the catalogue, nor served, and
        `ModelError` for one that is damaged.
        """
        snapshot = await self.snapshot()
        model = requirements.model or self.default_model
        shape = await self.ledger.shapes.find(model)
        try:
            if shape is None:
                await self._find(model)
            requirements = replace(requirements, model=model)
        except (UnknownModel, ModelError):
            if requirements.model is not None:
                raise
        ranking = rank(snapshot, requirements, self.ledger.knowledge(model, snapshot, shape))
        now_s = self._clock.monotonic()
        if replace(requirements, model=None) == NO_REQUIREMENTS and model == self.default_model:
            before = snapshot.ranking
        else:
            before = self._recall.last(requirements, now_s - max(_RECALLED_S, 3.0 * snapshot.interval_s))
        ranking = settle(ranking, before)
        self._recall.keep(requirements, ranking, now_s)
        return ranking

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request* on the device that it names or that suits it best: stages, tokens, one `FinishedEvent`.

        Once it had a place on a device, the record of what became of it there is in the store before the end is told,
        unless the store does not answer. What is refused before has no record. Closing the generator cancels the work.
        Raises `UnknownDevice`, `UnknownModel`, `ModelError`, `NoSuitableDevice`, `Overloaded`, `EngineError`.
        """
        async with aclosing(self._dispatcher.prompt(request)) as events:
            async for event in events:
                yield event

    async def latency(self, since_s: float, device: str | None, buckets: int) -> LatencyHistory:
        """Latency of the last *since_s* seconds, of the device with that id or key or of all.

        Raises `UnknownDevice` when neither the machine nor history knows it.
        """
        return await self._store.latency(since_s, await self.key_of(device), buckets, self._ids())

    async def metric(self, metric: str, since_s: float, device: str | None, buckets: int) -> MetricHistory:
        """*metric* over the last *since_s* seconds, of the device with that id or key or of all.

        Raises `UsageError` for an unknown metric, and `UnknownDevice` as `latency` does.
        """
        return await self._store.metric(metric, since_s, await self.key_of(device), buckets, self._ids())

    async def events(
        self,
        since_s: float,
        device: str | None,
        kind: EventKind | None,
        limit: int,
        least: Severity = Severity.INFO,
    ) -> EventHistory:
        """The newest *limit* events of the last *since_s* seconds, of a device (id or key) or all, of a *kind* or all.

        Only those of the severity *least* or worse. Raises `UnknownDevice` as `latency` does.
        """
        return await self._store.events(since_s, await self.key_of(device), kind, limit, self._ids(), least)

    async def uptime(self, since_s: float, device: str | None) -> UptimeHistory:
        """How the devices stood their probes, of one (id or key) or of all. Raises `UnknownDevice` as `latency` does."""
        return await self.prober.uptime(since_s, await self.key_of(device), self._ids())

    def replay(self, request: ReplayRequest) -> ReplayState:
        """Steer the recording that is played. Raises `UsageError` when there is none, and for what cannot be."""
        if self._player is None:
            raise UsageError("nothing is replayed: this daemon watches hardware; play one with: hwdash --replay FILE")
        return self._player.apply(request)

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models of the store."""
        return await asyncio.to_thread(self._models.list)

    async def model_names(self) -> tuple[str, ...]:
        """The models that can be asked without fetching one first: the store's ready ones, and those of servers."""
        ready = [model.name for model in await self.models() if model.ready]
        return tuple(dict.fromkeys([*ready, *self._engine.served()]))

    def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch and convert *model*. Raises `UnknownModel` and `ModelError`."""
        return self._models.pull(model)

    async def remove_model(self, model: str) -> None:
        """Delete *model* from the store. Raises `UnknownModel`."""
        await asyncio.to_thread(self._models.remove, model)

    def _ids(self) -> dict[str, str]:
        """Today's short id of each device by its key."""
        latest = self.snapshots.latest
        return {status.device.key: status.device.id for status in (latest.devices if latest else ())}

    async def _find(self, model: str) -> None:
        """Raise `UnknownModel` or `ModelError` where no prompt for *model* could be answered."""
        if model not in CATALOGUE and model not in self._engine.served():
            await asyncio.to_thread(self._models.resolve, model)

    async def key_of(self, device: str | None) -> str | None:
        """The key of the device with that id or key, also of one that only history knows. Raises `UnknownDevice`."""
        if device is None:
            return None
        try:
            return (
                (await self.snapshot()).find(device).device.key
                if group_names(device)
                else self._monitor.device(device).key
            )
        except UnknownDevice:
            if device in await self._store.device_keys():
                return device
            raise

    async def _publish(self) -> None:
        if self._player is None:
            await self.trier.seed()  # whoever chooses a device knows what is known of its precisions
        async for snapshot in self._monitor.snapshots.subscribe():
            before = self.snapshots.latest.ranking if self.snapshots.latest else None
            if self._player is None or not self._player.travelling:
                self._raise_alerts(snapshot)
            if self._player is not None:
                snapshot = self._player.follow(snapshot)
            # At a slow interval the last ten seconds could be over before a client gets the next snapshot.
            recent = self._events.publish(max(RECENT_S, 2.0 * snapshot.interval_s))
            self.ledger.review(snapshot)
            model = self.default_model
            shape = self.ledger.shapes.at_hand(model)
            counted = NO_REQUIREMENTS if shape is None else Requirements(model=model)
            ranking = settle(rank(snapshot, counted, self.ledger.knowledge(model, snapshot, shape)), before)
            ranked = replace(snapshot, ranking=ranking, events=recent)
            self.snapshots.publish(ranked)
            self._store.add_snapshot(ranked)

    def _raise_alerts(self, snapshot: Snapshot) -> None:
        for found in self._alerts.advance(snapshot, self._clock.monotonic()):
            event = self._events.number(found)
            if self._webhook is not None and AlertAction.WEBHOOK in event.actions:
                self._webhook.offer(event)

    async def _prepare(self) -> None:
        """Once devices are known: give them their last requests back, and load what the configuration asks for."""
        async with aclosing(self.snapshots.subscribe()) as snapshots:
            await anext(snapshots)
        try:
            for key, last in (await self._store.last_requests()).items():
                self._monitor.note_request(key, last)
            self.ledger.seed(await self._store.recent_answers())
        except HwdashError as error:
            log.warning("earlier requests are not known: %s", error.message)
        for wish in self._config.engine.prewarm:
            model, _, device = wish.partition("@")
            try:
                await self._dispatcher.prewarm(model, device or AUTO)
            except HwdashError as error:
                log.warning("prewarm %s: %s", wish, error.message)
                self._prewarm_problems.append(f"prewarm {wish}: {error.message}")

    def _keep(self, tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task for *work* that is held in *tasks* until it is done: the event loop alone would let it be collected."""
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _crashed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failure.done():
            self.failure.set_exception(error)
