"""The programs on an NVIDIA GPU."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pynvml
import pytest

from hwdash.core.process import DeviceProcess, ProcessKind
from hwdash.core.reading import Absent
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import FakeCard

LISTS = ("Compute", "MPSCompute", "Graphics")


def make(root: Path, pid: int, comm: str, cmdline: bytes = b"", uid: int | str = 0) -> None:
    place = root / f"proc/{pid}"
    place.mkdir(parents=True)
    (place / "comm").write_text(f"{comm}\n")
    (place / "cmdline").write_bytes(cmdline)
    (place / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")


def test_programs_with_their_names_and_users(tmp_path: Path) -> None:
    make(tmp_path, 10, "python3", b"/usr/bin/python3\0train.py\0", os.getuid())
    make(tmp_path, 11, "Xorg", uid=54321)
    make(tmp_path, 12, "nvidia-cuda-mps", b"/usr/bin/nvidia-cuda-mps-server\0")
    card = FakeCard(processes={"Compute": [(10, 2**30)], "Graphics": [(11, 2**20)], "MPSCompute": [(12, None)]})
    user = pwd.getpwuid(os.getuid()).pw_name
    rig = Rig(card, sysroot=tmp_path)
    told = (
        DeviceProcess(10, ProcessKind.COMPUTE, "python3", user, 2**30),
        DeviceProcess(11, ProcessKind.GRAPHICS, "Xorg", "54321", 2**20),
        DeviceProcess(12, ProcessKind.COMPUTE, "nvidia-cuda-mps-server", "root", None),
    )
    deadline = time.monotonic() + 10.0
    while rig.read(after_s=0.001).processes != told:
        assert time.monotonic() < deadline, "the names of users come from another thread"
        time.sleep(0.002)


def test_an_empty_list_is_one() -> None:
    assert Rig().read().processes == ()


def test_a_program_that_the_system_does_not_show_has_no_name(tmp_path: Path) -> None:
    rig = Rig(FakeCard(processes={"Compute": [(77, 5)]}), sysroot=tmp_path)
    assert rig.read().processes == (DeviceProcess(77, memory_bytes=5),)


@pytest.mark.parametrize(
    ("comm", "cmdline", "name"),
    [
        ("evil\x1b[2J", b"", "evil\ufffd[2J"),
        ("fifteen-letters", b"/opt/fifteen-letters-and-more --flag\0", "fifteen-letters-and-more"),
        ("fifteen-letters", b"something else\0", "fifteen-letters"),
        ("fifteen-letters", b"\xff\xfe", "fifteen-letters"),
    ],
)
def test_names_are_safe_and_whole(tmp_path: Path, comm: str, cmdline: bytes, name: str) -> None:
    make(tmp_path, 10, comm, cmdline, "nobody")
    processes = Rig(FakeCard(processes={"Compute": [(10, 1)]}), sysroot=tmp_path).read().processes
    assert processes == (DeviceProcess(10, name=name, memory_bytes=1),)


def test_a_program_of_both_kinds_computes() -> None:
    processes = Rig(FakeCard(processes={"Compute": [(2**22, 8)], "Graphics": [(2**22, 4)]})).read().processes
    assert processes == (DeviceProcess(2**22, ProcessKind.COMPUTE, memory_bytes=8),)


@pytest.mark.parametrize("garbage", [0, 2**32 - 1, -5])
def test_records_of_another_shape_are_asked_for_in_the_older_version(garbage: int) -> None:
    card = FakeCard(processes={"Compute_v3": [(10, 1), (garbage, 2**64 - 1)], "Compute_v2": [(10, 1), (2**22, 2)]})
    rig = Rig(card)
    for _ in range(2):
        processes = rig.read(after_s=6.0).processes
        assert isinstance(processes, tuple)
        assert [process.pid for process in processes] == [10, 2**22]
    assert rig.driver.calls["nvmlDeviceGetComputeRunningProcesses_v3"] == 1


def test_nonsense_in_every_version_is_no_list() -> None:
    rig = Rig(FakeCard(processes={"Compute": [(0, 1)]}))
    for _ in range(2):
        assert rig.read(after_s=6.0).processes is Absent.BAD_VALUE


def test_absurd_memory_is_unknown() -> None:
    processes = Rig(FakeCard(processes={"Compute": [(2**22, 2**64 - 1), (2**22 - 1, -1)]})).read().processes
    assert isinstance(processes, tuple)
    assert [process.memory_bytes for process in processes] == [None, None]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, Absent.NO_PERMISSION),
        (pynvml.NVML_ERROR_UNKNOWN, Absent.ERROR),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, None),
    ],
)
def test_why_there_is_no_list(code: int, told: Absent | None) -> None:
    card = FakeCard()
    card.errors |= {f"nvmlDeviceGet{name}RunningProcesses_v{n}": code for name in LISTS for n in (2, 3)}
    assert Rig(card).read().processes is told


def test_a_list_that_only_the_driver_of_displays_lacks_is_left_out() -> None:
    card = FakeCard(processes={"Compute": [(2**22, 8)]})
    card.errors |= {f"nvmlDeviceGetGraphicsRunningProcesses_v{n}": pynvml.NVML_ERROR_NOT_SUPPORTED for n in (2, 3)}
    assert Rig(card).read().processes == (DeviceProcess(2**22, memory_bytes=8),)


def test_programs_are_asked_for_now_and_then() -> None:
    rig = Rig()
    rig.read()
    rig.card.processes["Compute"] = [(2**22, 8)]
    found = [rig.read().processes for _ in range(6)]
    assert found[-1] == (DeviceProcess(2**22, memory_bytes=8),)
    assert rig.driver.calls["nvmlDeviceGetComputeRunningProcesses_v3"] <= 3
    assert rig.driver.calls["nvmlDeviceGetGraphicsRunningProcesses_v3"] <= 2
