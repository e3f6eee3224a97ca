"""What the monitor publishes, and when, while all is well."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import DeviceKind
from hwdash.core.errors import UnknownDevice, UsageError
from hwdash.core.event import Event
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.snapshot import LastRequest
from hwdash.core.throttle import ThrottleReason
from hwdash.monitor.monitor import Monitor, next_tick
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.monitor.watching import following, gpus, has_state, ids, row, state, until, watching

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def host(**changes: object) -> FakeSource:
    cpu = fake_gpu(key="fake:cpu", kind=DeviceKind.CPU, pci=None, source="host", visible_as=None)
    return FakeSource([cpu], name="host", per_device=False)


async def test_the_first_snapshot_holds_every_device_with_its_readings() -> None:
    async with watching(host(), FakeSource(gpus(3))) as monitor:
        snapshot = monitor.snapshots.latest
        assert snapshot is not None
        assert snapshot.sequence == 1
        assert ids(snapshot) == ["gpu0", "gpu1", "gpu2", "cpu0"]
        for status in snapshot.devices:
            assert status.health.state is HealthState.OK
            assert status.number("utilization") == 0.5
            assert status.pools
            assert status.age_s is not None
            assert status.age_s < 5
        assert [(source.name, source.devices, source.problem) for source in snapshot.sources] == [
            ("host", 1, ""),
            ("fake", 3, ""),
        ]
        assert all(source.poll_s is not None and source.poll_s >= 0 for source in snapshot.sources)


async def test_ids_follow_the_pci_order() -> None:
    devices = [fake_gpu(0, pci="00000000:c1:00.0"), fake_gpu(1, pci="00000000:03:00.0"), fake_gpu(2, pci=None)]
    async with watching(FakeSource(devices)) as monitor:
        assert monitor.device("gpu0").key == "fake:gpu-1"
        assert monitor.device("gpu1").key == "fake:gpu-0"
        assert monitor.device("gpu2").key == "fake:gpu-2"


async def test_a_device_is_found_by_id_key_and_what_a_worker_sees() -> None:
    async with watching(FakeSource(gpus(2)), host()) as monitor:
        assert monitor.device("gpu1") == monitor.device("fake:gpu-1") == monitor.device("GPU-fake-1")
        with pytest.raises(UnknownDevice, match="gpu0, gpu1, cpu0"):
            monitor.device("gpu2")
        with pytest.raises(UnknownDevice):
            monitor.device("")


async def test_every_tick_reads_every_device_once() -> None:
    source = FakeSource(gpus(2))
    async with watching(source) as monitor:
        snapshots = await following(monitor, 6)
        assert [snapshot.sequence for snapshot in snapshots] == list(range(1, 7))
        assert abs(source.reads["fake:gpu-0"] - snapshots[-1].sequence) <= 1
        assert abs(source.reads["fake:gpu-1"] - snapshots[-1].sequence) <= 1


async def test_rates_are_derived_between_samples() -> None:
    def readings(count: int) -> dict[str, float | Absent]:
        return {**fake_readings(power_w=Absent.NOT_SUPPORTED), "energy_j": 1000.0 + 10.0 * count}

    async with watching(FakeSource(gpus(1), {"fake:gpu-0": readings})) as monitor:
        assert row(monitor.snapshots.latest, "gpu0").readings["power_w"] is Absent.FIRST_SAMPLE
        snapshot = await until(monitor, lambda found: found.sequence >= 2)
        power = row(snapshot, "gpu0").number("power_w")
        assert power is not None
        assert power > 0


async def test_throttling_is_shown_and_told_as_a_change() -> None:
    changes: list[Event] = []
    source = FakeSource(gpus(1))
    async with watching(source, on_event=changes.append) as monitor:
        source.flags["fake:gpu-0"] = frozenset({ThrottleReason.POWER_CAP})
        snapshot = await until(monitor, has_state("gpu0", "throttled"))
        status = row(snapshot, "gpu0")
        assert [activity.reason for activity in status.throttle] == [ThrottleReason.POWER_CAP]
        assert status.health.reasons == ("power cap: clock 1755 of 1980 MHz",)
        await until(monitor, lambda found: found.sequence > snapshot.sequence)
    assert [(change.key, change.before, change.after) for change in changes] == [
        ("fake:gpu-0", None, HealthState.OK),
        ("fake:gpu-0", HealthState.OK, HealthState.THROTTLED),
    ]
    assert changes[1].throttle == ("power_cap",)


async def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(change: Event) -> None:
        raise ValueError(change.key)

    async with watching(FakeSource(gpus(1)), on_event=fail) as monitor:
        await until(monitor, lambda found: found.sequence >= 3)
    assert "the listener to events failed" in caplog.text


async def test_the_last_request_is_shown_also_when_it_was_noted_first() -> None:
    last = LastRequest("m", NOW, 0.04, 42.0)
    monitor = Monitor([FakeSource(gpus(2))], 0.05)
    monitor.note_request("fake:gpu-1", last)
    await monitor.start()
    await monitor.ready()
    assert row(monitor.snapshots.latest, "gpu1").last_request == last
    assert row(monitor.snapshots.latest, "gpu0").last_request is None
    monitor.note_request("fake:gpu-0", last)
    await until(monitor, lambda found: row(found, "gpu0").last_request == last)
    await monitor.stop()


@pytest.mark.parametrize("per_device", [True, False])
async def test_refresh_reads_now(per_device: bool) -> None:
    source = FakeSource(gpus(2), per_device=per_device)
    async with watching(source, interval_s=60.0) as monitor:
        before = source.reads["fake:gpu-1"]
        samples = await asyncio.gather(*(monitor.refresh("fake:gpu-1", 5.0) for _ in range(3)))
        assert all(isinstance(sample, Sample) and sample.key == "fake:gpu-1" for sample in samples)
        assert before < source.reads["fake:gpu-1"] <= before + 2
        assert source.reads["fake:gpu-0"] == before
        assert await monitor.refresh("fake:gpu-9") is None


async def test_a_refresh_does_not_cost_the_device_its_tick() -> None:
    source = FakeSource(gpus(1))
    async with watching(source, interval_s=0.1) as monitor:
        stop = asyncio.Event()

        async def hammer() -> None:
            while not stop.is_set():
                await monitor.refresh("fake:gpu-0", 1.0)

        task = asyncio.create_task(hammer())
        for snapshot in await following(monitor, 5):
            assert state(snapshot, "gpu0") == "ok"
        stop.set()
        await task


async def test_a_new_interval_counts_at_once() -> None:
    async with watching(FakeSource(gpus(1)), interval_s=60.0) as monitor:
        assert monitor.interval_s == 60.0
        monitor.interval_s = 0.1
        snapshot = await until(monitor, lambda found: found.sequence >= 3)
        assert snapshot.interval_s == 0.1
        for value in (0.0, 0.09, 61.0, math.nan):
            with pytest.raises(UsageError, match=r"between 0\.1 and 60"):
                monitor.interval_s = value


async def test_stop_ends_subscriptions_threads_and_sources() -> None:
    source = FakeSource(gpus(2))
    monitor = Monitor([source], 0.05)
    others = set(threading.enumerate())
    await monitor.stop()
    await monitor.start()
    await monitor.ready()
    listener = asyncio.create_task(until(monitor, lambda _: False))
    await asyncio.sleep(0)
    threads = set(threading.enumerate()) - others
    assert len(threads) == 3
    await monitor.stop()
    with pytest.raises(AssertionError, match="stopped"):
        await listener
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
    assert source.closed
    await monitor.stop()
    assert await monitor.refresh("fake:gpu-0") is None


async def test_stop_before_the_first_snapshot_ends_ready() -> None:
    source = FakeSource(gpus(1))
    source.hanging.add("fake:gpu-0")
    monitor = Monitor([source], 1.0, 60.0)
    await monitor.start()
    ready = asyncio.create_task(monitor.ready())
    async with asyncio.timeout(20):
        while not (monitor.snapshots.waiting and source.reads):
            await asyncio.sleep(0.001)
    await monitor.stop()
    await asyncio.wait_for(ready, 1)
    assert monitor.snapshots.latest is None
    source.release()


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0.05, 60))
def test_the_schedule_does_not_drift_and_does_not_burst(due: float, late: float, interval: float) -> None:
    now = due + late
    following_due = next_tick(due, now, interval)
    steps = (following_due - due) / interval
    assert abs(steps - round(steps)) < 1e-3
    assert round(steps) >= 1
    assert now - 1e-6 <= following_due <= now + interval + 1e-6
