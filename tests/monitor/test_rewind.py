"""A clock that stands still, jumps, or runs at another speed: what replays ask of the monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.monitor.watching import following, gpus, ids, row, state, until, watching

KEY = "fake:gpu-0"


class StillSource(FakeSource):
    """Gives the same sample until the clock has moved, as the source of a recording does."""

    def __init__(self, devices: Sequence[Device], clock: ManualClock) -> None:
        super().__init__(devices, per_device=False, clock=clock)
        self._given: dict[str, Sample] = {}

    def read(self, key: str, fresh: bool = False) -> Sample:
        """The sample of *key* at the time of the clock."""
        known = self._given.get(key)
        if known is None or known.monotonic_s != self._clock.monotonic():
            known = self._given[key] = super().read(key, fresh)
        return known


async def test_while_the_clock_stands_nothing_ages_counts_or_changes() -> None:
    clock = ManualClock()
    source = StillSource(gpus(1), clock)
    source.flags[KEY] = frozenset({ThrottleReason.POWER_CAP})
    events: list[Event] = []
    async with watching(source, clock=clock, on_event=events.append) as monitor:
        clock.advance(1.0)
        throttled = await until(
            monitor, lambda found: row(found, "gpu0").health.reasons[0].startswith("power cap for 1 s")
        )
        for snapshot in await following(monitor, 12):
            assert row(snapshot, "gpu0").health == row(throttled, "gpu0").health
            assert row(snapshot, "gpu0").age_s == 0
            assert snapshot.taken_at == clock.now()
    assert len(events) == 1


async def test_rewind_catches_up_in_silence_and_keeps_the_ids() -> None:
    clock = ManualClock()
    source = StillSource([fake_gpu(0), fake_gpu(1)], clock)
    events: list[Event] = []
    async with watching(source, clock=clock, on_event=events.append, interval_s=60.0) as monitor:
        before = monitor.snapshots.latest
        assert before is not None
        assert ids(before) == ["gpu0", "gpu1"]
        source.flags[KEY] = frozenset({ThrottleReason.POWER_CAP})
        source.devices.reverse()
        frames = iter(range(30))

        def catch_up() -> bool:
            clock.advance(1.0)
            return next(frames, None) is not None

        await monitor.rewind(catch_up)
        after = monitor.snapshots.latest
        assert after is not None
        assert after.sequence == before.sequence + 1
        assert ids(after) == ["gpu0", "gpu1"]
        assert row(after, "gpu0").device.key == KEY
        assert row(after, "gpu0").health.reasons == ("power cap for 30 s: clock 1755 of 1980 MHz",)
        assert state(after, "gpu1") == "ok"
    assert [event.words for event in events] == ["found: Fake GPU 0", "found: Fake GPU 1"]


async def test_rewind_to_before_a_device_was_there_hides_it() -> None:
    clock = ManualClock()
    source = StillSource(gpus(2), clock)
    async with watching(source, clock=clock, interval_s=60.0) as monitor:
        gone = source.devices.pop(0)
        await monitor.rewind()
        hidden = monitor.snapshots.latest
        assert hidden is not None
        assert ids(hidden) == ["gpu1"]
        source.devices.insert(0, gone)
        clock.advance(20.0)
        await monitor.rewind()
        shown = monitor.snapshots.latest
        assert shown is not None
        assert ids(shown) == ["gpu0", "gpu1"]
        assert row(shown, "gpu0").device.key == KEY


async def test_rewind_before_the_start_does_nothing() -> None:
    async with watching(FakeSource(gpus(1))) as monitor:
        await monitor.stop()
        await monitor.rewind(lambda: True)


async def test_the_pace_changes_the_rhythm_and_not_the_interval_that_is_told() -> None:
    async with watching(FakeSource(gpus(1)), interval_s=60.0) as monitor:
        monitor.pace = 1000.0
        snapshots = await following(monitor, 4)
        assert {snapshot.interval_s for snapshot in snapshots} == {60.0}
        assert monitor.pace == 1000.0
        monitor.pace = 0.5
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="pace"):
                monitor.pace = value


async def test_at_any_pace_there_is_a_pause_between_ticks() -> None:
    async with watching(FakeSource(gpus(1)), interval_s=0.1) as monitor:
        monitor.pace = 1e6
        began = asyncio.get_running_loop().time()
        await following(monitor, 6)
        assert asyncio.get_running_loop().time() - began >= 0.06


async def test_an_answer_that_was_asked_for_before_the_jump_is_not_of_the_new_time() -> None:
    clock = ManualClock()
    source = FakeSource(gpus(2), clock=clock)
    async with watching(source, clock=clock, interval_s=60.0, deadline_s=0.2) as monitor:
        source.readings[KEY] = fake_readings(power_w=111.0)
        source.hanging.add(KEY)
        asked = asyncio.create_task(monitor.refresh(KEY, 30.0))
        await wait_for(lambda: source.reads[KEY] >= 2)
        monitor.interval_s = 0.1  # the hanging device is not asked again; its read is of the old time
        jump = asyncio.create_task(monitor.rewind())
        snapshot = await until(monitor, lambda found: row(found, "gpu0").sampled_at is None)
        assert row(snapshot, "gpu0").number("power_w") is None
        monitor.interval_s = 60.0
        del source.readings[KEY]
        source.release()
        await jump
        await asked
        monitor.interval_s = 0.1
        back = await until(monitor, lambda found: row(found, "gpu0").sampled_at is not None)
        assert row(back, "gpu0").number("power_w") == 350.0


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)
