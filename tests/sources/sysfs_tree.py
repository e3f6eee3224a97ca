"""The shipped sysfs trees and what must be read from them, and copies of them that may be changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.sources.source import Source

TREES = Path(__file__).parents[2] / "sample_data" / "sysfs"

HARMLESS_TO_READ = frozenset({"uevent", "runtime_status", "power_state", "revision"})
"""Files of a sleeping card that the kernel answers itself."""


def copy_tree(name: str, to: Path) -> Path:
    """A copy of the shipped tree *name* that may be changed."""
    return Path(shutil.copytree(TREES / name, to / name, symlinks=True))


class TreeBox:
    """A changeable copy of a shipped tree; who builds on it puts a source over it."""

    source: Source

    def __init__(self, name: str, place: Path) -> None:
        self.root = copy_tree(name, place)
        self.clock = ManualClock()

    def device(self, slot: str) -> Path:
        """The folder of the device at the PCI address *slot*."""
        return next(path for path in (self.root / "sys/devices").rglob(slot) if path.is_dir())

    def write(self, slot: str, **files: str | bytes) -> None:
        """Write files of that device; ``__`` in a name stands for a slash."""
        for name, content in files.items():
            path = self.device(slot) / name.replace("__", "/")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def read(self, key: str, fresh: bool = False) -> Sample:
        """A sample after a rescan."""
        self.source.discover()
        return self.source.read(key)

    def rescan(self, key: str) -> Device:
        """The device *key* as it is known one read after a rescan."""
        self.read(key)
        return next(device for device in self.source.discover() if device.key == key)


def spy_on_opening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real paths of all files and folders that are opened from now on."""
    opened: list[str] = []
    real_open, real_list = os.open, os.listdir

    def spy_open(path: str, flags: int, *rest: int, **named: int) -> int:
        opened.append(os.path.realpath(path))
        return real_open(path, flags, *rest, **named)

    def spy_list(path: str = ".") -> list[str]:
        opened.append(os.path.realpath(path))
        return real_list(path)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "listdir", spy_list)
    return opened


def check_tree(name: str, source: Source) -> None:
    """Compare what *source*, made for the shipped tree *name*, reads with its ``expected.json``."""
    expected = json.loads((TREES / name / "expected.json").read_text())
    devices = source.discover()
    assert [device.key for device in devices] == [entry["device"]["key"] for entry in expected["devices"]]
    for device, entry in zip(devices, expected["devices"], strict=True):
        found = json.loads(json.dumps(asdict(device)))
        for field, value in entry["device"].items():
            known = found[field]
            assert ({key: known[key] for key in value} if isinstance(value, dict) else known) == value, (name, field)
        check_sample(source.read(device.key), entry)


def check_sample(sample: Sample, entry: Mapping[str, Any]) -> None:
    """Compare *sample* with the part of an ``expected.json`` about its device."""
    readings = {name: value.value if isinstance(value, Absent) else value for name, value in sample.readings.items()}
    expected = {
        name: value if isinstance(value, str) else pytest.approx(value) for name, value in entry["readings"].items()
    }
    assert readings == expected
    pools = [{key: value for key, value in asdict(pool).items() if key != "numa_node"} for pool in sample.pools]
    assert pools == entry["pools"]
    flags = entry["throttle_flags"]
    assert sample.throttle_flags == (None if flags is None else frozenset(flags))
    assert sample.throttle_seconds == entry.get("throttle_seconds", {})
    assert sample.throttle_flags is None or sample.throttle_flags <= sample.throttle_known | {"unknown"}
    assert sample.clock_is_set == entry.get("clock_is_set", False)
    assert [fault.code for fault in sample.faults] == entry.get("faults", [])
    assert sample.unknown_flags == entry.get("unknown_flags")
