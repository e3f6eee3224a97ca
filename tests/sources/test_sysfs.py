"""Files are read below the root, in bounded pieces, and every failure has a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwdash.core.reading import Absent
from hwdash.sources.sysfs import MAX_BYTES, ReadFailure, Tree


def reason_of(tree: Tree, path: str) -> Absent:
    with pytest.raises(ReadFailure) as caught:
        tree.text(path)
    return caught.value.reason


def test_links_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("42")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2/near").write_text("42")
    (root / "inside").write_text("7")
    (root / "good").symlink_to("inside")
    (root / "bad").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "sibling").symlink_to("../root2/near")
    (root / "loop").symlink_to("loop")
    tree = Tree(root)
    assert tree.number("good", 0, 10) == 7.0
    for name in ("bad", "absolute", "sibling", "../secret", "loop"):
        assert reason_of(tree, name) is Absent.ERROR, name
        assert tree.line(name) is None


def test_a_link_is_read_without_being_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "driver").symlink_to("../../bus/drivers/amdgpu")
    (root / "away").symlink_to("../outside")
    (tmp_path / "outside/driver").symlink_to("nouveau")
    (root / "plain").write_bytes(b"\x00\xff")
    tree = Tree(root)
    assert tree.link("driver") == "amdgpu"
    assert [tree.link(name) for name in ("plain", "none", "away/driver", "a\0b", "")] == [None] * 5
    assert tree.data("plain") == b"\x00\xff"


def test_only_plain_files_and_only_so_much_of_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    tree = Tree(tmp_path)
    assert reason_of(tree, "pipe") is Absent.ERROR
    assert reason_of(tree, "folder") is Absent.ERROR
    assert reason_of(tree, "a\0b") is Absent.ERROR
    assert reason_of(tree, "none") is Absent.NOT_SUPPORTED
    assert reason_of(tree, "large/below") is Absent.NOT_SUPPORTED
    assert len(tree.text("large")) == MAX_BYTES
    assert tree.text("latin") == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(13, Absent.NO_PERMISSION), (1, Absent.NO_PERMISSION), (5, Absent.ERROR), (61, Absent.ERROR), (11, Absent.ERROR)],
)
def test_what_the_kernel_says_becomes_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: Absent
) -> None:
    (tmp_path / "temp1_input").write_text("1")

    def fail(descriptor: int, count: int) -> bytes:
        raise OSError(code, "scripted")

    monkeypatch.setattr("hwdash.sources.sysfs.os.read", fail)
    assert Tree(tmp_path).number("temp1_input", 0, 10) is reason


def test_names_come_in_their_natural_order(tmp_path: Path) -> None:
    for name in ("hwmon10", "hwmon2", "hwmon", "a!b", "x y"):
        (tmp_path / name).touch()
    assert Tree(tmp_path).names("") == ["a!b", "hwmon", "hwmon2", "hwmon10", "x y"]
    assert Tree(tmp_path).names("none") == []


def test_a_tree_can_be_held_within_folders(tmp_path: Path) -> None:
    (tmp_path / "sys/class/chip/chip0").mkdir(parents=True)
    (tmp_path / "sysadmin").mkdir()
    (tmp_path / "sysadmin/secret").write_text("42")
    (tmp_path / "sys/class/chip/chip0/good").write_text("7")
    (tmp_path / "sys/link").symlink_to("class/chip/chip0")
    (tmp_path / "sys/bad").symlink_to("../sysadmin/secret")
    (tmp_path / "sys/far").symlink_to("../sysadmin")
    (tmp_path / "sys/gone").symlink_to("nowhere")
    tree = Tree(tmp_path, ["sys", "proc/driver"])
    assert tree.number("sys/link/good", 0, 10) == 7.0
    assert tree.real("sys/link/good") == "sys/class/chip/chip0/good"
    assert tree.is_folder("sys/link")
    assert not tree.is_folder("sys/link/good")
    assert tree.exists("sys/link/good")
    assert not tree.exists("sys/gone")
    for name in ("sys/bad", "sysadmin/secret", "sys/../sysadmin/secret", "sys/far/secret"):
        assert reason_of(tree, name) is Absent.ERROR, name
        assert not tree.exists(name)
        assert tree.real(name) is None
        folder, _, last = name.rpartition("/")
        if (real := tree.real(folder)) is not None:
            with pytest.raises(ReadFailure):
                tree.text_beside(real, last)
    (tmp_path / "sys/class/chip/chip0/beside").symlink_to("good")
    assert tree.text_beside("sys/class/chip/chip0", "beside") == "7"
    assert tree.text_beside("sys/class/chip/chip0", "good") == "7"
    for last in ("..", "", "none", "a\0b"):
        with pytest.raises(ReadFailure):
            tree.text_beside("sys/class/chip/chip0", last)
    assert tree.names("sys/far") == []
    assert tree.names("sysadmin") == []


def test_the_machine_itself_can_be_held_within_folders() -> None:
    tree = Tree(Path("/"), ["sys", "proc/driver"])
    assert tree.live
    assert reason_of(tree, "etc/hostname") is Absent.ERROR
    assert reason_of(tree, "proc/self/status") is Absent.ERROR
    assert tree.is_folder("sys")
    assert tree.names("etc") == []


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    Path(os.fsdecode(folder + b"/dev\xff0")).mkdir()
    (tmp_path / "dev1").mkdir()
    (tmp_path / "größe").mkdir()
    (tmp_path / "bad").symlink_to(os.fsdecode(b"drivers/a\xffb"))
    (tmp_path / "good").symlink_to("drivers/größe")
    tree = Tree(tmp_path)
    assert tree.names("") == ["bad", "dev1", "good", "größe"]
    assert (tree.link("bad"), tree.link("good")) == (None, "größe")
