"""The sources of graphics cards over trees in which files are missing, absurd, or something else altogether."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.clock import Clock, ManualClock
from hwdash.core.device import Device
from hwdash.core.metric import METRICS, Unit
from hwdash.core.reading import is_present
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.amdgpu import AmdgpuSource
from hwdash.sources.intel import IntelGpuSource
from hwdash.sources.source import DeviceLost, Source
from tests.sources.sysfs_tree import copy_tree

MakeSource = Callable[[Path, Clock], Source]
Accident = tuple[int, str | bytes]

SOURCES: dict[str, MakeSource] = {
    "amd-apu": AmdgpuSource,
    "amd-mi300": AmdgpuSource,
    "amd-rx7900": AmdgpuSource,
    "intel-arc-xe": IntelGpuSource,
    "intel-i915": IntelGpuSource,
}
"""What reads each shipped tree."""

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


@pytest.mark.parametrize(("name", "make_source"), SOURCES.items())
@settings(max_examples=15, deadline=None)
@given(accidents=ACCIDENTS)
def test_hostile_trees(name: str, make_source: MakeSource, accidents: list[Accident]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = copy_tree(name, Path(place))
        wreck(root, accidents)
        survive(make_source(root, ManualClock()))


@pytest.mark.parametrize("name", ["amd-mi300", "intel-arc-xe"])
@settings(max_examples=15, deadline=None)
@given(accidents=ACCIDENTS)
def test_files_that_change_under_a_running_source(name: str, accidents: list[Accident]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = copy_tree(name, Path(place))
        clock = ManualClock()
        source = SOURCES[name](root, clock)
        for device in source.discover():
            source.read(device.key)
        clock.advance(1.0)
        wreck(root, accidents)
        survive(source)


def wreck(root: Path, accidents: list[Accident]) -> None:
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
