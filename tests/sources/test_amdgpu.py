"""The amdgpu source over the shipped trees, and over cards that sleep, wake and go."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.reading import Absent
from hwdash.core.throttle import ThrottleReason
from hwdash.monitor.derive import throttling
from hwdash.sources.amdgpu import AmdgpuSource
from hwdash.sources.amdgpu_level import current_clock_hz, current_link, highest_clock_hz, highest_link
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree
from tests.sources.gpu_metrics_table import table
from tests.sources.sysfs_tree import (
    HARMLESS_TO_READ,
    TREES,
    TreeBox,
    check_tree,
    spy_on_opening,
)

RX, RX_ASLEEP = "amd:0000:03:00.0", "amd:0000:23:00.0"
MI300 = "amd:0000:0c:00.0"
NAMES = sorted(path.name for path in TREES.glob("amd-*") if (path / "sys/class/drm").exists())


class Box(TreeBox):
    """A changeable copy of a shipped tree with a source over it."""

    def __init__(self, name: str, place: Path) -> None:
        super().__init__(name, place)
        self.source = AmdgpuSource(self.root, self.clock)


@pytest.fixture
def workstation(tmp_path: Path) -> Box:
    return Box("amd-rx7900", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_trees(name: str) -> None:
    check_tree(name, AmdgpuSource(TREES / name, ManualClock()))


def test_all_shipped_trees_are_tested() -> None:
    assert NAMES == ["amd-apu", "amd-mi300", "amd-rx7900"]


def test_a_machine_without_a_card(tmp_path: Path) -> None:
    source = AmdgpuSource(tmp_path)
    assert source.discover() == []
    assert source.problem == ""
    with pytest.raises(DeviceLost, match="no GPU amd:"):
        source.read(RX)
    source.close()


def test_nothing_of_a_sleeping_card_is_opened(workstation: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = str(workstation.device("0000:23:00.0"))
    opened = spy_on_opening(monkeypatch)
    for _ in range(2):
        sample = workstation.read(RX_ASLEEP)
        assert set(sample.readings.values()) == {Absent.SUSPENDED}
        assert sample.throttle_flags is None
    assert {Path(path).name for path in opened if path.startswith(asleep)} <= HARMLESS_TO_READ
    opened.clear()
    workstation.source.read(RX)
    assert any(path.endswith("gpu_busy_percent") for path in opened)
    assert not any(path.endswith("pcie_bw") for path in opened)


def test_a_rescan_leaves_a_card_to_its_own_reader(workstation: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    workstation.read(RX)
    card = str(workstation.device("0000:03:00.0"))
    opened = spy_on_opening(monkeypatch)
    workstation.source.discover()
    assert {Path(path).name for path in opened if path.startswith(card)} <= HARMLESS_TO_READ
    workstation.write("0000:03:00.0", hwmon__hwmon5__power1_cap="200000000\n")
    assert workstation.rescan(RX).limits.power_w == 200.0


def test_a_card_wakes_and_falls_asleep_again(workstation: Box) -> None:
    workstation.source.discover()
    workstation.write("0000:23:00.0", power__runtime_status="active\n", power_state="D0\n")
    awake = workstation.source.read(RX_ASLEEP)
    assert awake.readings["temperature_c"] == 64.0
    (_, device) = workstation.source.discover()
    assert device.visible_as == "GPU-77aa77aa77aa77aa"
    assert device.limits.power_w == 355.0
    for status, state in (("suspended\n", "D0\n"), ("active\n", "D3hot\n"), ("suspending\n", "unknown\n")):
        workstation.write("0000:23:00.0", power__runtime_status=status, power_state=state)
        asleep = workstation.read(RX_ASLEEP)
        assert asleep.readings == dict.fromkeys(awake.readings, Absent.SUSPENDED)
    assert workstation.source.discover()[1] == device
    workstation.write("0000:23:00.0", power__runtime_status="active\n", power_state="unknown\n")
    assert workstation.read(RX_ASLEEP).readings["power_w"] == 353.0


def test_a_card_that_is_unbound_and_comes_back_under_another_number(workstation: Box) -> None:
    workstation.source.discover()
    cards = workstation.root / "sys/class/drm"
    link = (cards / "card1").readlink()
    (cards / "card1").unlink()
    with pytest.raises(DeviceLost):
        workstation.source.read(RX)
    (cards / "card1").symlink_to((cards / "card2").readlink())
    with pytest.raises(DeviceLost):
        workstation.source.read(RX)
    (cards / "card1").unlink()
    assert [device.key for device in workstation.source.discover()] == [RX_ASLEEP]
    (cards / "card10").symlink_to(link)
    assert workstation.read(RX).readings["power_w"] == 353.0


def test_a_card_that_answers_with_errors_only_is_lost(workstation: Box) -> None:
    workstation.source.discover()
    device = workstation.device("0000:03:00.0")
    for path in list(device.rglob("*")):
        if path.is_file() and path.name not in HARMLESS_TO_READ and not path.is_symlink():
            path.unlink()
            path.mkdir()
    with pytest.raises(DeviceLost, match="errors only"):
        workstation.source.read(RX)


def test_counters_of_an_instinct_become_a_duty(tmp_path: Path) -> None:
    box = Box("amd-mi300", tmp_path)
    first = box.read(MI300)
    box.clock.advance(2.0)
    later = table((1, 6), accumulation=102_000, prochot=0, ppt=41_500, socket_thm=0, vr_thm=0, hbm_thm=12)
    box.write("0000:0c:00.0", gpu_metrics=later)
    second = box.source.read(MI300)
    duties = {activity.reason: activity.duty for activity in throttling(first, second)}
    assert duties[ThrottleReason.POWER_CAP] == pytest.approx(0.75)
    assert duties[ThrottleReason.MEMORY_THERMAL] == 0.0


def test_an_unknown_table_costs_the_throttle_reasons_and_is_said_once(
    workstation: Box, caplog: pytest.LogCaptureFixture
) -> None:
    workstation.write("0000:03:00.0", gpu_metrics=bytes((0, 2, 1, 9)) + bytes(508))
    with caplog.at_level(logging.WARNING):
        samples = [workstation.read(RX) for _ in range(3)]
    assert samples[-1].readings["temperature_c"] == 64.0
    assert (samples[-1].throttle_flags, samples[-1].throttle_known) == (None, frozenset())
    assert samples[-1].readings["energy_j"] is Absent.BAD_VALUE
    assert [record.getMessage() for record in caplog.records] == [
        "0000:03:00.0: gpu_metrics version 1.9 (a list of attributes) is not known; its throttle reasons are not known"
    ]


def test_the_table_stands_in_for_missing_files(workstation: Box) -> None:
    device = workstation.device("0000:03:00.0")
    shutil.rmtree(device / "hwmon")
    for name in ("gpu_busy_percent", "mem_busy_percent", "pp_dpm_sclk", "pp_dpm_mclk", "pp_dpm_pcie"):
        (device / name).unlink()
    for name in ("current_link_speed", "current_link_width"):
        (device / name).unlink()
    readings = workstation.read(RX).readings
    names = ("utilization", "memory_bandwidth_utilization", "temperature_c", "hotspot_temperature_c", "power_w",
             "clock_hz", "memory_clock_hz", "fan_rpm", "pcie_link_generation", "pcie_link_width")  # fmt: skip
    values = [readings[name] for name in names]
    assert values == [0.99, 0.61, 64.0, 83.0, 353.0, 2.371e9, 1.249e9, 1733.0, 4.0, 16.0]


def test_a_fan_that_stands_still_and_a_sensor_that_is_not_there(workstation: Box) -> None:
    hwmon = "hwmon__hwmon5__"
    workstation.write(
        "0000:03:00.0", **{f"{hwmon}fan1_input": "0\n", f"{hwmon}pwm1": "0\n", f"{hwmon}temp3_input": "0xFFFF\n"}
    )
    readings = workstation.read(RX).readings
    assert (readings["fan_rpm"], readings["fan_ratio"]) == (0.0, 0.0)
    assert readings["memory_temperature_c"] == 76.0  # from the table
    workstation.write("0000:03:00.0", gpu_metrics=b"")
    assert workstation.read(RX).readings["memory_temperature_c"] is Absent.BAD_VALUE


def test_many_hwmons_and_names_with_escapes(workstation: Box) -> None:
    device = workstation.device("0000:03:00.0")
    for number in range(11):
        folder = device / f"hwmon/hwmon{number + 100}"
        folder.mkdir()
        (folder / "name").write_text("other\n")
        (folder / "temp1_input").write_text("1000\n")
    (device / "product_name").write_bytes(b"\x1b[31m[bold]Radeon\x07\n")
    (found, _) = workstation.source.discover()
    assert found.name == "\N{REPLACEMENT CHARACTER}[31m[bold]Radeon\N{REPLACEMENT CHARACTER}"
    assert workstation.source.read(RX).readings["temperature_c"] == 64.0


def test_the_free_share_of_the_hosts_memory_is_what_the_host_has(workstation: Box) -> None:
    (workstation.root / "proc/meminfo").write_text("MemTotal: 16000 kB\nMemAvailable: 4000 kB\n")
    vram, gtt = workstation.read(RX).pools
    assert vram.free_bytes == 16_089_350_144
    assert gtt.free_bytes == 4_096_000


@given(st.text(max_size=300))
def test_level_tables(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "levels").write_text(text, errors="replace")
        tree = Tree(Path(place))
        clock = current_clock_hz(tree, "levels")
        assert isinstance(clock, Absent) or 0 <= clock <= 1e10
        assert current_link(tree, "levels") is not None
        assert (highest_clock_hz(tree, "levels") or 1.0) > 0
        assert highest_link(tree, "levels") is None or isinstance(current_link(tree, "levels"), Absent | tuple)
