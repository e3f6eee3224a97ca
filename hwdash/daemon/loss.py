"""Nobody waits for a device that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from hwdash.core.device import Device
from hwdash.core.errors import EngineError, UnknownDevice
from hwdash.core.health import HealthState
from hwdash.core.snapshot import Snapshot
from hwdash.monitor.broadcast import Broadcast

T = TypeVar("T")


class DeviceLost(EngineError):
    """The device was lost under a request: nothing more is held against it for that."""


class DeviceLeft(EngineError):
    """A request gave the device up before it was its turn there."""


class LossWatch:
    """Cuts short what waits for *device* once a snapshot says that the device is lost, until it is closed."""

    def __init__(self, snapshots: Broadcast[Snapshot], device: Device) -> None:
        self._device = device
        self._lost: asyncio.Task[None] | None = asyncio.create_task(_until_lost(snapshots, device.key))

    async def next(self, events: AsyncGenerator[T, None]) -> T | None:
        """The next of *events*, None at their end. Raises what they raise, and `DeviceLost` when the device is lost."""
        return await (anext(events, None) if self._lost is None else self.wait(_next(events)))

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives. Raises what it raises, and `DeviceLost` when the device is lost before."""
        if self._lost is None:
            return await work
        task = asyncio.create_task(work)
        # Whoever waits here may be cancelled in the moment in which the work fails: nobody asks for its error then.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait({task, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise DeviceLost(f"{self._device.id} was lost before its first token; see `hwdash devices`")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def close(self) -> None:
        """Do not look any more: what is awaited from now on is not cut short."""
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None


async def _next(events: AsyncGenerator[T, None]) -> T | None:
    return await anext(events, None)


async def _until_lost(snapshots: Broadcast[Snapshot], key: str) -> None:
    async for snapshot in snapshots.subscribe():
        try:
            if snapshot.find(key).health.state is HealthState.LOST:
                return
        except UnknownDevice:
            return
    await asyncio.Event().wait()
