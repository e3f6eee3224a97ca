"""The doctor: every finding says what is and what to do, and nothing that a driver does stops it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hwdash.cli.main import main
from hwdash.core.check import Check, Verdict
from hwdash.core.config import Config, StoreConfig
from hwdash.core.paths import Paths
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Fault, FaultLevel, Sample
from hwdash.core.trial import DeviceTrial, DtypeTrial
from hwdash.daemon import doctor_source
from hwdash.daemon.doctor import examine, worst
from hwdash.daemon.doctor_source import examine_sources
from hwdash.daemon.trial import installed_torch
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.sources.source import Source
from hwdash.store.store import Store


def findings(source: Source) -> list[Check]:
    return list(examine_sources([source], [], 0.0))


def paths(root: Path) -> Paths:
    return Paths(root / "config", root / "state", root / "run", root / "models")


def test_a_device_that_works_is_a_line_with_its_readings() -> None:
    (found,) = findings(FakeSource([fake_gpu(0, source="nvml")]))
    assert found == Check("fake", Verdict.OK, "Fake GPU 0 (00000000:00:00.0): 9 readings")


def test_no_such_hardware_is_not_a_fault() -> None:
    source = FakeSource(name="amdgpu")
    assert findings(source) == [Check("amdgpu", Verdict.SKIP, "no AMD GPU")]
    source.unavailable = ""
    assert findings(source) == [Check("amdgpu", Verdict.SKIP, "no AMD GPU")]


def test_a_source_that_cannot_start_fails_with_its_way_out() -> None:
    source = FakeSource()
    source.unavailable = "no GPU answers (GPU 0: silent; GPU 1: silent)"
    source.fix = "load it (modprobe nvidia)"
    source.problem = "GPU 0: silent; GPU 1: silent"
    assert findings(source) == [Check("fake", Verdict.FAIL, source.unavailable, source.fix)], "told whole, and once"


def test_what_discovery_left_out_is_said_beside_what_it_found() -> None:
    source = FakeSource([fake_gpu()])
    source.problem = "GPU 1: lost\x1b[31m"
    assert findings(source)[0] == Check("fake", Verdict.FAIL, "GPU 1: lost\ufffd[31m")


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (lambda source: source.lost.add("fake:gpu-0"), Verdict.FAIL, "lost: fake:gpu-0 is gone"),
        (
            lambda source: source.changes.update(
                {"fake:gpu-0": {"faults": (Fault("row", "rows are used up: replace it", FaultLevel.FAILED),)}}
            ),
            Verdict.FAIL,
            "rows are used up",
        ),
        (
            lambda source: source.readings.update({"fake:gpu-0": dict.fromkeys(fake_readings(), Absent.SUSPENDED)}),
            Verdict.OK,
            "asleep, and left so",
        ),
        (
            lambda source: source.readings.update({"fake:gpu-0": fake_readings(power_w=Absent.NO_PERMISSION)}),
            Verdict.WARN,
            "power: no permission",
        ),
        (
            lambda source: source.changes.update({"fake:gpu-0": {"processes": Absent.NO_PERMISSION}}),
            Verdict.WARN,
            "processes: no permission",
        ),
    ],
)
def test_what_is_wrong_with_a_device(change: Callable[[FakeSource], object], verdict: Verdict, words: str) -> None:
    source = FakeSource([fake_gpu()])
    change(source)
    assert any(check.verdict is verdict and words in check.words for check in findings(source))


def test_a_device_without_any_reading_is_not_well() -> None:
    source = FakeSource([fake_gpu()], {"fake:gpu-0": dict.fromkeys(fake_readings(), Absent.DRIVER_MISMATCH)})
    (found,) = findings(source)
    assert found.verdict is Verdict.FAIL
    assert found.words == "Fake GPU 0 (00000000:00:00.0): all readings: driver mismatch"
    assert "reboot" in found.fix
    source.readings["fake:gpu-0"] = dict.fromkeys(fake_readings(), Absent.ERROR)
    source.changes["fake:gpu-0"] = {"processes": Absent.ERROR}
    (found,) = findings(source)
    assert found.words.endswith("all readings: error")


@pytest.mark.parametrize("readings", [{}, dict.fromkeys(fake_readings(), Absent.NOT_SUPPORTED)])
def test_a_device_that_tells_nothing_is_looked_at(readings: dict[str, Reading]) -> None:
    (found,) = findings(FakeSource([fake_gpu()], {"fake:gpu-0": readings}))
    assert (found.verdict, found.words) == (Verdict.WARN, "Fake GPU 0 (00000000:00:00.0): no readings")
    odd = {"power_w": Absent.NO_PERMISSION, "utilization": Absent.BAD_VALUE}
    first, *others = findings(FakeSource([fake_gpu()], {"fake:gpu-0": readings | odd}))
    assert first.words.endswith("no readings")
    assert len(others) == 2


def test_a_forbidden_energy_counter_has_its_way_out() -> None:
    source = FakeSource([fake_gpu()], {"fake:gpu-0": fake_readings(power_w=Absent.NO_PERMISSION)})
    assert "run the daemon as root" in findings(source)[-1].fix


def test_a_driver_that_hangs_or_breaks_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_source, "_PATIENCE_S", 0.2)
    hanging = FakeSource([fake_gpu()], name="hanging")
    hanging.hanging.add("fake:gpu-0")

    class Broken(FakeSource):
        def discover(self) -> list[object]:  # type: ignore[override]
            raise ValueError("odd\nanswer")

    sources = [hanging, Broken(name="broken"), FakeSource([fake_gpu()], name="whole")]
    found = {check.name: check for check in examine_sources(sources, [], 0.0)}
    hanging.release()
    assert "its driver hangs" in found["hanging"].words
    assert found["broken"].verdict is Verdict.FAIL
    assert "\n" not in found["broken"].words
    assert found["whole"].verdict is Verdict.OK


def test_a_device_that_cannot_be_read_is_its_own_finding() -> None:
    class Odd(FakeSource):
        def read(self, key: str, fresh: bool = False) -> Sample:
            if key == "fake:gpu-1":
                raise ValueError("odd\nanswer")
            return super().read(key, fresh)

    source = Odd([fake_gpu(index) for index in range(3)])
    found = findings(source)
    assert [check.verdict for check in found] == [Verdict.OK, Verdict.FAIL, Verdict.OK]
    assert found[1].words == "Fake GPU 1 (00000000:01:00.0): reading it failed: ValueError: odd answer"
    assert source.closed


def test_a_source_that_finds_nothing_for_an_error_is_closed() -> None:
    source = FakeSource()
    source.unavailable = "no driver: load it"
    findings(source)
    assert source.closed


def test_all_sources_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_source, "_PATIENCE_S", 1.0)
    waits: list[float] = []
    join = threading.Thread.join

    def counted(thread: threading.Thread, timeout: float | None = None) -> None:
        began_s = time.monotonic()
        join(thread, timeout)
        waits.append(time.monotonic() - began_s)

    monkeypatch.setattr(threading.Thread, "join", counted)
    sources = [FakeSource([fake_gpu()], name=f"hanging {number}") for number in range(4)]
    for source in sources:
        source.hanging.add("fake:gpu-0")
    found = list(examine_sources(sources, [], 0.0))
    for source in sources:
        source.release()
    assert len(found) == 4
    assert all("its driver hangs" in check.words for check in found)
    assert sum(waits) < 2.0


def test_the_places_are_looked_at(tmp_path: Path) -> None:
    found = {check.name: check for check in examine(Config(), paths(tmp_path), [], 0.0)}
    assert found["history"].verdict is Verdict.OK
    assert found["socket"].verdict is Verdict.OK
    assert found["model"].verdict is Verdict.WARN
    assert "hwdash models pull" in found["model"].fix
    assert not list(tmp_path.iterdir()), "looking makes nothing"


def test_a_damaged_history_an_open_socket_directory_and_a_gpu_without_its_torch(tmp_path: Path) -> None:
    places = paths(tmp_path)
    places.state.mkdir()
    places.database.write_bytes(b"not a database" * 100)
    places.runtime.mkdir(mode=0o755)
    source = FakeSource([fake_gpu(0, source="amdgpu")])
    found = {check.name: check for check in examine(Config(), places, [source], 0.0)}
    assert found["history"].verdict is Verdict.FAIL
    assert "move" in found["history"].fix
    assert found["socket"].verdict is Verdict.FAIL
    assert found["torch"].verdict is Verdict.WARN
    assert worst(tuple(found.values())) is Verdict.FAIL
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE x(y)")
    foreign = replace(places, state=tmp_path)
    (tmp_path / "other.db").rename(foreign.database)
    found = {check.name: check for check in examine(Config(), foreign, [], 0.0)}
    assert "another program" in found["history"].words


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HWDASH_SYSROOT"):
        monkeypatch.setenv(name, str(tmp_path))
    assert main(["doctor"]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert "daemon" in text
    assert "none runs" in text
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capfdbinary.readouterr().out)
    assert document["verdict"] == "warn"
    assert {"name", "verdict", "words", "fix"} == set(document["checks"][0])
    (tmp_path / "hwdash").mkdir()
    (tmp_path / "hwdash" / "config.toml").write_text("[monitor]\nintervall = 1\n")
    assert main(["doctor"]) == 1
    assert "config.toml:2" in capfdbinary.readouterr().out.decode()


async def test_what_trials_found_is_told_for_the_same_driver_and_torch(tmp_path: Path) -> None:
    places = paths(tmp_path)
    places.state.mkdir()
    store = await Store.open(places.database, StoreConfig())
    found = (
        DtypeTrial("bf16", 1.0, 1.4, 0.7, emulated=True),
        DtypeTrial("fp32", 1.0, 4.0, 1.0),
        DtypeTrial("fp8", 1.0),
    )
    trial = DeviceTrial(fake_gpu(0).key, "570", installed_torch(), datetime.now(UTC), found)
    await store.add_trial(trial)
    await store.add_trial(replace(trial, device_key=fake_gpu(1).key, driver="569"))
    await store.close()
    source = FakeSource([fake_gpu(0, driver="570"), fake_gpu(1, driver="570")])
    told = await asyncio.to_thread(examine, Config(), places, [source], 0.0)
    lines = [check for check in told if check.name == "precision"]
    assert lines == [Check("precision", Verdict.OK, "Fake GPU 0: fp32, bf16 (emulated: 0.7x fp32)")]
