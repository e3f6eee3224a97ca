"""A monitor at a quick pace, and waiting for what its snapshots show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from hwdash.core.device import Device
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.monitor.monitor import Monitor
from hwdash.sources.fake import FakeSource, fake_gpu
from hwdash.sources.source import Source

INTERVAL_S = 0.05
PATIENT_S = 20.0
"""A deadline that no read of a fake misses, however busy the machine is."""
SHORT_S = 0.5
"""A deadline for tests in which a read hangs."""


def gpus(count: int) -> list[Device]:
    return [fake_gpu(number) for number in range(count)]


@asynccontextmanager
async def watching(*sources: Source, **changes: Any) -> AsyncIterator[Monitor]:
    """A started monitor that is ready and, at the end, stopped; hanging reads of fakes are released."""
    monitor = Monitor(sources, **({"interval_s": INTERVAL_S, "deadline_s": PATIENT_S} | changes))
    await monitor.start()
    try:
        await asyncio.wait_for(monitor.ready(), 30)
        yield monitor
    finally:
        await monitor.stop()
        for source in sources:
            if isinstance(source, FakeSource):
                source.release()


async def until(monitor: Monitor, condition: Callable[[Snapshot], bool], timeout_s: float = 30.0) -> Snapshot:
    """The first snapshot from now on that fulfils *condition*."""
    async with asyncio.timeout(timeout_s), aclosing(monitor.snapshots.subscribe()) as snapshots:
        async for snapshot in snapshots:
            if condition(snapshot):
                return snapshot
    raise AssertionError("the monitor stopped")


async def following(monitor: Monitor, count: int) -> Sequence[Snapshot]:
    """The next *count* snapshots."""
    found: list[Snapshot] = []
    async with asyncio.timeout(30), aclosing(monitor.snapshots.subscribe()) as snapshots:
        async for snapshot in snapshots:
            found += [snapshot]
            if len(found) == count:
                break
    return found


def state(snapshot: Snapshot, name: str) -> str:
    return snapshot.find(name).health.state.value


def has_state(name: str, wanted: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: any(
        name in (status.device.id, status.device.key) and status.health.state == wanted for status in snapshot.devices
    )


def ids(snapshot: Snapshot) -> list[str]:
    return [status.device.id for status in snapshot.devices]


def row(snapshot: Snapshot | None, name: str) -> DeviceStatus:
    assert snapshot is not None
    return snapshot.find(name)
