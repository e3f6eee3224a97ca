"""One value for many listeners: each gets the newest, nobody gets a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Broadcast(Generic[T]):
    """The newest value of something, told to all who listen. Belongs to one event loop.

    A subscriber that is slower than the publisher misses values; it never holds more than one, the newest.
    """

    def __init__(self) -> None:
        self._latest: T | None = None
        self._version = 0
        self._closed = False
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def latest(self) -> T | None:
        """The newest value, None before the first one."""
        return self._latest

    @property
    def waiting(self) -> int:
        """How many subscribers wait for the next value right now."""
        return len(self._waiters)

    def publish(self, value: T) -> None:
        """Make *value* the newest one and wake every subscriber. Without effect after `close`."""
        if self._closed:
            return
        self._latest = value
        self._version += 1
        self._wake()

    def close(self) -> None:
        """End all subscriptions, those to come as well; a value that was not seen yet is still delivered."""
        self._closed = True
        self._wake()

    async def subscribe(self) -> AsyncGenerator[T]:
        """The newest value at once where there is one, then each newer one, until `close`."""
        seen = 0
        while True:
            if self._version != seen and self._latest is not None:
                seen = self._version
                yield self._latest
            elif self._closed:
                return
            else:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
