"""The workers of one device among each other: who goes when another needs the memory, and who does not go at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from hwdash.core.errors import DeviceFull, EngineError
from hwdash.engine.life import Life

_GOING_S = 5.0
"""How long a process that was killed may take to give its memory back before it is taken for stuck."""


class Tenant(Protocol):
    """A place whose worker can be ended while nobody needs it."""

    @property
    def model(self) -> str:
        """What it serves."""
        ...

    @property
    def idle_since(self) -> float | None:
        """Since when (``CLOCK_MONOTONIC``) its loaded model is not used; None while it is, or where none is loaded."""
        ...

    async def unload(self) -> None:
        """End the worker. Whoever comes meanwhile gets another one."""
        ...


class Room:
    """One device's memory. *tenants* gives all places whose workers may lie in it."""

    def __init__(self, tenants: Callable[[], Iterable[Tenant]]) -> None:
        self._tenants = tenants
        self._stuck: list[Life] = []
        self._leaving = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._loading = asyncio.Lock()

    async def take(self, load: Callable[[bool], Awaitable[None]], tell: Callable[[str], None]) -> None:
        """Have *load* load a model; where the device is full, end idle workers, the longest idle first, and try again.

        *load* is told whether it may fall back to a smaller precision: not while a worker could still make room.
        *tell* gets a sentence for those who wait. Raises what *load* raises, and
        `EngineError` where a worker that was killed does not go.
        """
        while True:
            await self._quiet.wait()  # the memory of a worker is free when it is gone, and not before
            await self._check()
            last = self._longest_idle() is None
            try:
                async with self._loading:  # two that look at the same free memory would both take it
                    await load(last)
            except DeviceFull:
                tenant = self._longest_idle()
                if tenant is not None:
                    tell(f"unloading {tenant.model} to make room")
                    await tenant.unload()
                elif last:
                    raise
            else:
                return

    async def part(self, life: Life, *, at_once: bool = False) -> None:
        """End *life*, killing it *at_once* or after a moment. What does not go even then is remembered."""
        self._leaving += 1
        self._quiet.clear()
        try:
            await life.end(at_once=at_once)
        finally:
            self._leaving -= 1
            if not self._leaving:
                self._quiet.set()
            if life.alive:
                self._stuck.append(life)

    async def _check(self) -> None:
        """Raise `EngineError` while a worker that was killed is still there: whatever comes next would hang like it."""
        for life in self._stuck:
            if not await life.gone(_GOING_S):
                raise EngineError(
                    f"{life.device}: process {life.pid}, a worker for {life.model}, was killed and does not end, since "
                    "the driver holds it; no other is started there before it is gone: reset the device or restart the "
                    "machine"
                )
        self._stuck = [life for life in self._stuck if life.alive]

    def _longest_idle(self) -> Tenant | None:
        idle = [(since, tenant) for tenant in self._tenants() if (since := tenant.idle_since) is not None]
        return min(idle, key=lambda item: item[0])[1] if idle else None
