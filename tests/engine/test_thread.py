"""How many threads a worker gets, from trees that look like ``/sys``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.engine.worker.thread import thread_count


def tree(root: Path, siblings: dict[int, str], name: str = "core_cpus_list") -> Path:
    for processor, text in siblings.items():
        folder = root / "sys/devices/system/cpu" / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / name).write_text(text + "\n")
    return root


PAIRS = {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"}


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_two_threads_of_a_core_count_once(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, PAIRS, name)
    assert thread_count(None, range(8), root) == 4
    assert thread_count(None, (0, 4), root) == 1
    assert thread_count(None, (4, 5, 6), root) == 3


def test_a_quota_leaves_fewer_and_never_more(tmp_path: Path) -> None:
    root = tree(tmp_path, PAIRS)
    assert thread_count(2, range(8), root) == 2
    assert thread_count(64, range(8), root) == 4
    assert thread_count(0, range(8), root) == 1


def test_processors_that_tell_nothing_are_cores(tmp_path: Path) -> None:
    assert thread_count(None, range(6), tmp_path) == 6
    assert thread_count(None, range(3), tree(tmp_path, {0: "", 1: "?", 2: "99999999999"})) == 3
    assert thread_count(None, (), tmp_path) == 1


def test_the_own_machine_is_counted() -> None:
    assert thread_count(None) >= 1
