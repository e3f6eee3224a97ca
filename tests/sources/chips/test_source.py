"""Devices of profiles over trees as they should be, and as they should not."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.device import Runtime
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent, is_present
from hwdash.core.sample import FaultLevel
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.chips.check import examine
from hwdash.sources.chips.describe import can_compute
from hwdash.sources.chips.loader import parse_profile
from hwdash.sources.chips.source import ChipSource
from hwdash.sources.source import DeviceLost, SourceUnavailable
from hwdash.sources.sysfs import Tree
from tests.sources.chips.examples import ACME, ALL
from tests.sources.chips.tree import HEAD, Bench, grow, toy


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"^$"):
        ChipSource(tmp_path).discover()
    grow(tmp_path, {"user/bad.toml": "schema = 1\nx = 1\n"})
    with pytest.raises(SourceUnavailable, match=r"bad\.toml:2: x is not known"):
        ChipSource(tmp_path, user_folder=tmp_path / "user").discover()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("45000\n", 45.0),
        ("-5000", -5.0),
        ("0", 0.0),
        (None, Absent.NOT_SUPPORTED),
        ("", Absent.BAD_VALUE),
        ("nan", Absent.BAD_VALUE),
        ("1e30", Absent.BAD_VALUE),
        ("1e999", Absent.BAD_VALUE),
        ("-44001", Absent.BAD_VALUE),
        ("65535000", Absent.BAD_VALUE),
        ("not_supported", Absent.BAD_VALUE),
        ("45000 [bold]", Absent.BAD_VALUE),
        ("9" * 70_000, Absent.BAD_VALUE),
        (b"\xff\x00\xfe", Absent.BAD_VALUE),
        ("-> value", Absent.ERROR),
        ("-> /etc/hostname", Absent.ERROR),
        ("-> ../../../../outside", Absent.ERROR),
        ("-> nowhere", Absent.NOT_SUPPORTED),
    ],
)
def test_one_file_of_every_sort(tmp_path: Path, content: str | bytes | None, wanted: object) -> None:
    bench = toy(tmp_path, 'metrics.temperature_die = { path = "value", unit = "m°C" }\n', {"value": content, "x": "1"})
    (bench.root / "outside").write_text("45000")
    assert bench.read().readings["temperature_c"] == wanted


def test_reads_stay_in_their_folders(tmp_path: Path) -> None:
    bench = toy(
        tmp_path,
        'metrics.power = { path = "{read:which}/value", unit = "W" }\n'
        'metrics.fan_rpm = { path = "../../../../proc/self/value", unit = "RPM" }\n',
        {"which": "../toy1", "x": "1"},
    )
    grow(bench.root, {"proc/self/value": "7", "sys/class/toy/toy1/value": "7"})
    assert bench.read().readings == {"power_w": Absent.NOT_SUPPORTED, "fan_rpm": Absent.ERROR}


def test_names_with_signs_of_globs(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {
        "sys/class/toy/toy!a[1]*/device/value": "3",
        "sys/class/toy/toy!a1x/device/value": "4",
    }
    text = (
        HEAD.replace("toy*", "toy!*") + "anchors.here = { path = 'device' }\n"
        'metrics.power = { path = "{here}/val*", unit = "W" }\nidentity.key = { basename_of = "instance" }\n'
    )
    bench = Bench(tmp_path, text, files)
    powers = {device.key: bench.source.read(device.key).readings["power_w"] for device in bench.devices}
    assert powers == {"toy:toy!a[1]*": 3.0, "toy:toy!a1x": 4.0}


def test_devices_come_in_natural_order_and_keys_are_their_own(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {f"sys/class/toy/toy{n}/serial": "same" for n in (10, 2, 1)}
    bench = Bench(tmp_path, HEAD + 'identity.key = { path = "serial" }\n', files)
    assert [device.key for device in bench.devices] == ["toy:same@toy1", "toy:same@toy2", "toy:same@toy10"]


def test_at_most_256_devices(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {f"sys/class/toy/toy{n}/serial": str(n) for n in range(260)}
    bench = Bench(tmp_path, HEAD, files)
    assert len(bench.devices) == 256
    assert "first 256 of 260" in bench.source.problem


def test_a_device_goes_and_comes_back(tmp_path: Path) -> None:
    rules = 'metrics.power = { path = "e", unit = "J", type = "counter" }\n'
    bench = toy(tmp_path, rules, {"e": "10"})
    assert bench.read().readings["power_w"] is Absent.FIRST_SAMPLE
    assert bench.read({"sys/class/toy/toy0/e": "30"}, after_s=2.0).readings["power_w"] == 10.0
    bench.source.discover()
    assert bench.read({"sys/class/toy/toy0/e": "50"}, after_s=2.0).readings["power_w"] == 10.0, "a rescan keeps counts"
    assert bench.read({"sys/class/toy/toy0/e": "40"}, after_s=2.0).readings["power_w"] is Absent.FIRST_SAMPLE
    shutil.rmtree(bench.root / "sys/class/toy/toy0")
    with pytest.raises(DeviceLost, match="toy0 is gone"):
        bench.read()
    assert bench.read({"sys/class/toy/toy0/e": "99"}, after_s=2.0).readings["power_w"] is Absent.FIRST_SAMPLE
    with pytest.raises(DeviceLost):
        bench.source.read("toy:other")


def test_a_sensor_that_moved_is_found_again(tmp_path: Path) -> None:
    rules = 'anchors.hwmon = { glob = "hwmon*", optional = true }\nmetrics.power = { path = "{hwmon}/p", unit = "W" }\n'
    bench = toy(tmp_path, rules, {"hwmon3/p": "5"})
    assert bench.read().readings["power_w"] == 5.0
    shutil.rmtree(bench.root / "sys/class/toy/toy0/hwmon3")
    assert bench.read({"sys/class/toy/toy0/hwmon11/p": "6"}).readings["power_w"] is Absent.NOT_SUPPORTED
    bench.source.discover()
    assert bench.read().readings["power_w"] == 6.0


def test_a_rescan_reads_nothing_of_known_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        HEAD.replace('"] }', '"], require = [{ path = "device_type", regex = "toy" }] }')
        + 'anchors.hwmon = { glob = "hwmon*", name = "toy", optional = true }\nidentity.key = { path = "serial" }\n'
        + 'metrics.temperature_die = { path = "t", unit = "°C", max = { path = "t_max" } }\n'
    )
    names = {"device_type": "toy", "serial": "7", "t": "40", "t_max": "90", "hwmon1/name": "toy"}
    bench = Bench(tmp_path, text, {f"sys/class/toy/toy0/{name}": content for name, content in names.items()})
    grow(bench.root, {f"sys/class/toy/toy1/{name}": content for name, content in names.items()})
    grow(bench.root, {"sys/class/toy/toy1/serial": "8"})
    opened: list[str] = []
    read = Tree._read

    def watched(full: str, path: str, limit: int, flags: int = 0) -> bytes:
        opened.append(full)
        return read(full, path, limit, flags)

    monkeypatch.setattr(Tree, "_read", staticmethod(watched))
    assert {device.key for device in bench.source.discover()} == {"toy:7", "toy:8"}
    assert any("toy1" in path for path in opened)
    assert not any("toy0" in path for path in opened)


def test_facts_are_renewed_by_a_read_after_a_rescan(tmp_path: Path) -> None:
    rules = 'metrics.temperature_die = { path = "t", unit = "°C", max = { path = "t_max" } }\n'
    bench = toy(tmp_path, rules, {"t": "40", "t_max": "90"})
    grow(bench.root, {"sys/class/toy/toy0/t_max": "95"})
    assert bench.source.discover()[0].limits.temperature_slowdown_c == 90.0
    bench.read()
    assert bench.source.discover()[0].limits.temperature_slowdown_c == 95.0


def test_another_device_in_the_same_place_is_another_device(tmp_path: Path) -> None:
    rules = 'identity.key = { path = "serial" }\nmetrics.power = { path = "p", unit = "W" }\n'
    bench = toy(tmp_path, rules, {"serial": "1", "p": "5"})
    bench.source.discover()
    for _ in range(2):
        with pytest.raises(DeviceLost, match="no longer toy:1"):
            bench.read({"sys/class/toy/toy0/serial": "2"})
    assert [device.key for device in bench.source.discover()] == ["toy:2"]
    assert bench.source.read("toy:2").readings["power_w"] == 5.0


def test_a_directory_that_is_no_device_any_more_is_given_up(tmp_path: Path) -> None:
    text = HEAD.replace('"] }', '"], require = [{ path = "mode", equals = "on" }] }')
    text += 'anchors.hwmon = { glob = "hwmon*" }\n'
    files: dict[str, str | bytes | None] = {f"sys/class/toy/toy0/{name}": "on" for name in ("mode", "hwmon1/x")}
    bench = Bench(tmp_path, text, files)
    shutil.rmtree(bench.root / "sys/class/toy/toy0/hwmon1")
    bench.source.discover()
    with pytest.raises(DeviceLost, match="has no hwmon any more"):
        bench.read()
    with pytest.raises(SourceUnavailable, match="toy0 has no hwmon"):
        bench.source.discover()
    grow(bench.root, files)
    bench.source.discover()
    bench.read()
    bench.source.discover()
    with pytest.raises(DeviceLost, match="no device of toy any more"):
        bench.read({"sys/class/toy/toy0/mode": "off"})
    with pytest.raises(SourceUnavailable, match=r"^$"):
        bench.source.discover()


def test_sums_need_all_their_parts_and_maxima_do_not(tmp_path: Path) -> None:
    rules = (
        'metrics.temperature_die = { paths = ["a", "b"], reduce = "max", unit = "°C" }\n'
        'metrics.power = { paths = ["a", "b"], reduce = "sum", unit = "W" }\n'
        'metrics.voltage = { first_of = [{ path = "none" }, { path = "a", unit = "mV" }], unit = "V" }\n'
        'metrics.current = { path = "none", unit = "mA", optional = true }\n'
        'metrics.fan_rpm = { path = "word", unit = "RPM", map = { slow = 500 } }\n'
        'metrics.clock_core = { path = "a", unit = "MHz", sentinels = [40] }\n'
        'metrics.clock_memory = { path = "a", unit = "MHz", scale = 2, offset = 1, valid = [0, 40] }\n'
    )
    sample = toy(tmp_path, rules, {"a": "40", "b": "broken", "word": "slow"}).read()
    assert sample.readings == {
        "temperature_c": 40.0,
        "power_w": Absent.BAD_VALUE,
        "voltage_v": pytest.approx(0.04),
        "fan_rpm": 500.0,
        "clock_hz": Absent.BAD_VALUE,
        "memory_clock_hz": 81e6,
    }


def test_counters_wrap_where_they_say(tmp_path: Path) -> None:
    rules = (
        'metrics.energy = { path = "e", unit = "uJ", max_path = "range" }\n'
        'metrics.power = { path = "e", unit = "uJ", type = "counter", max_path = "range" }\n'
        'metrics.errors = { path = "n", bits = 32 }\n'
        'metrics.utilization = { path = "busy", unit = "us", type = "counter" }\n'
    )
    bench = toy(tmp_path, rules, {"e": "9000000", "range": "9999999", "n": "4294967295", "busy": "0"})
    bench.read()
    folder = "sys/class/toy/toy0"
    sample = bench.read({f"{folder}/e": "1000000", f"{folder}/n": "1", f"{folder}/busy": "1001000"}, after_s=1.0)
    assert sample.readings["power_w"] == pytest.approx(2.0)
    assert sample.readings["energy_j"] == pytest.approx(11.0)
    assert sample.readings["errors_total"] == 4294967297.0
    assert sample.readings["utilization"] == 1.0
    sample = bench.read({f"{folder}/n": "0", f"{folder}/busy": "5001000"}, after_s=1.0)
    assert sample.readings["errors_total"] == 0.0, "a small fall is a reset"
    assert sample.readings["utilization"] is Absent.BAD_VALUE


def test_a_reset_is_no_burst_of_power(tmp_path: Path) -> None:
    bench = toy(
        tmp_path, 'metrics.power = { path = "e", unit = "uJ", type = "counter", bits = 32 }\n', {"e": "4000000"}
    )
    bench.read()
    told = [bench.read({"sys/class/toy/toy0/e": count}, after_s=1.0).readings["power_w"] for count in ("10", "5000010")]
    assert told == [Absent.FIRST_SAMPLE, pytest.approx(5.0)]


def test_throttling_of_every_sort(tmp_path: Path) -> None:
    rules = (
        '[[throttle]]\nid = "prochot"\npath = "flag*"\n'
        '[[throttle]]\nid = "pump"\nclass = "other"\npath = "word"\nequals = "LIMITED"\n'
        '[[throttle]]\nid = "power_cap"\npath = "ns"\ntype = "counter"\nunit = "ns"\n'
        '[[throttle]]\nid = "current_limit"\npath = "none"\n'
        '[[throttle]]\npath = "bits"\nparse = "hex"\nignore = [0]\nbits = { 1 = { id = "edc", class = "current" } }\n'
    )
    files: dict[str, str | bytes | None] = {"flag0": "0", "flag1": "1", "word": "LIMITED", "ns": "1000", "bits": "0x3"}
    bench = toy(tmp_path, rules, files)
    sample = bench.read()
    assert sample.throttle_flags == frozenset(
        {ThrottleReason.PROCHOT, ThrottleReason.UNKNOWN, ThrottleReason.CURRENT_LIMIT}
    )
    assert sample.unknown_flags == "pump"
    assert sample.throttle_seconds == {ThrottleReason.POWER_CAP: pytest.approx(1e-6)}
    sample = bench.read({f"sys/class/toy/toy0/{name}": None for name in files} | {"sys/class/toy/toy0/x": ""})
    assert sample.throttle_flags is None
    assert sample.throttle_known == frozenset()


def test_a_counter_of_events_is_told_of_once_a_spell(tmp_path: Path) -> None:
    bench = toy(tmp_path, '[[throttle]]\nid = "trip"\nclass = "thermal"\npath = "n"\ntype = "counter"\n', {"n": "1"})
    file = "sys/class/toy/toy0/n"
    assert not bench.read().notices
    told = [bench.read({file: str(count)}, after_s=30.0) for count in (2, 3, 3, 4)]
    assert [[notice.words for notice in sample.notices] for sample in told] == [
        ["trip: 1 more since the last look, 2 in all"],
        [],
        [],
        ["trip: 1 more since the last look, 4 in all"],
    ]
    assert [bool(sample.throttle_flags) for sample in told] == [True, True, False, True]


def test_runtime_and_abilities(tmp_path: Path) -> None:
    rules = (
        '[capabilities]\ndtypes = { path = "caps", parse = { json = "/dtypes" } }\ncompute_units = 24\n'
        '[runtime]\ntorch_device = "toy"\nmodule = "torch_toy"\nvisible_variable = "TOY_VISIBLE_DEVICES"\n'
        'visible_as = "{instance_number}"\n[thresholds]\nslowdown_c = 90\nshutdown_c = "95 °C"\nwarm_margin_c = 20\n'
        '[metrics]\ntemperature_die = { path = "t", unit = "°C" }\n'
    )
    bench = toy(tmp_path, rules, {"caps": '{"dtypes": ["fp16", "int8"]}', "t": "71"})
    device = bench.devices[0]
    assert (device.visible_as, device.capabilities.dtypes, device.capabilities.compute_units) == (
        "0",
        ("fp16", "int8"),
        24,
    )
    assert not device.capabilities.inference, "its module is not installed"
    assert device.runtime is not None
    assert device.runtime.torch_device == "toy"
    assert (device.limits.temperature_slowdown_c, device.limits.temperature_shutdown_c) == (90.0, 95.0)
    assert [(fault.code, fault.level) for fault in bench.read().faults] == [("warm_margin", FaultLevel.WARNING)]
    assert not bench.read({"sys/class/toy/toy0/t": "60"}).faults


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('"1.2TB/s"', 1.2e12),
        ("8e11", 8e11),
        ('{ path = "bw", unit = "GB/s" }', 819e9),
        ('{ path = "none", unit = "GB/s" }', None),
        ('{ path = "bw", unit = "TB/s", scale = 1e6 }', None),
    ],
)
def test_the_peak_of_the_memory(tmp_path: Path, said: str, expected: float | None) -> None:
    bench = toy(tmp_path, f"[limits]\nmemory_bandwidth_bytes_per_s = {said}\n", {"bw": "819"})
    assert bench.devices[0].limits.memory_bandwidth_bytes_per_s == expected


@pytest.mark.parametrize(
    ("runtime", "able"),
    [
        (None, False),
        (Runtime("toy"), True),
        (Runtime("toy", "json.decoder"), True),
        (Runtime("toy", "no_such_vendor.torch"), False),
        (Runtime(url="http://127.0.0.1:8000/v1"), True),
    ],
)
def test_what_the_engine_can_compute_on(runtime: Runtime | None, able: bool) -> None:
    assert can_compute(runtime) is able


def test_without_a_runtime_there_is_no_inference(tmp_path: Path) -> None:
    assert not toy(tmp_path, "", {"x": ""}).devices[0].capabilities.inference


def test_slow_files_are_read_beside(tmp_path: Path) -> None:
    bench = toy(tmp_path, 'metrics.power = { path = "p", unit = "W", slow = true }\n', {"p": "7"})
    assert bench.read().readings["power_w"] is Absent.FIRST_SAMPLE
    deadline = time.monotonic() + 20
    while not is_present(bench.read().readings["power_w"]) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert bench.read().readings["power_w"] == 7.0
    bench.source.close()


def test_a_counter_stands_still_only_where_it_was_read(tmp_path: Path) -> None:
    rules = 'metrics.heartbeat = { path = "n", min_interval = "60s", health = { stalled_after = "10s" } }\n'
    bench = toy(tmp_path, rules, {"n": "5"})
    assert not bench.read().faults
    assert not bench.read(after_s=30.0).faults
    assert [fault.words for fault in bench.read(after_s=30.0).faults] == [
        "heartbeat has stood at 5 for 60 s: the chip does not move"
    ]
    assert not bench.read({"sys/class/toy/toy0/n": "6"}, after_s=60.0).faults


def test_what_is_not_read_in_time_does_not_stand_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = 'metrics.heartbeat = { path = "n", slow = true, health = { stalled_after = "10s" } }\n'
    bench = toy(tmp_path, rules, {"n": "5"})
    deadline = time.monotonic() + 20
    while not is_present(bench.read().readings["heartbeat_total"]) and time.monotonic() < deadline:
        time.sleep(0.005)
    go_on, read = threading.Event(), Tree._read

    def hanging(full: str, path: str, limit: int, flags: int = 0) -> bytes:
        if full.endswith("/n"):
            go_on.wait(20)
        return read(full, path, limit, flags)

    monkeypatch.setattr(Tree, "_read", staticmethod(hanging))
    try:
        while bench.read(after_s=20.0).readings["heartbeat_total"] is not Absent.TIMED_OUT:
            assert time.monotonic() < deadline
        assert not bench.read(after_s=20.0).faults
    finally:
        go_on.set()
        bench.source.close()


def test_a_process_that_became_another_program_has_its_name(tmp_path: Path) -> None:
    bench = toy(tmp_path, 'processes.pids = { path = "pids" }\n', {"pids": "77 99999999 0"})
    (process,) = bench.read({"proc/77/comm": "bash\n", "proc/77/status": "Uid:\t4294967290\t0\n"}).processes or ()
    assert process == DeviceProcess(77, name="bash", user="4294967290")
    (process,) = bench.read({"proc/77/comm": "trainer\n"}, after_s=10.0).processes or ()
    assert process == DeviceProcess(77, name="trainer", user="4294967290")


def test_what_a_check_says(tmp_path: Path) -> None:
    root = grow(
        tmp_path,
        {
            "sys/class/acmechip/acme0/identity": "model: [red]X\x1b[0m\nserial: 1\n",
            "sys/class/acmechip/acme0/mem/hbm": "used=25\ntotal=100\n",
            "sys/class/acmechip/acme0/throttle": "0x1\n",
        },
    )
    (report,) = examine(parse_profile(ACME, "acme.toml"), root, ManualClock())
    findings = {finding.name: finding for finding in report.findings}
    assert report.device is not None
    assert "\x1b" not in report.device.name
    assert (findings["power"].absent, findings["power"].path) == (
        Absent.NOT_SUPPORTED,
        "/sys/class/acmechip/acme0/energy_pj",
    )
    assert findings["hbm.used"].value == 25.0
    assert findings["thermal, power_cap"].text == "0x1: thermal"
    assert examine(parse_profile(ACME, "acme.toml"), tmp_path / "none", ManualClock()) == ()


NAMES = ["identity", "energy_pj", "engines", "state.json", "bw", "mem/hbm", "throttle", "mem", "power/runtime_status"]
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"",
            b"0",
            b"-1",
            b"65535",
            b"1e30",
            b"[" * 50000,
            b'{"clk":{"core":{}}}',
            b"{}",
            b"nan",
            b"0x",
            b"9" * 5000,
            b"used=5\ntotal=3\n",
            b"used=-1\ntotal=1",
            b"Core0: 5%" * 9000,
            b"serial: [bold]\x1b[31m\n",
            b"DIR",
            b"LOOP",
            b"FIFO",
            b"OUT",
            b"ROOT",
            b"NOACCESS",
        ]
    ),
)


def plant(path: Path, content: bytes) -> None:
    """Something at *path* that is not always a file."""
    if path.exists() or path.is_symlink() or not path.parent.is_dir():
        return
    if content == b"DIR":
        path.mkdir()
    elif content == b"FIFO":
        os.mkfifo(path)
    elif content in (b"LOOP", b"OUT", b"ROOT"):
        path.symlink_to({b"LOOP": path.name, b"OUT": "/etc/passwd", b"ROOT": "../../../.."}[content])
    else:
        path.write_bytes(content)
        if content == b"NOACCESS":
            path.chmod(0)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(ALL)),
    st.lists(st.dictionaries(st.sampled_from(NAMES), CONTENTS, max_size=6), min_size=1, max_size=3),
)
def test_no_tree_breaks_a_read(name: str, trees: list[dict[str, bytes]]) -> None:
    text = ALL[name].replace(f'id = "{name}"', 'id = "toy"')
    profile = parse_profile(text, "x.toml")
    with tempfile.TemporaryDirectory() as folder:
        root, user = Path(folder, "tree"), Path(folder, "user")
        grow(user, {"toy.toml": ACME.replace('"acme"', '"toy"')})
        clock = ManualClock()
        source = ChipSource(root, clock, user)
        for tree in trees:
            shutil.rmtree(root, ignore_errors=True)
            chip = root / "sys/class/acmechip/acme0"
            (chip / "mem").mkdir(parents=True)
            (root / "proc/driver").mkdir(parents=True)
            for file, content in tree.items():
                plant(chip / file, content)
            clock.advance(1.0)
            for device in source.discover():
                assert device.key.isprintable()
                try:
                    sample = source.read(device.key)
                except DeviceLost:  # the tree before had another device in the same place
                    continue
                for reading in sample.readings.values():
                    assert isinstance(reading, Absent) or math.isfinite(reading)
                for pool in sample.pools:
                    assert 0 <= pool.used_bytes <= pool.total_bytes
            examine(profile, root, clock)
        source.close()


def test_links_in_a_circle_make_no_second_device(tmp_path: Path) -> None:
    profile = HEAD.replace("/sys/class/toy/toy*", '/sys/class/toy/toy*/toy*", "/sys/class/toy/toy*')
    bench = Bench(
        tmp_path,
        profile,
        {
            "sys/class/toy/toy0/a": "1",
            "sys/class/toy/toy1": "-> toy0",
            "sys/class/toy/toyloop": "-> .",
            "sys/class/toy/toy0/toyup": "-> ../../toy",
            "sys/class/toy/toyself": "-> toyself",
        },
    )
    assert len(bench.devices) == 1


def test_a_device_above_its_class_directory_is_one(tmp_path: Path) -> None:
    card = "sys/devices/pci0000:00/0000:3b:00.0"
    bench = Bench(
        tmp_path,
        HEAD.replace("/sys/class/toy/toy*", "/sys/bus/pci/devices/*/toy/toy*/device"),
        {
            "sys/bus/pci/devices/0000:3b:00.0": f"-> ../../../../{card}",
            f"{card}/toy/toy0/device": "-> ../../../0000:3b:00.0",
        },
    )
    assert len(bench.devices) == 1
