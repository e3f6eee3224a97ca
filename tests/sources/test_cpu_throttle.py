"""How long the host's processors were slowed down by heat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.reading import Absent
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.cpu_throttle import HeatLimit, ThrottleCounters
from hwdash.sources.host import HostSource
from hwdash.sources.sysfs import Tree
from tests.sources.sysfs_tree import spy_on_opening
from tests.sources.test_host import MACHINE
from tests.sources.test_numa import write

CPUS = "sys/devices/system/cpu"


def throttle(cpu: int, package: str, core: str, counts: tuple[int, int], times: tuple[int, int]) -> dict[str, str]:
    folder = f"{CPUS}/cpu{cpu}"
    return {
        f"{folder}/topology/physical_package_id": package,
        f"{folder}/topology/core_id": core,
        f"{folder}/thermal_throttle/package_throttle_count": f"{counts[0]}\n",
        f"{folder}/thermal_throttle/core_throttle_count": f"{counts[1]}\n",
        f"{folder}/thermal_throttle/package_throttle_total_time_ms": f"{times[0]}\n",
        f"{folder}/thermal_throttle/core_throttle_total_time_ms": f"{times[1]}\n",
    }


def test_packages_and_cores_are_counted_once(tmp_path: Path) -> None:
    for cpu in range(4):
        write(tmp_path, throttle(cpu, "0", str(cpu // 2), (30, 6), (1000, 500)))
    counters = ThrottleCounters(Tree(tmp_path))
    assert counters.read(0.0) == HeatLimit(False, 0.0)
    assert counters.read(1.0) == HeatLimit(False, None)
    for cpu in range(4):
        write(tmp_path, throttle(cpu, "0", str(cpu // 2), (31, 7), (1400, 700)))
    grown = counters.read(2.0)
    assert grown is not None
    assert grown.active
    assert grown.seconds == pytest.approx(0.4)
    assert counters.read(3.0) == replace(grown, active=False)


def test_kernels_that_count_events_only_have_no_seconds(tmp_path: Path) -> None:
    name = f"{CPUS}/cpu0/thermal_throttle/core_throttle_count"
    write(tmp_path, {name: "3\n"})
    counters = ThrottleCounters(Tree(tmp_path))
    assert counters.read(0.0) == HeatLimit(False, None)
    write(tmp_path, {name: "4\n"})
    assert counters.read(10.0) == HeatLimit(True, None)
    write(tmp_path, {name: "garbage\n"})
    assert counters.read(20.0) is None
    assert counters.read(21.0) is None


def test_the_host_tells_of_heat(tmp_path: Path) -> None:
    write(tmp_path, {**MACHINE} | throttle(0, "0", "0", (1, 1), (10, 10)))
    source = HostSource(tmp_path, ManualClock())
    key = source.discover()[0].key
    first = source.read(key)
    assert first.throttle_known == {ThrottleReason.THERMAL_HW}
    assert first.throttle_flags == frozenset()
    write(tmp_path, throttle(0, "0", "0", (2, 1), (510, 10)))
    second = source.read(key)
    assert second.throttle_flags == frozenset({ThrottleReason.THERMAL_HW})
    assert second.throttle_seconds == {ThrottleReason.THERMAL_HW: pytest.approx(0.5)}


def test_cores_are_looked_at_now_and_then_and_while_something_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu in range(56):
        write(tmp_path, throttle(cpu, str(cpu // 28), str(cpu), (0, 0), (0, 0)))
    counters = ThrottleCounters(Tree(tmp_path))
    opened = spy_on_opening(monkeypatch)

    def looks(*seconds: float) -> list[tuple[HeatLimit | None, bool]]:
        found = []
        for now_s in seconds:
            opened.clear()
            heat = counters.read(now_s)
            found.append((heat, len(opened) > 4))
        return found

    calm, unseen = (HeatLimit(False, 0.0), True), (HeatLimit(False, None), False)
    assert looks(*range(12)) == [calm, *[unseen] * 9, calm, unseen]
    write(tmp_path, throttle(30, "1", "30", (0, 2), (0, 900)))
    assert looks(12, 20, 21, 22) == [unseen, (HeatLimit(True, 0.9), True), (HeatLimit(False, 0.9), True), unseen]
    write(tmp_path, throttle(0, "0", "0", (1, 0), (300, 0)))
    heat, all_were_read = looks(23)[0]
    assert heat is not None
    assert heat.active
    assert heat.seconds == pytest.approx(1.2)
    assert all_were_read


def test_without_counters_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    source = HostSource(tmp_path, ManualClock())
    sample = source.read(source.discover()[0].key)
    assert sample.throttle_flags is None
    assert sample == replace(sample, throttle_known=frozenset())
    assert sample.readings["utilization"] is Absent.FIRST_SAMPLE
