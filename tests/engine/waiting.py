"""Waiting for what an engine does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from hwdash.core.inference import EngineEvent, TokenEvent


async def first_token(events: AsyncGenerator[EngineEvent, None]) -> TokenEvent:
    """The first token of an answer; what comes before it is dropped."""
    async for event in events:
        if isinstance(event, TokenEvent):
            return event
    raise AssertionError("no token came")


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds, or fail after a while."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
