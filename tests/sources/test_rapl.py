"""Energy of the processor packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.sources.host import HostSource
from hwdash.sources.rapl import PackageEnergy
from hwdash.sources.sysfs import Tree
from tests.sources.test_host import MACHINE
from tests.sources.test_numa import write

RANGE_UJ = 262_143_328_850


def joules(root: Path, *counts: int) -> list[object]:
    """What is read while the one package's counter goes through *counts*."""
    zone = root / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    energy = PackageEnergy(Tree(root))
    energy.find()
    found: list[object] = []
    for count in counts:
        (zone / "energy_uj").write_text(f"{count}\n")
        found.append(energy.read())
    return found


def test_a_counter_that_was_reset_adds_nothing_and_goes_on(tmp_path: Path) -> None:
    assert joules(tmp_path, 5_000_000, 100, 1_000_100) == [5.0, 5.0, 6.0]


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    before, after = joules(tmp_path, RANGE_UJ - 999_999, 1_000_000)
    assert isinstance(before, float)
    assert after == pytest.approx(before + 2.0)


def test_the_power_limit_is_that_of_all_packages(tmp_path: Path) -> None:
    limits = {
        f"sys/class/powercap/intel-rapl:{n}/{name}": text
        for n in (0, 1)
        for name, text in {"constraint_0_name": "long_term\n", "constraint_0_power_limit_uw": "350000000\n"}.items()
    }
    write(tmp_path, {**MACHINE} | limits)
    assert HostSource(tmp_path, ManualClock()).discover()[0].limits.power_w == 700.0
    write(tmp_path, {"sys/class/powercap/intel-rapl:1/constraint_0_power_limit_uw": "0\n"})
    assert HostSource(tmp_path, ManualClock()).discover()[0].limits.power_w is None
