"""What a device says of itself, as it goes through the monitor: faults, notices, sleep, answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hwdash.core.clock import ManualClock
from hwdash.core.event import Event, EventKind
from hwdash.core.health import SuspicionKind
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.core.sample import Fault, FaultLevel, Notice
from hwdash.core.snapshot import LastRequest
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.fake import FakeSource, fake_readings
from tests.monitor.watching import gpus, has_state, row, until, watching

KEY = "fake:gpu-0"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_what_a_sample_tells_besides_readings_is_in_the_row() -> None:
    source = FakeSource(gpus(2))
    fault = Fault("rows", "2 rows wait for a reset")
    processes = (DeviceProcess(17, name="python"),)
    source.changes[KEY] = {"processes": processes, "faults": (fault,), "clock_is_set": True}
    async with watching(source) as monitor:
        status = row(monitor.snapshots.latest, "gpu0")
        assert (status.processes, status.faults, status.clock_is_set) == (processes, (fault,), True)
        assert (status.health.state, status.health.reasons) == ("ok", (fault.words,))
        other = row(monitor.snapshots.latest, "gpu1")
        assert (other.processes, other.faults, other.clock_is_set) == (None, (), False)
        source.lost.add(KEY)
        lost = row(await until(monitor, has_state("gpu0", "lost")), "gpu0")
        assert (lost.processes, lost.faults, lost.clock_is_set) == (None, (), False)


async def test_a_failed_device_is_read_on_and_comes_back_by_itself() -> None:
    source = FakeSource(gpus(1))
    events: list[Event] = []
    async with watching(source, on_event=events.append, lost_retry_s=1000.0) as monitor:
        source.changes[KEY] = {"faults": (Fault("status", "malfunction; reset it", FaultLevel.FAILED),)}
        failed = await until(monitor, has_state("gpu0", "lost"))
        assert row(failed, "gpu0").health.reasons == ("failed: malfunction; reset it",)
        assert row(failed, "gpu0").number("utilization") == 0.5
        reads = source.reads[KEY]
        later = await until(monitor, lambda found: found.sequence >= failed.sequence + 5)
        assert source.reads[KEY] >= reads + 4
        source.changes[KEY] = {"faults": (Fault("heartbeat", "no heartbeat for 12 s", FaultLevel.STALLED),)}
        stalled = await until(monitor, has_state("gpu0", "stale"))
        assert row(stalled, "gpu0").health.reasons == ("stalled: no heartbeat for 12 s",)
        assert later.sequence < stalled.sequence
        del source.changes[KEY]
        await until(monitor, has_state("gpu0", "ok"))
    assert [event.words.partition(" after ")[0] for event in events] == [
        "found: Fake GPU 0",
        "fault: malfunction; reset it",
        "lost: failed: malfunction; reset it",
        "fault: no heartbeat for 12 s",
        "fault over",
        "stale: stalled: no heartbeat for 12 s",
        "fault over",
        "ok again",
    ]
    assert all(event.device == "gpu0" for event in events)


async def test_every_notice_is_an_event_also_one_that_a_refresh_heard() -> None:
    source = FakeSource(gpus(1))
    events: list[Event] = []
    async with watching(source, on_event=events.append, interval_s=60.0) as monitor:
        source.changes[KEY] = {"notices": (Notice("XID 31: page fault"),)}
        assert await monitor.refresh(KEY, 5.0) is not None
        source.changes[KEY] = {"notices": (Notice("XID 43: reset channel"),)}
        monitor.interval_s = 0.1
        await until(monitor, lambda found: found.sequence >= 2)
        source.changes.clear()
    told = [event.words for event in events if event.kind is EventKind.DEVICE]
    assert told[:2] == ["XID 31: page fault", "XID 43: reset channel"]


async def test_throttling_that_only_a_refresh_was_told_of_is_in_the_next_tick_and_rates_are_from_tick_to_tick() -> None:
    clock = ManualClock()
    source = FakeSource(gpus(1), clock=clock)
    source.readings[KEY] = fake_readings(power_w=Absent.NOT_SUPPORTED, energy_j=1000.0)
    source.throttle_seconds[KEY] = {ThrottleReason.POWER_CAP: 1.0}
    async with watching(source, clock=clock, interval_s=60.0) as monitor:
        clock.advance(1.0)
        source.flags[KEY] = frozenset({ThrottleReason.THERMAL_HW})
        source.throttle_seconds[KEY] = {ThrottleReason.POWER_CAP: 2.0}
        assert await monitor.refresh(KEY, 5.0) is not None
        clock.advance(3.0)
        source.flags.clear()
        source.readings[KEY] = fake_readings(power_w=Absent.NOT_SUPPORTED, energy_j=1400.0)
        monitor.interval_s = 0.1
        told = row(await until(monitor, lambda found: found.sequence >= 2), "gpu0")
        assert told.number("power_w") == 100.0
        assert {item.reason: (item.active, item.duty) for item in told.throttle} == {
            ThrottleReason.THERMAL_HW: (True, None),
            ThrottleReason.POWER_CAP: (False, 0.25),
        }
        clock.advance(1.0)
        await until(monitor, lambda found: not row(found, "gpu0").limiting)


async def test_a_sleeping_card_is_well_and_not_stale() -> None:
    source = FakeSource(gpus(1))
    async with watching(source) as monitor:
        source.readings[KEY] = dict.fromkeys(fake_readings(), Absent.SUSPENDED)
        asleep = await until(monitor, lambda found: row(found, "gpu0").health.reasons == ("asleep",))
        assert row(asleep, "gpu0").health.state == "ok"
        del source.readings[KEY]
        await until(monitor, lambda found: row(found, "gpu0").health.reasons == ())


async def test_answers_that_become_slower_make_the_device_suspected() -> None:
    clock = ManualClock()
    source = FakeSource(gpus(1), clock=clock)
    async with watching(source, clock=clock) as monitor:
        for number, gap_s in enumerate([0.008] * 12 + [0.016] * 3):
            clock.advance(1.0)
            last = LastRequest("m", NOW + timedelta(seconds=number), 0.1, 1 / gap_s, gap_s)
            monitor.note_request(KEY, last)
            monitor.note_request(KEY, last)  # told again: still one answer
        found = await until(monitor, has_state("gpu0", "throttled"))
        health = row(found, "gpu0").health
        assert (health.suspected, health.suspicions) == (True, (SuspicionKind.ANSWERS,))
        assert health.reasons == ("suspected: 16.0 ms a token of m, usually 8.00 ms",)
        assert row(found, "gpu0").last_request == last
