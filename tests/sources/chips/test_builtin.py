"""The built-in profiles against the trees of ``sample_data/sysfs``, and what each tree says must be read from it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.sources.chips.loader import load_profiles
from hwdash.sources.chips.source import ChipSource

SYSFS = Path(__file__).parents[3] / "sample_data" / "sysfs"
PROFILES = Path(__file__).parents[3] / "hwdash" / "sources" / "chips" / "profiles"
TREES = (
    "amd-xdna", "custom-ai", "furiosa-rngd-warboy", "gaudi2", "google-tpu-v5e", "intel-npu", "neuron-inf2",
    "qualcomm-aic100", "rebellions-atom", "tenstorrent-p150a-n300",
)  # fmt: skip


def expected(tree: str) -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = json.loads((SYSFS / tree / "expected.json").read_text())["devices"]
    return devices


def filled(record: Any) -> dict[str, Any]:
    """The fields of *record* that say something."""
    return {name: value for name, value in dataclasses.asdict(record).items() if value is not None}


def told(device: Device, sample: Sample, like: dict[str, Any]) -> dict[str, Any]:
    """What was read, in the form of ``expected.json``; of the facts only those that *like* names."""
    readings = sample.readings
    facts: dict[str, Any] = {
        "profile": device.source.removeprefix("chips:"),
        "throttle": {str(reason): reason in (sample.throttle_flags or ()) for reason in sample.throttle_known},
        "dtypes": list(device.capabilities.dtypes),
        "compute_units": device.capabilities.compute_units,
        "processes": None
        if sample.processes is None or isinstance(sample.processes, Absent)
        else sorted(process.pid for process in sample.processes),
        "runtime": None if device.runtime is None else filled(device.runtime),
        **{
            name: getattr(device, name)
            for name in ("kind", "vendor", "name", "pci", "driver", "firmware", "visible_as")
        },
    }
    return {
        **{name: value for name, value in facts.items() if name in like},
        "metrics": {name: value for name, value in readings.items() if not isinstance(value, Absent)},
        "absent": {name: str(value) for name, value in readings.items() if isinstance(value, Absent)},
        "pools": [
            {name: value for name, value in filled(pool).items() if name.endswith(("id", "bytes"))}
            for pool in sample.pools
        ],
        "limits": filled(device.limits),
        "faults": [str(fault.level) for fault in sample.faults],
    }


def rounded(value: Any) -> Any:
    """*value* with its floats to twelve digits, so that 61.187 is what the text of a file says."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("tree", TREES)
def test_each_tree_is_read_as_it_says(tree: str) -> None:
    source = ChipSource(SYSFS / tree, ManualClock())
    devices = source.discover()
    found = [told(device, source.read(device.key), like) for device, like in zip(devices, expected(tree), strict=True)]
    assert rounded(found) == rounded(expected(tree))
    source.close()


def test_every_profile_is_valid_and_has_a_tree() -> None:
    profiles, problems = load_profiles([PROFILES])
    assert problems == ()
    shown = {device["profile"] for tree in TREES for device in expected(tree)}
    assert {profile.id for profile in profiles} == shown


def test_names_and_keys_do_not_collide() -> None:
    for tree in TREES:
        keys = [device.key for device in ChipSource(SYSFS / tree, ManualClock()).discover()]
        assert len(keys) == len(set(keys))


def copied(tree: str, folder: Path) -> Path:
    return Path(shutil.copytree(SYSFS / tree, folder / tree, symlinks=True))


def test_busy_time_of_an_intel_npu_becomes_utilisation(tmp_path: Path) -> None:
    root, clock = copied("intel-npu", tmp_path), ManualClock()
    source = ChipSource(root, clock)
    (device,) = source.discover()
    source.read(device.key)
    counter = root / "sys/class/accel/accel0/device/npu_busy_time_us"
    counter.write_text(str(int(counter.read_text()) + 1_500_000))
    clock.advance(2.0)
    assert source.read(device.key).readings["utilization"] == pytest.approx(0.75)


def test_a_heartbeat_that_stands_is_a_stalled_chip(tmp_path: Path) -> None:
    root, clock = copied("tenstorrent-p150a-n300", tmp_path), ManualClock()
    source = ChipSource(root, clock)
    moving, standing = source.discover()
    heartbeat = root / "sys/class/tenstorrent/tenstorrent!0/tt_heartbeat"
    for beat in range(12):
        heartbeat.write_text(str(beat))
        samples = [source.read(device.key) for device in (moving, standing)]
        clock.advance(1.0)
    assert [fault.level for fault in samples[0].faults] == []
    assert [str(fault.level) for fault in samples[1].faults] == ["stalled"]


def test_a_neuron_core_without_its_file_makes_the_sum_absent(tmp_path: Path) -> None:
    root = copied("neuron-inf2", tmp_path)
    (root / "sys/devices/virtual/neuron_device/neuron1/neuron_core1/stats/memory_usage/device_mem/total").write_text(
        "?"
    )
    source = ChipSource(root, ManualClock())
    device = source.discover()[1]
    assert source.read(device.key).readings["memory_used_bytes"] is Absent.BAD_VALUE


def test_no_file_of_a_tree_is_written(tmp_path: Path) -> None:
    root = copied("neuron-inf2", tmp_path)
    for path in root.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    source = ChipSource(root, ManualClock())
    for device in source.discover():
        source.read(device.key)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    for path in root.rglob("*"):
        path.chmod(0o700)
