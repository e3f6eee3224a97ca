"""Newest wins, the latest comes first, nobody is left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from hwdash.monitor.broadcast import Broadcast


async def collect(broadcast: Broadcast[int], into: list[int]) -> None:
    async for value in broadcast.subscribe():
        into += [value]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_every_subscriber_gets_the_latest_first_then_each_new_value() -> None:
    broadcast: Broadcast[int] = Broadcast()
    assert broadcast.latest is None
    early: list[int] = []
    late: list[int] = []
    first = asyncio.create_task(collect(broadcast, early))
    await settle()
    broadcast.publish(1)
    await settle()
    second = asyncio.create_task(collect(broadcast, late))
    await settle()
    broadcast.publish(2)
    await settle()
    broadcast.close()
    await asyncio.wait_for(asyncio.gather(first, second), 1)
    assert early == [1, 2]
    assert late == [1, 2]
    assert broadcast.latest == 2


async def test_a_slow_subscriber_skips_to_the_newest() -> None:
    broadcast: Broadcast[int] = Broadcast()
    broadcast.publish(1)
    async with aclosing(broadcast.subscribe()) as values:
        assert await anext(values) == 1
        for value in range(2, 100):
            broadcast.publish(value)
        assert await anext(values) == 99
        waiting = asyncio.ensure_future(anext(values))
        await settle()
        assert not waiting.done()
        broadcast.publish(100)
        assert await waiting == 100


async def test_close_ends_who_waits_and_who_comes_later() -> None:
    broadcast: Broadcast[int] = Broadcast()
    seen: list[int] = []
    task = asyncio.create_task(collect(broadcast, seen))
    await settle()
    broadcast.close()
    await asyncio.wait_for(task, 1)
    await asyncio.wait_for(collect(broadcast, seen), 1)
    broadcast.publish(7)
    assert seen == []
    assert broadcast.latest is None


async def test_a_value_published_just_before_close_is_still_seen() -> None:
    broadcast: Broadcast[int] = Broadcast()
    seen: list[int] = []
    task = asyncio.create_task(collect(broadcast, seen))
    await settle()
    broadcast.publish(1)
    broadcast.close()
    await asyncio.wait_for(task, 1)
    assert seen == [1]


async def test_a_subscriber_that_goes_away_leaves_nothing_behind_and_harms_nobody() -> None:
    broadcast: Broadcast[int] = Broadcast()
    kept: list[int] = []
    staying = asyncio.create_task(collect(broadcast, kept))
    leaving = [asyncio.create_task(collect(broadcast, [])) for _ in range(20)]
    await settle()
    assert broadcast.waiting == 21
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert broadcast.waiting == 1
    broadcast.publish(1)
    await settle()
    assert kept == [1]
    broadcast.close()
    await staying
    assert broadcast.waiting == 0
