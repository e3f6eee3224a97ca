"""GPUs that are lost, calls that hang, and drivers that end, change or are not there."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pynvml
import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.sources import nvml_session
from hwdash.sources.nvml import NvmlSource
from hwdash.sources.source import DeviceLost, SourceUnavailable
from tests.sources.nvml_rig import KEY, Rig
from tests.sources.nvml_stand_in import FakeCard, NvmlStandIn

LOST = pynvml.NVML_ERROR_GPU_IS_LOST


def test_a_card_off_the_bus_is_lost_and_can_come_back() -> None:
    rig = Rig()
    rig.read()
    rig.card.errors["*"] = LOST
    with pytest.raises(DeviceLost, match="lost"):
        rig.read()
    with pytest.raises(DeviceLost):
        rig.read()
    del rig.card.errors["*"]
    assert rig.read().readings["temperature_c"] == 34.0


def test_a_card_lost_between_two_fields_is_lost() -> None:
    rig = Rig()
    rig.card.errors[82] = LOST
    with pytest.raises(DeviceLost):
        rig.read()


def test_a_card_the_driver_dropped_is_lost() -> None:
    rig = Rig()
    rig.driver.cards.clear()
    with pytest.raises(DeviceLost, match="no longer"):
        rig.read()
    with pytest.raises(DeviceLost):
        rig.source.read("nvidia:GPU-none")


def test_a_lost_card_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    lost, well = FakeCard("GPU-0", errors={"*": LOST}), FakeCard("GPU-1")
    with caplog.at_level(logging.WARNING):
        rig = Rig(lost, well)
        rig.source.discover()
    assert [device.key for device in rig.devices] == ["nvidia:GPU-1"]
    assert len(caplog.records) == 1, "the same failure is logged once"
    assert rig.source.problem.startswith("GPU 0: ")
    assert "lost" in rig.source.problem
    lost.errors.clear()
    assert len(rig.source.discover()) == 2
    assert rig.source.problem == ""
    assert rig.read("nvidia:GPU-1").readings["temperature_c"] == 34.0


def test_when_all_cards_are_lost_the_source_says_so() -> None:
    with pytest.raises(SourceUnavailable, match="no NVIDIA GPU answers"):
        Rig(FakeCard(errors={"*": LOST}))


def test_gpus_that_nobody_may_talk_to_have_one_way_out() -> None:
    denied: dict[str | int, int] = {"nvmlDeviceGetUUID": pynvml.NVML_ERROR_NO_PERMISSION}
    with pytest.raises(SourceUnavailable) as caught:
        Rig(FakeCard("GPU-0", errors=denied), FakeCard("GPU-1", errors=denied))
    assert caught.value.words == "no permission to talk to the NVIDIA driver"
    assert "this user needs access to /dev/nvidia" in caught.value.fix
    assert str(caught.value) == f"{caught.value.words}: {caught.value.fix}"
    cards = FakeCard("GPU-0", errors=denied), FakeCard("GPU-1"), FakeCard("GPU-2", errors=denied)
    problem = Rig(*cards).source.problem
    assert problem == f"GPU 0, GPU 2: {caught.value}", "the same words are said once"


def test_a_driver_reload_is_survived() -> None:
    rig = Rig()
    rig.read()
    rig.clock.advance(60)
    rig.driver.running = False
    rig.driver.starts += 1
    assert rig.read().readings["temperature_c"] == 34.0
    assert rig.driver.running


def test_a_driver_update_under_a_running_daemon_is_named_and_survived() -> None:
    rig = Rig()
    rig.read()
    rig.clock.advance(60)
    rig.card.errors["nvmlDeviceGetFieldValues"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    rig.driver.errors["nvmlInit"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    sample = rig.read()
    assert set(sample.readings.values()) == {Absent.DRIVER_MISMATCH}
    assert len(sample.readings) == 17
    starts = rig.driver.calls["nvmlInit"]
    rig.read()
    assert rig.driver.calls["nvmlInit"] == starts, "a failed start is not repeated at every read"
    with pytest.raises(SourceUnavailable, match="different versions"):
        rig.source.discover()
    rig.driver.errors.clear()
    del rig.card.errors["nvmlDeviceGetFieldValues"]
    rig.clock.advance(10)
    assert rig.read().readings["temperature_c"] == 34.0


def test_a_session_that_ends_at_once_is_not_started_over_and_over() -> None:
    rig = Rig()
    rig.clock.advance(60)
    rig.card.errors["nvmlDeviceGetFieldValues"] = pynvml.NVML_ERROR_UNINITIALIZED
    for _ in range(4):
        assert rig.read().readings["temperature_c"] is Absent.ERROR
    assert rig.driver.calls["nvmlInit"] == 2
    rig.driver.errors["nvmlDeviceGetCount"] = pynvml.NVML_ERROR_UNINITIALIZED
    with pytest.raises(SourceUnavailable, match="ends every session"):
        rig.source.discover()


@pytest.mark.parametrize(
    ("code", "loaded", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, False, ""),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, True, "libnvidia-ml.so.1 is missing"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False, "modprobe nvidia"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, True, "--gpus all"),
        (pynvml.NVML_ERROR_NO_PERMISSION, True, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, True, "different versions"),
        (pynvml.NVML_ERROR_UNKNOWN, True, "did not start"),
    ],
)
def test_a_driver_that_cannot_be_reached_is_explained(tmp_path: Path, code: int, loaded: bool, words: str) -> None:
    if loaded:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text("580")
    driver = NvmlStandIn(FakeCard())
    driver.errors["nvmlInit"] = code
    source = NvmlSource(ManualClock(), driver, tmp_path)
    with pytest.raises(SourceUnavailable) as caught:
        source.discover()
    message = str(caught.value)
    assert words in message
    assert bool(message) == bool(words)
    assert "\n" not in message


def test_a_container_without_gpus_is_explained() -> None:
    source = NvmlSource(ManualClock(), NvmlStandIn())
    with pytest.raises(SourceUnavailable, match="--gpus all"):
        source.discover()


def test_without_nvml_and_driver_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_session, "_library_is_installed", lambda: False)
    with pytest.raises(SourceUnavailable) as caught:
        NvmlSource(ManualClock(), sysroot=tmp_path).discover()
    assert str(caught.value) == ""


def test_a_driver_that_goes_away_loses_its_cards() -> None:
    rig = Rig()
    rig.clock.advance(60)
    rig.driver.running = False
    rig.driver.errors["nvmlInit"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(DeviceLost):
        rig.read()


def test_a_call_that_hangs_holds_up_no_other_card() -> None:
    rig = Rig(FakeCard("GPU-0"), FakeCard("GPU-1"))
    rig.driver.hanging["GPU-0"] = released = threading.Event()
    samples: list[Sample] = []
    stuck = threading.Thread(target=lambda: samples.append(rig.source.read(KEY)))
    stuck.start()
    try:
        assert rig.source.read("nvidia:GPU-1").readings["temperature_c"] == 34.0
        assert not samples
    finally:
        released.set()
        stuck.join(10)
    assert samples[0].key == KEY


def test_many_threads_restart_the_driver_once() -> None:
    cards = [FakeCard(f"GPU-{index}") for index in range(8)]
    rig = Rig(*cards)
    for card in cards:
        rig.read(f"nvidia:{card.uuid}")
    rig.clock.advance(60)
    rig.driver.running = False
    barrier = threading.Barrier(len(cards))
    samples: dict[str, Sample] = {}

    def read(key: str) -> None:
        barrier.wait(10)
        samples[key] = rig.source.read(key)

    threads = [threading.Thread(target=read, args=(f"nvidia:{card.uuid}",)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(samples) == 8
    assert rig.driver.calls["nvmlInit"] == 2
    assert all(sample.readings["power_w"] == 81.0 for sample in samples.values())


def test_close_shuts_down_once() -> None:
    rig = Rig()
    rig.source.close()
    rig.source.close()
    assert rig.driver.calls["nvmlShutdown"] == 1
    with pytest.raises(DeviceLost):
        rig.read()


def test_a_card_lost_during_a_rescan_is_looked_for_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(FakeCard("GPU-0"), FakeCard("GPU-1"))
    rig.read()
    real = rig.driver.nvmlDeviceGetHandleByUUID

    def lose(uuid: str) -> object:
        if uuid == "GPU-1":
            rig.card.errors["*"] = LOST
            with pytest.raises(DeviceLost):
                rig.source.read(KEY)
            del rig.card.errors["*"]
        return real(uuid)

    monkeypatch.setattr(rig.driver, "nvmlDeviceGetHandleByUUID", lose)
    rig.clock.advance(30.0)
    rig.source.discover()
    monkeypatch.setattr(rig.driver, "nvmlDeviceGetHandleByUUID", real)
    rig.driver.calls.clear()
    rig.source.discover()
    assert rig.driver.calls["nvmlDeviceGetHandleByIndex"] == 2


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlShutdown"])
def test_a_driver_that_hangs_at_its_start_or_end_is_waited_for_a_while(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml_session, "_PATIENCE_S", 0.05)
    rig = Rig(FakeCard("GPU-0"), FakeCard("GPU-1"))
    for key in (KEY, "nvidia:GPU-1"):
        rig.read(key)
    rig.clock.advance(60)
    rig.driver.running = False
    released, entered = threading.Event(), threading.Event()
    real = getattr(rig.driver, function)

    def hang() -> None:
        entered.set()
        assert released.wait(10)
        if function == "nvmlInit":
            real()

    monkeypatch.setattr(rig.driver, function, hang)
    stuck = threading.Thread(target=rig.source.read, args=(KEY,))
    stuck.start()
    try:
        assert entered.wait(10)
        for _ in range(2):
            assert set(rig.source.read("nvidia:GPU-1").readings.values()) == {Absent.TIMED_OUT}
        with pytest.raises(SourceUnavailable, match="hangs while it is"):
            rig.source.discover()
        rig.source._session.close()
    finally:
        released.set()
        stuck.join(10)
    assert len(rig.source.discover()) == 2
    assert rig.source.read("nvidia:GPU-1").readings["temperature_c"] == 34.0


def test_nvml_is_not_ended_while_it_is_in_use() -> None:
    driver, clock = NvmlStandIn(FakeCard()), ManualClock()
    session = nvml_session.NvmlSession(driver, clock, Path("/"))
    generation = session.start()
    clock.advance(60.0)
    assert not session.restart(generation, lambda _: False)
    assert driver.calls["nvmlShutdown"] == 0
    assert session.restart(generation, lambda over: over == generation)
    assert driver.calls["nvmlShutdown"] == 1
    assert session.start() == generation + 1
