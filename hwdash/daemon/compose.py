"""The real rooms, put together for one daemon."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hwdash.core.config import Config
from hwdash.core.paths import Paths
from hwdash.daemon.service import Identity, Service
from hwdash.engine.engine import Engine
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from hwdash.monitor.monitor import Monitor
from hwdash.sources.builtin import builtin_sources
from hwdash.sources.source import Source
from hwdash.store.store import Store


async def compose(
    config: Config,
    paths: Paths,
    identity: Identity,
    sources: Sequence[Source] | None = None,
    engine: Engine | None = None,
) -> Service:
    """A service over this machine's hardware (or *sources*) and the embedded engine (or *engine*); not yet started.

    ``HWDASH_SYSROOT`` moves what is read of ``/sys``, ``/proc`` and ``/dev``.
    """
    store = await Store.open(paths.database, config.store)
    models = ModelStore(paths.models)
    if sources is None:
        sources = builtin_sources(Path(os.environ.get("HWDASH_SYSROOT", "/")))
    if engine is None:
        engine = WorkerEngine(models, config.engine, paths.state)
    return Service(
        monitor=Monitor(sources, config.monitor.interval_s, config.monitor.deadline_s, on_change=store.add_change),
        engine=engine,
        store=store,
        models=models,
        config=config,
        identity=identity,
    )
