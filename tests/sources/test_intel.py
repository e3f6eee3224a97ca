"""The Intel source over the shipped trees, its counters, and its throttle reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.monitor.derive import derive
from hwdash.sources.intel import IntelGpuSource
from hwdash.sources.intel_throttle import find_reasons, read_reasons, reasons_known
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree
from tests.sources.sysfs_tree import (
    HARMLESS_TO_READ,
    TREES,
    TreeBox,
    check_tree,
    spy_on_opening,
)

ARC, ARC_ASLEEP = "intel:0000:03:00.0", "intel:0000:09:00.0"
INTEGRATED = "intel:0000:00:02.0"
NAMES = ["intel-arc-xe", "intel-i915"]


class Box(TreeBox):
    """A changeable copy of a shipped tree with a source over it."""

    def __init__(self, name: str, place: Path) -> None:
        super().__init__(name, place)
        self.source = IntelGpuSource(self.root, self.clock)

    def after(self, seconds: float, slot: str, **files: str | bytes) -> Sample:
        """The next sample, *seconds* later and with *files* changed."""
        self.clock.advance(seconds)
        self.write(slot, **files)
        return self.source.read(f"intel:{slot}")


@pytest.fixture
def arc(tmp_path: Path) -> Box:
    return Box("intel-arc-xe", tmp_path)


@pytest.fixture
def laptop(tmp_path: Path) -> Box:
    return Box("intel-i915", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_trees(name: str) -> None:
    check_tree(name, IntelGpuSource(TREES / name, ManualClock()))


def test_a_machine_without_a_card(tmp_path: Path) -> None:
    source = IntelGpuSource(tmp_path)
    assert source.discover() == []
    assert source.problem == ""
    with pytest.raises(DeviceLost):
        source.read(ARC)
    source.close()


def test_nothing_of_a_sleeping_card_is_opened(arc: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = str(arc.device("0000:09:00.0"))
    opened = spy_on_opening(monkeypatch)
    for _ in range(2):
        assert set(arc.read(ARC_ASLEEP).readings.values()) == {Absent.SUSPENDED}
    assert {Path(path).name for path in opened if path.startswith(asleep)} <= HARMLESS_TO_READ


def test_power_comes_from_the_energy_of_the_card_and_a_reset_is_a_gap(arc: Box) -> None:
    (device, _) = arc.source.discover()
    energy = "hwmon__hwmon7__energy1_input"
    slot = "0000:03:00.0"
    first = arc.after(0.0, slot)
    second = arc.after(2.0, slot, **{energy: f"{91_234_567_890 + 340_000_000}\n"})
    assert derive(first, second, device).readings["power_w"] == pytest.approx(170.0)
    reset = arc.after(2.0, slot, **{energy: "5\n"})
    assert derive(second, reset, device).readings["power_w"] is Absent.FIRST_SAMPLE


def test_a_package_counter_stands_in_for_the_card(arc: Box) -> None:
    hwmon = arc.device("0000:03:00.0") / "hwmon/hwmon7"
    (hwmon / "energy1_input").unlink()
    (hwmon / "power1_max").write_text("200000000\n")
    (hwmon / "power2_max").write_text("190000000\n")
    (device, _) = arc.source.discover()
    assert arc.source.read(ARC).readings["energy_j"] == pytest.approx(81_234.56789)
    assert device.limits.power_w == 190.0


def test_utilisation_is_the_share_of_time_without_sleep(arc: Box) -> None:
    slot, idle = "0000:03:00.0", "tile0__gt0__gtidle__idle_residency_ms"
    arc.source.discover()
    assert arc.after(0.0, slot, **{idle: "1000\n"}).readings["utilization"] is Absent.FIRST_SAMPLE
    assert arc.after(2.0, slot, **{idle: "1500\n"}).readings["utilization"] == pytest.approx(0.75)
    assert arc.after(1.0, slot, **{idle: "2501\n"}).readings["utilization"] == 0.0
    assert arc.after(1.0, slot, **{idle: "7\n"}).readings["utilization"] is Absent.FIRST_SAMPLE
    assert arc.after(1.0, slot, **{idle: "7\n"}).readings["utilization"] == 1.0
    assert arc.after(1.0, slot, power__runtime_status="suspended\n").readings["utilization"] is Absent.SUSPENDED
    woken = arc.after(3600.0, slot, power__runtime_status="active\n")
    assert woken.readings["utilization"] is Absent.FIRST_SAMPLE


def test_a_unit_that_never_sleeps_has_no_utilisation(laptop: Box) -> None:
    card = laptop.device("0000:03:00.0") / "drm/card1"
    (card / "gt/gt0/rc6_enable").write_text("0\n")
    assert laptop.read(ARC).readings["utilization"] is Absent.NOT_SUPPORTED


def test_clocks_of_early_drivers(arc: Box, laptop: Box) -> None:
    arc.write("0000:03:00.0", tile0__gt0__freq0__act_freq="2350000000\n", tile0__gt0__freq0__rp0_freq="2850000000\n")
    assert arc.read(ARC).readings["clock_hz"] == 2.35e9
    assert arc.rescan(ARC).limits.clock_hz == 2.85e9
    assert not arc.source.read(ARC).clock_is_set
    for path in (laptop.device("0000:00:02.0") / "drm/card0/gt/gt0").glob("rps_*"):
        path.unlink()
    laptop.write("0000:00:02.0", drm__card0__gt_act_freq_mhz="450\n")
    assert laptop.read(INTEGRATED).readings["clock_hz"] == 4.5e8


def test_power_limits_that_are_off_are_passed_over(laptop: Box) -> None:
    hwmon = laptop.device("0000:03:00.0") / "hwmon/hwmon6"
    (hwmon / "power1_max").write_text("0\n")
    assert laptop.rescan(ARC).limits.power_w == 300.0
    (hwmon / "power1_crit").unlink()
    assert laptop.rescan(ARC).limits.power_w == 225.0
    (hwmon / "power1_rated_max").write_text("0\n")
    assert laptop.rescan(ARC).limits.power_w is None


def test_memory_that_is_not_told_is_absent(laptop: Box) -> None:
    (laptop.device("0000:03:00.0") / "drm/card1/lmem_avail_bytes").write_text("99999999999999\n")
    sample = laptop.read(ARC)
    assert sample.pools == ()
    assert sample.readings["memory_used_bytes"] is Absent.BAD_VALUE


def folder_of(place: Path, **files: str) -> Path:
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / name).write_text(content)
    return place


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("reason_pl1", ThrottleClass.POWER),
        ("reason_psys_pl2", ThrottleClass.POWER),
        ("throttle_reason_pl4", ThrottleClass.POWER),
        ("reason_thermal", ThrottleClass.THERMAL),
        ("reason_prochot", ThrottleClass.THERMAL),
        ("reason_mem_thermal", ThrottleClass.THERMAL),
        ("throttle_reason_vr_thermalert", ThrottleClass.THERMAL),
        ("reason_ratl", ThrottleClass.THERMAL),
        ("reason_vr_tdc", ThrottleClass.CURRENT),
        ("reason_iccmax", ThrottleClass.CURRENT),
    ],
)
def test_each_reason_has_its_class(tmp_path: Path, name: str, category: ThrottleClass) -> None:
    tree = Tree(folder_of(tmp_path / "root").parent)
    folder_of(tmp_path / "root", **{name: "1\n", "reason_other": "0\n"})
    found = find_reasons(tree, "root")
    assert found is not None
    flags, unknown = read_reasons(tree, (found,))
    assert flags is not None
    assert [flag.category for flag in flags] == [category]
    assert unknown is None
    assert flags == reasons_known((found,))


def test_reasons_without_a_word_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", status="1\n", reason_p0_freq="1\n", reason_pl1="1\n", reason_new="1\n")
    folder_of(tmp_path / "b", status="1\n", reason_pl1="0\n")
    tree = Tree(tmp_path)
    folders = tuple(found for name in ("a", "b") if (found := find_reasons(tree, name)) is not None)
    flags, unknown = read_reasons(tree, folders)
    assert flags == frozenset({ThrottleReason.POWER_CAP, ThrottleReason.UNKNOWN})
    assert unknown == "new, p0_freq, status"


def test_reasons_are_not_asked_for_when_nothing_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "a", throttle_reason_status="0\n", throttle_reason_pl1="1\n")
    tree = Tree(tmp_path)
    found = find_reasons(tree, "a")
    assert found is not None
    opened = spy_on_opening(monkeypatch)
    assert read_reasons(tree, (found,)) == (frozenset(), None)
    assert [Path(path).name for path in opened] == ["throttle_reason_status"]


def test_a_card_without_readable_reasons_does_not_say_that_nothing_limits_it(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", reason_pl1="?\n")
    tree = Tree(tmp_path)
    assert find_reasons(tree, "none") is None
    found = find_reasons(tree, "a")
    assert found is not None
    assert read_reasons(tree, (found,)) == (None, None)
    assert read_reasons(tree, ()) == (None, None)
