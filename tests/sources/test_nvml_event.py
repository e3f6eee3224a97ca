"""XIDs and other events that NVIDIA's driver tells by itself."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.event import Severity
from hwdash.core.sample import Notice
from hwdash.sources.nvml_event import EventWatch
from hwdash.sources.nvml_xid import WANTED, XID, notice_of
from hwdash.sources.source import DeviceLost
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import FakeCard

NAME = "hwdash-nvml-events"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Two cards whose driver has events to tell."""
    rig = Rig(FakeCard(), FakeCard("GPU-1"))
    rig.driver.events = queue.SimpleQueue()
    rig.source.close()
    rig.source.discover()
    yield rig
    rig.source.close()
    until(lambda: not watchers())


def tell(rig: Rig, card: FakeCard, kind: int, data: int) -> None:
    """Have an event happen and wait until the source has taken note of it."""
    assert rig.driver.events is not None
    calls = rig.driver.calls["nvmlEventSetWait_v2"]
    rig.driver.events.put((card, kind, data))
    until(lambda: rig.driver.calls["nvmlEventSetWait_v2"] > calls + 1)


def test_an_xid_is_noticed_once_by_its_own_card(rig: Rig) -> None:
    assert rig.read().notices == ()
    tell(rig, rig.card, XID, 31)
    assert rig.read("nvidia:GPU-1").notices == ()
    (notice,) = rig.read().notices
    assert notice.words.startswith("XID 31: memory page fault")
    assert notice.severity is Severity.WARNING
    assert rig.read().notices == ()


def test_a_lost_card_says_its_last_xid(rig: Rig) -> None:
    rig.read()
    tell(rig, rig.card, XID, 79)
    rig.card.errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(DeviceLost, match="XID 79: the GPU has fallen off the bus"):
        rig.read()


def test_events_of_unknown_cards_and_kinds_are_dropped(rig: Rig) -> None:
    stranger = FakeCard("GPU-9")
    rig.driver.handles["GPU-9"] = rig.driver.handles["GPU-1"].__class__(stranger, 1)
    tell(rig, stranger, XID, 31)
    tell(rig, rig.card, 1 << 40, 31)
    assert rig.read().notices == rig.read("nvidia:GPU-1").notices == ()


def test_a_card_that_nobody_reads_keeps_a_bounded_number(rig: Rig) -> None:
    for number in range(40):
        tell(rig, rig.card, XID, number)
    notices = rig.read().notices
    assert len(notices) == 32
    assert notices[-1].words.startswith("XID 39:")


def test_one_thread_watches_and_a_rescan_leaves_it_alone(rig: Rig) -> None:
    (thread,) = watchers()
    rig.source.discover()
    assert watchers() == [thread]
    assert rig.driver.calls["nvmlDeviceRegisterEvents"] == 2
    assert thread.daemon


def test_a_new_card_is_watched_too(rig: Rig) -> None:
    rig.driver.cards.append(FakeCard("GPU-2"))
    rig.source.discover()
    assert len(watchers()) == 1
    tell(rig, rig.driver.cards[-1], XID, 48)
    assert rig.read("nvidia:GPU-2").notices[0].severity is Severity.CRITICAL


def test_a_wait_that_fails_is_begun_again_at_the_next_rescan(rig: Rig) -> None:
    rig.driver.errors["nvmlEventSetWait_v2"] = pynvml.NVML_ERROR_GPU_IS_LOST
    until(lambda: not watchers())
    del rig.driver.errors["nvmlEventSetWait_v2"]
    rig.source.discover()
    tell(rig, rig.card, XID, 13)
    assert len(rig.read().notices) == 1


def test_nvml_is_shut_down_only_after_the_last_wait(rig: Rig) -> None:
    rig.source.close()
    until(lambda: not rig.driver.running)
    assert not watchers()
    assert rig.driver.sets == 0
    assert rig.driver.calls["nvmlShutdown"] == 2


def test_a_driver_reload_ends_the_watch_and_the_next_rescan_begins_another(rig: Rig) -> None:
    rig.read()
    rig.clock.advance(60.0)
    rig.driver.running = False
    rig.driver.starts += 1
    assert rig.read().readings["temperature_c"] == 34.0
    assert not watchers()
    rig.source.discover()
    tell(rig, rig.card, XID, 13)
    assert len(rig.read().notices) == 1


def test_a_watch_that_begins_while_the_run_ends_does_not_begin(rig: Rig) -> None:
    rig.source.close()
    until(lambda: not watchers())
    rig.driver.nvmlInit()
    watch = EventWatch()

    def handle_of(uuid: str) -> object:
        assert watch.stop(7)
        return rig.driver.nvmlDeviceGetHandleByUUID(uuid)

    watch.follow(rig.driver, 7, {"nvidia:GPU-0": "GPU-0"}, handle_of)
    assert not watchers()
    assert rig.driver.sets == 0
    watch.follow(rig.driver, 7, {"nvidia:GPU-0": "GPU-0"}, rig.driver.nvmlDeviceGetHandleByUUID)
    assert not watchers(), "that run is over"
    watch.follow(rig.driver, 8, {"nvidia:GPU-0": "GPU-0"}, rig.driver.nvmlDeviceGetHandleByUUID)
    assert len(watchers()) == 1
    assert watch.stop(8)


def test_a_driver_without_events_needs_no_thread() -> None:
    rig = Rig()
    rig.read()
    assert not watchers()
    assert rig.driver.sets == 0


@pytest.mark.parametrize("name", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_events_that_are_refused_need_no_thread(name: str) -> None:
    rig = Rig()
    rig.source.close()
    rig.driver.events = queue.SimpleQueue()
    (rig.driver.errors if name.endswith("Create") else rig.card.errors)[name] = pynvml.NVML_ERROR_NO_PERMISSION
    rig.source.discover()
    assert not watchers()
    assert rig.driver.sets == 0


@pytest.mark.parametrize("xid", [48, 64, 74, 79, 95, 119])
def test_fatal_xids_are_critical(xid: int) -> None:
    notice = notice_of(XID, xid)
    assert notice is not None
    assert notice.severity is Severity.CRITICAL


def test_other_events_have_words_as_well() -> None:
    assert notice_of(0x2000, 0) == Notice("poisoned data was met and not contained", Severity.CRITICAL)
    assert all(notice_of(1 << bit, 0) for bit in range(64) if WANTED >> bit & 1)
    assert notice_of(0x10, 0) is None


@given(st.integers(0, 2**64 - 1))
def test_any_xid_has_words(xid: int) -> None:
    notice = notice_of(XID, xid)
    assert notice is not None
    assert notice.words.startswith(f"XID {xid}: ")
