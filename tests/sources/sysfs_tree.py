"""The shipped sysfs trees and what must be read from them, and copies of them with things that go wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device
from hwdash.core.metric import METRICS, Unit
from hwdash.core.reading import Absent, is_present
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.source import DeviceLost, Source

TREES = Path(__file__).parents[2] / "sample_data" / "sysfs"

HARMLESS_TO_READ = frozenset({"uevent", "runtime_status", "power_state", "revision"})
"""Files of a sleeping card that the kernel answers itself."""

CONTENTS = st.one_of(
    st.sampled_from(
        [
            b"", b"\n", b"-1\n", b"-44000\n", b"65535\n", b"4294967295\n", b"18446744073709551615\n", b"1e30\n", b"nan\n",
            b"inf\n", b"0x7\n", b"1_000\n", b"N/A\n", b"9" * 40, b"7" * 70_000, b"\x00\x01\xfe\xff" * 40, b"D0\n", b"[bold]x[/]\n",
            b"\x1b]0;evil\x07\x1b[31mred\n", "\u202egnp.exe\n".encode(), b"0: 99999999Mhz *\n", b"ue: 99999999999999999999\n",
        ]
    ),
    st.binary(max_size=200),
    st.integers(-(10**20), 10**20).map(lambda number: f"{number}\n".encode()),
)  # fmt: skip
"""What no driver should write."""

ACCIDENTS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.one_of(st.sampled_from(["remove", "folder", "loop", "pipe", "away"]), CONTENTS),
    ),
    min_size=1,
    max_size=12,
)
"""What happens to some of a tree's files, by their number."""


def copy_tree(name: str, to: Path) -> Path:
    """A copy of the shipped tree *name* that may be changed."""
    return Path(shutil.copytree(TREES / name, to / name, symlinks=True))


def wreck(root: Path, accidents: list[tuple[int, str | bytes]]) -> None:
    """Let *accidents* happen to the plain files below *root*."""
    paths = sorted(path for path in root.rglob("*/*") if path.is_file() and not path.is_symlink())
    for number, accident in accidents:
        path = paths[number % len(paths)]
        if path.is_dir():
            continue
        path.unlink(missing_ok=True)
        if isinstance(accident, bytes):
            path.write_bytes(accident)
        elif accident == "folder":
            path.mkdir()
        elif accident == "loop":
            path.symlink_to(path.name)
        elif accident == "away":
            path.symlink_to("/etc/passwd")
        elif accident == "pipe":
            os.mkfifo(path)


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


def survive(source: Source) -> None:
    """Find and read everything twice: nothing but `DeviceLost` may come out, and only sane values."""
    for _ in range(2):
        for device in source.discover():
            check_device(device)
            try:
                sample = source.read(device.key)
            except DeviceLost as lost:
                assert str(lost)
                continue
            check_sanity(sample)


def check_device(device: Device) -> None:
    """Every text of *device* is one safe line; its limits are finite and above zero."""
    for text in (device.name, device.key, device.driver, device.firmware, device.pci, device.visible_as):
        assert text is None or (text and text == sanitise_line(text, 100)), text
    for item in fields(device.limits):
        limit = getattr(device.limits, item.name)
        assert limit is None or (math.isfinite(limit) and limit > 0), item.name


def check_sanity(sample: Sample) -> None:
    """Every reading is a metric that hwdash knows, absent or within what hardware can mean."""
    for name, reading in sample.readings.items():
        unit = METRICS[name].unit
        if not is_present(reading):
            continue
        assert math.isfinite(reading), name
        low, high = {
            Unit.RATIO: (0.0, 1.0), Unit.CELSIUS: (-200.0, 200.0), Unit.WATT: (0.0, 1e4), Unit.HERTZ: (0.0, 1e10),
            Unit.RPM: (0.0, 3e4), Unit.VOLT: (0.0, 5.0),
        }.get(unit, (0.0, math.inf))  # fmt: skip
        assert low <= reading <= high, name
    for pool in sample.pools:
        assert 0 <= pool.used_bytes <= pool.total_bytes, pool
        assert 0 <= pool.free_bytes <= pool.total_bytes, pool
    for text in (sample.unknown_flags, *(fault.words for fault in sample.faults)):
        assert text is None or text == sanitise_line(text, 200)
