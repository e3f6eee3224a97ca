"""Names and users of programs."""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.sources.process import MAX_PID, NOBODY, ProcessIdentity, ProcessTable, UserNames
from hwdash.sources.sysfs import Tree


def make(root: Path, pid: int, comm: str, cmdline: bytes = b"", uid: int | str = 0) -> None:
    place = root / f"proc/{pid}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "comm").write_bytes(comm.encode()[:15] + b"\n")
    (place / "cmdline").write_bytes(cmdline)
    (place / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_process_that_runs_another_program_has_another_name(tmp_path: Path) -> None:
    table = ProcessTable(Tree(tmp_path))
    make(tmp_path, 77, "bash", uid="?")
    assert table.look(77, 100.0) == ProcessIdentity("bash")
    make(tmp_path, 77, "python-train", uid="?")
    assert table.look(77, 101.0).name == "bash", "not read again at every look"
    assert table.look(77, 103.0).name == "python-train"


def test_a_process_that_is_not_seen_is_looked_for_again(tmp_path: Path) -> None:
    table = ProcessTable(Tree(tmp_path))
    assert table.look(77, 100.0) == NOBODY
    make(tmp_path, 77, "late")
    assert table.look(77, 104.0).name == "late"


@pytest.mark.parametrize("pid", [0, -1, MAX_PID + 1, 2**63])
def test_what_is_no_process_id_is_nobody(tmp_path: Path, pid: int) -> None:
    make(tmp_path, pid, "wrong")
    assert ProcessTable(Tree(tmp_path)).look(pid, 1.0) == NOBODY


@pytest.mark.parametrize("uid", ["nobody", "-1", "١", "4294967296", "9" * 30])
def test_what_is_no_user_id_is_no_user(tmp_path: Path, uid: str) -> None:
    make(tmp_path, 5, "x", uid=uid)
    assert ProcessTable(Tree(tmp_path)).look(5, 1.0) == ProcessIdentity("x")


def test_a_name_that_was_cut_within_a_letter_is_completed(tmp_path: Path) -> None:
    make(tmp_path, 5, "äääääääää", "/opt/äääääääää\0".encode())
    assert ProcessTable(Tree(tmp_path)).look(5, 1.0).name == "äääääääää"


def test_users_are_named_once_they_are_known(tmp_path: Path) -> None:
    table = ProcessTable(Tree(tmp_path))
    make(tmp_path, 5, "x", uid=os.getuid())
    name = pwd.getpwuid(os.getuid()).pw_name
    assert table.look(5, 1.0).user in (str(os.getuid()), name)
    until(lambda: table.look(5, 1.0) == ProcessIdentity("x", name))


def test_a_directory_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    released = threading.Event()
    asked: list[int] = []

    def hang(uid: int) -> str:
        asked.append(uid)
        assert released.wait(10)
        return f"user\x1b{uid}"

    users = UserNames(hang)
    make(tmp_path, 5, "x", uid=1000)
    table = ProcessTable(Tree(tmp_path), users)
    try:
        assert [table.look(5, float(second)).user for second in range(9)] == ["1000"] * 9
        assert [users.of(uid) for uid in range(5000)] == [str(uid) for uid in range(5000)]
        until(lambda: asked)
        assert table.look(5, 9.0).pending
        assert asked == [1000], "one question, on one thread"
        assert len(users._wanted) == 1024
    finally:
        released.set()
    until(lambda: users.of(1000) == "user\ufffd1000")
    until(lambda: not users._asking)
    assert len(users._known) <= 1024


def test_a_user_without_a_name_is_a_number_and_asked_for_again() -> None:
    names: dict[int, str] = {}
    asked: list[int] = []
    clock = ManualClock()

    def lookup(uid: int) -> str:
        asked.append(uid)
        return names[uid]

    users = UserNames(lookup, clock)
    assert users.of(7) == "7"
    until(lambda: 7 in users._known)
    names[7] = "seven"
    assert users.of(7) == "7"
    assert asked == [7]
    clock.advance(300.0)
    until(lambda: users.of(7) == "seven")
    assert asked == [7, 7]
