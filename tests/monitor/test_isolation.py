"""What one stuck, lost, broken or unplugged device does to itself, and not to the others."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Device, DeviceKind
from hwdash.core.event import Event, Severity
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.snapshot import Snapshot
from hwdash.monitor.mailbox import Letter, Mailbox
from hwdash.monitor.monitor import Monitor
from hwdash.monitor.registry import slot
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.monitor.watching import SHORT_S, gpus, has_state, ids, row, state, until, watching


class BrokenSource(FakeSource):
    """A fake whose reads raise ``failure`` while it is set, and whose discovery hangs while ``open`` is not."""

    failure: Exception | None = None

    def __init__(self, devices: Sequence[Device], *, per_device: bool = True) -> None:
        super().__init__(devices, per_device=per_device)
        self.open = threading.Event()
        self.open.set()

    def discover(self) -> Sequence[Device]:
        self.open.wait()
        return super().discover()

    def read(self, key: str, fresh: bool = False) -> Sample:
        if self.failure is not None:
            raise self.failure
        return super().read(key, fresh)


async def test_a_hanging_device_goes_stale_alone_and_comes_back_by_itself() -> None:
    changes: list[Event] = []
    source = FakeSource(gpus(3))
    async with watching(source, deadline_s=SHORT_S, on_event=changes.append) as monitor:
        source.hanging.add("fake:gpu-1")
        timed_out = await until(monitor, lambda found: row(found, "gpu1").readings["utilization"] is Absent.TIMED_OUT)
        assert row(timed_out, "gpu1").throttle == ()
        assert row(timed_out, "gpu1").pools == ()
        stale = await until(monitor, has_state("gpu1", "stale"))
        reason = row(stale, "gpu1").health.reasons[0]
        assert reason.startswith("no sample for")
        assert reason.endswith("the driver does not answer")
        before = dict(source.reads)
        later = await until(monitor, lambda found: found.sequence >= stale.sequence + 10)
        for name in ("gpu0", "gpu2"):
            assert state(later, name) == "ok"
            age = row(later, name).age_s
            assert age is not None
            assert age < SHORT_S
            key = row(later, name).device.key
            assert source.reads[key] - before[key] >= 5
        assert source.reads["fake:gpu-1"] == before["fake:gpu-1"]
        source.release()
        await until(monitor, has_state("gpu1", "ok"))
    assert [(change.key, change.after) for change in changes if change.key != "fake:gpu-0"] == [
        ("fake:gpu-1", "ok"),
        ("fake:gpu-2", "ok"),
        ("fake:gpu-1", "stale"),
        ("fake:gpu-1", "ok"),
    ]


async def test_a_device_that_hangs_from_the_start_delays_the_first_snapshot_by_its_deadline_only() -> None:
    source = FakeSource(gpus(2))
    source.hanging.add("fake:gpu-0")
    async with watching(source, deadline_s=SHORT_S) as monitor:
        first = monitor.snapshots.latest
        assert first is not None
        assert first.sequence == 1
        assert ids(first) == ["gpu0", "gpu1"]
        assert state(first, "gpu1") == "ok"
        assert row(first, "gpu0").health.reasons == ("no sample yet: the driver does not answer",)
        assert set(row(first, "gpu0").readings.values()) == {Absent.TIMED_OUT}
        assert row(first, "gpu0").sampled_at is None
        assert row(first, "gpu0").age_s is None
        source.release()
        await until(monitor, has_state("gpu0", "ok"))


@pytest.mark.parametrize("per_device", [True, False])
async def test_stop_does_not_wait_for_a_hanging_read(per_device: bool) -> None:
    source = FakeSource(gpus(2), per_device=per_device)
    async with watching(source, deadline_s=SHORT_S) as monitor:
        source.hanging.update(["fake:gpu-0", "fake:gpu-1"])
        await until(monitor, has_state("gpu0", "stale"))
        started = time.monotonic()
        await monitor.stop()
        assert time.monotonic() - started < 1.0
        assert not source.closed


async def test_a_read_that_returns_after_the_loop_is_gone_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource(gpus(1))
    gone, posted = threading.Event(), threading.Event()
    post = Mailbox.post

    def told(mailbox: Mailbox, letter: Letter, ticket: int | None) -> None:
        post(mailbox, letter, ticket)
        if gone.is_set():
            posted.set()

    monkeypatch.setattr(Mailbox, "post", told)

    def live() -> None:
        async def run() -> None:
            monitor = Monitor([source], 0.05, SHORT_S)
            await monitor.start()
            await monitor.ready()
            source.hanging.add("fake:gpu-0")
            await until(monitor, has_state("gpu0", "stale"))

        asyncio.run(run())

    await asyncio.to_thread(live)
    readers = [thread for thread in threading.enumerate() if thread.name == "hwdash-fake:gpu-0"]
    reads = source.reads["fake:gpu-0"]
    gone.set()
    source.release()
    assert await asyncio.to_thread(posted.wait, 20)
    assert source.reads["fake:gpu-0"] == reads
    assert all(thread.is_alive() for thread in readers)


async def test_refresh_of_a_hanging_or_lost_device_is_none() -> None:
    source = FakeSource(gpus(2))
    async with watching(source, deadline_s=SHORT_S) as monitor:
        source.hanging.add("fake:gpu-0")
        source.lost.add("fake:gpu-1")
        assert await monitor.refresh("fake:gpu-0", 0.05) is None
        assert await monitor.refresh("fake:gpu-1", 5.0) is None
        await until(monitor, has_state("gpu1", "lost"))
        assert await monitor.refresh("fake:gpu-1", 5.0) is None


async def test_a_lost_device_stays_as_a_row_is_asked_slowly_and_returns() -> None:
    source = FakeSource(gpus(2))
    async with watching(source, lost_retry_s=0.2) as monitor:
        source.lost.add("fake:gpu-0")
        lost = await until(monitor, has_state("gpu0", "lost"))
        status = row(lost, "gpu0")
        assert status.health.reasons == ("lost: fake:gpu-0 is gone",)
        assert set(status.readings.values()) == {Absent.DEVICE_LOST}
        assert status.pools == ()
        reads = source.reads["fake:gpu-0"]
        await until(monitor, lambda found: found.sequence >= lost.sequence + 12)
        assert source.reads["fake:gpu-0"] - reads <= 6
        source.lost.clear()
        back = await until(monitor, has_state("gpu0", "ok"))
        assert row(back, "gpu0").number("utilization") == 0.5


async def test_a_read_that_fails_is_told_as_such_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    source = BrokenSource(gpus(1))
    async with watching(source, deadline_s=SHORT_S) as monitor:
        source.failure = ValueError("bad \x1b[31mbits")
        failing = await until(monitor, lambda found: row(found, "gpu0").readings["power_w"] is Absent.ERROR)
        assert state(failing, "gpu0") == "ok"
        stale = await until(monitor, has_state("gpu0", "stale"))
        assert (
            "reading fails: ValueError: bad \N{REPLACEMENT CHARACTER}[31mbits" in row(stale, "gpu0").health.reasons[0]
        )
        source.failure = None
        await until(monitor, has_state("gpu0", "ok"))
    assert caplog.text.count("reading fake:gpu-0 failed") == 1


async def test_new_and_returned_devices_are_found_by_the_rescan() -> None:
    source = FakeSource(gpus(1))
    async with watching(source, rescan_s=0.1) as monitor:
        source.devices.append(fake_gpu(1))
        both = await until(monitor, lambda found: len(found.devices) == 2)
        assert ids(both) == ["gpu0", "gpu1"]
        assert state(both, "gpu1") == "ok"
        gone = source.devices.pop(0)
        lost = await until(monitor, has_state("gpu0", "lost"))
        assert ids(lost) == ["gpu0", "gpu1"]
        assert row(lost, "gpu0").health.reasons == ("lost: fake finds it no more",)
        assert lost.sources[0].devices == 1
        source.devices.append(gone)
        back = await until(monitor, has_state("gpu0", "ok"))
        assert row(back, "gpu0").device.key == gone.key
        assert state(back, "gpu1") == "ok"


@pytest.mark.parametrize("per_device", [True, False])
async def test_changed_facts_of_a_device_arrive_under_the_same_id(per_device: bool) -> None:
    source = FakeSource(gpus(1), per_device=per_device)
    async with watching(source, rescan_s=0.1) as monitor:
        source.devices[0] = fake_gpu(0, driver="2.0")
        await until(monitor, lambda found: row(found, "gpu0").device.driver == "2.0")
        assert monitor.device("gpu0").driver == "2.0"


async def test_an_unavailable_source_says_why_and_is_tried_again() -> None:
    source = FakeSource(gpus(1))
    source.unavailable = "the NVIDIA driver is not loaded; run modprobe nvidia"
    async with watching(source, rescan_s=0.1) as monitor:
        first = monitor.snapshots.latest
        assert first is not None
        assert first.devices == ()
        assert first.sources[0].problem == source.unavailable
        source.unavailable = None
        found = await until(monitor, lambda found: len(found.devices) == 1)
        assert found.sources[0].problem == ""
        source.unavailable = "gone again"
        kept = await until(monitor, lambda found: found.sources[0].problem == "gone again")
        assert state(kept, "gpu0") == "ok"


async def test_devices_that_a_source_leaves_out_are_its_problem() -> None:
    source = FakeSource(gpus(1))
    source.problem = "GPU 1: lost"
    async with watching(source, rescan_s=0.1) as monitor:
        first = monitor.snapshots.latest
        assert first is not None
        assert (ids(first), first.sources[0].problem) == (["gpu0"], "GPU 1: lost")
        source.problem = ""
        await until(monitor, lambda found: found.sources[0].problem == "")


async def test_a_discovery_that_hangs_is_told_and_holds_up_nobody_else() -> None:
    slow = BrokenSource(gpus(1))
    slow.open.clear()
    cpu = fake_gpu(key="fake:cpu", kind=DeviceKind.CPU, pci=None)
    async with watching(slow, FakeSource([cpu], name="host", per_device=False), deadline_s=SHORT_S) as monitor:
        stuck: Snapshot = await until(monitor, lambda found: "driver hangs" in found.sources[0].problem)
        assert stuck.sources[0].problem.startswith("no answer")
        assert ids(stuck) == ["cpu0"]
        assert state(stuck, "cpu0") == "ok"
        slow.open.set()
        found = await until(monitor, lambda found: len(found.devices) == 2)
        assert ids(found) == ["gpu0", "cpu0"]
        assert found.sources[0].problem == ""


async def test_a_shared_thread_that_hangs_in_a_rescan_makes_its_own_devices_stale() -> None:
    shared = BrokenSource(gpus(2), per_device=False)
    cpu = fake_gpu(key="fake:cpu", kind=DeviceKind.CPU, pci=None)
    async with watching(shared, FakeSource([cpu], name="host"), deadline_s=SHORT_S, rescan_s=0.1) as monitor:
        shared.open.clear()
        stale = await until(monitor, has_state("gpu0", "stale"))
        assert state(stale, "cpu0") == "ok"
        shared.open.set()
        await until(monitor, lambda found: {status.health.state for status in found.devices} == {HealthState.OK})


async def test_a_failing_discovery_is_a_problem_of_its_source(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeSource):
        def discover(self) -> Sequence[Device]:
            raise OSError("no such file")

    async with watching(Failing(), FakeSource(gpus(1)), rescan_s=0.05) as monitor:
        snapshot = await until(monitor, lambda found: found.sequence >= 5)
        assert snapshot.sources[0].problem == "finding devices failed: OSError: no such file"
        assert ids(snapshot) == ["gpu0"]
    assert caplog.text.count("fake: finding devices failed") == 1


async def test_a_key_that_two_sources_claim_belongs_to_the_first(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(FakeSource(gpus(1)), FakeSource(gpus(2), name="other")) as monitor:
        assert ids(await until(monitor, lambda found: len(found.devices) == 2)) == ["gpu0", "gpu1"]
    assert "known already: fake:gpu-0" in caplog.text


async def test_hot_unplug_and_return_are_events() -> None:
    events: list[Event] = []
    source = FakeSource(gpus(1))
    async with watching(source, rescan_s=0.1, on_event=events.append) as monitor:
        gone = source.devices.pop()
        await until(monitor, has_state("gpu0", "lost"))
        source.devices.append(gone)
        await until(monitor, has_state("gpu0", "ok"))
    words = [event.words for event in events]
    assert words[:2] == ["found: Fake GPU 0", "lost: fake finds it no more"]
    assert re.fullmatch(r"ok again after \d+ s: was lost, fake finds it no more", words[2])
    assert [event.severity for event in events] == [Severity.INFO, Severity.CRITICAL, Severity.INFO]


@pytest.mark.parametrize("slow", ["first", "second"])
async def test_a_pci_address_belongs_to_the_first_source_that_names_it(
    slow: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = BrokenSource([fake_gpu(0, pci="00000000:C1:00.0")])
    second = FakeSource([fake_gpu(1, pci="0000:c1:00.0"), fake_gpu(2, pci="0000:c2:00.0")], name="chips")
    late, early = (first, second) if slow == "first" else (second, first)
    discover, read = late.discover, early.read
    taken_in = threading.Event()

    def discover_late() -> Sequence[Device]:
        assert taken_in.wait(20)
        return discover()

    def read_early(key: str, fresh: bool = False) -> Sample:
        taken_in.set()  # its devices are read: they were found
        return read(key, fresh)

    late.discover, early.read = discover_late, read_early  # type: ignore[method-assign]
    async with watching(first, second, rescan_s=0.1) as monitor:
        snapshot = monitor.snapshots.latest
        assert snapshot is not None
        assert [status.device.key for status in snapshot.devices] == ["fake:gpu-0", "fake:gpu-2"]
        assert [source.devices for source in snapshot.sources] == [1, 1]
        first.devices.clear()  # unbound from its driver: the other source may have it
        taken = await until(monitor, lambda found: len(found.devices) == 3)
        assert state(await until(monitor, has_state("fake:gpu-1", "ok")), "gpu0") == "lost"
        assert row(taken, "gpu0").device.key == "fake:gpu-0"
    assert "chips names fake:gpu-1 at PCI address 0000:c1:00.0, which fake shows already" in caplog.text


async def test_partitions_share_the_address_of_their_parent() -> None:
    parent = fake_gpu(0)
    parts = [fake_gpu(n, pci=parent.pci, parent=parent.key) for n in (1, 2)]
    async with watching(FakeSource([parent, *parts]), rescan_s=0.1) as monitor:
        found = await until(monitor, lambda found: found.sequence >= 5)
        assert ids(found) == ["gpu0", "gpu1", "gpu2"]


async def test_another_device_under_the_same_key_gets_its_own_facts_and_starts_anew() -> None:
    events: list[Event] = []
    source = FakeSource(gpus(1))
    async with watching(source, rescan_s=0.1, on_event=events.append) as monitor:
        source.devices[0] = fake_gpu(0, name="Other GPU")
        await until(monitor, lambda found: row(found, "gpu0").device.name == "Other GPU")
        await until(monitor, has_state("gpu0", "ok"))
    assert [event.words for event in events] == ["found: Fake GPU 0", "replaced: was Fake GPU 0, is Other GPU"]


@given(st.from_regex(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True), st.integers(0, 0xFFFF))
def test_a_pci_address_has_one_spelling(address: str, domain: int) -> None:
    assert slot(f"{domain:04x}:{address}") == slot(f"{domain:08X}:{address.upper()}")
    assert slot(address) == slot(f"0000:{address}")
    assert (slot(f"{domain:04x}:{address}") == slot(address)) == (domain == 0)


def test_no_address_is_no_place() -> None:
    assert slot(None) == slot("") == ""
