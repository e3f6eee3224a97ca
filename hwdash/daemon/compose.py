"""The real rooms, put together for one daemon."""

from __future__ import annotations

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.config import Config, EngineConfig
from hwdash.core.paths import Paths
from hwdash.daemon.events import EventLog
from hwdash.daemon.hardware import machine_sources
from hwdash.daemon.parts import Parts
from hwdash.daemon.replay import ASKED_EVERY_TICK, Replay
from hwdash.daemon.service import Identity, Service
from hwdash.engine.fleet import FleetEngine
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from hwdash.monitor.monitor import Monitor
from hwdash.store.store import Store


async def compose(config: Config, paths: Paths, identity: Identity, parts: Parts) -> Service:
    """A service over this machine's hardware and the embedded engine, or over *parts*; not yet started.

    Raises `UsageError` when ``HWDASH_SYSROOT`` is no directory, `RecordingError` for a recording that is none.
    """
    replay = None if parts.playback is None else await Replay.open(parts.playback)
    if replay is not None:
        parts, config = replay.parts, replay.adapt(config)
    clock: Clock = SYSTEM_CLOCK if replay is None else replay.clock
    sources = machine_sources(paths, config.engine.servers) if parts.sources is None else parts.sources
    store = await Store.open(paths.database, config.store, clock)
    if replay is not None:
        replay.player.on_wind_back = store.wind_back
    events = EventLog(store.add_event)
    models = ModelStore(paths.models)
    engine = parts.engine or _workers(models, config.engine, paths, identity)
    return Service(
        monitor=Monitor(
            sources,
            config.monitor.interval_s,
            config.monitor.deadline_s,
            clock,
            on_event=events.add,
            **({} if replay is None else ASKED_EVERY_TICK),
        ),
        engine=engine,
        store=store,
        models=parts.models or models,
        config=config,
        identity=identity,
        events=events,
        clock=clock,
        player=None if replay is None else replay.player,
    )


def _workers(models: ModelStore, config: EngineConfig, paths: Paths, identity: Identity) -> FleetEngine:
    workers = WorkerEngine(models, config, paths.state)
    if config.spare and not identity.owned:  # a command waits for one answer: a spare would only take its processor
        workers.spare.keep()
    return FleetEngine(workers, config)
