"""Lock, socket and log: who may have them, and what is said to those who may not."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwdash.core.errors import DaemonUnreachable
from hwdash.daemon.lock import held_lock
from hwdash.daemon.logfile import start_logging
from hwdash.daemon.socket import listening
from tests.daemon.living import short_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_one_lock_a_state_directory(tmp_path: Path) -> None:
    path = tmp_path / "state" / "hwdash" / "daemon.lock"
    socket = tmp_path / "my run" / "s"
    with held_lock(path, socket):
        assert mode(path.parent) == 0o700
        assert path.read_text() == f"{os.getpid()}\n{socket}\n"
        with pytest.raises(DaemonUnreachable) as e, held_lock(path, tmp_path / "other"):
            pass
        assert e.value.exit_code == 4
        assert e.value.message == (
            f"a daemon already runs for {path.parent} (pid {os.getpid()}) and serves on {socket}: "
            f"use --socket '{socket}', or stop it with: hwdash --socket '{socket}' stop"
        )
        path.write_text("17\n")
        with pytest.raises(DaemonUnreachable, match=r"\(pid 17\); stop it with: hwdash stop$"), held_lock(path, socket):
            pass
    with held_lock(path, socket):
        pass


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DaemonUnreachable, match="XDG_STATE_HOME"),
        held_lock(tmp_path / "file" / "lock", tmp_path / "s"),
    ):
        pass


def test_the_socket_is_private_and_goes_away(directory: Path) -> None:
    path = directory / "run" / "s"
    with listening(path) as listener:
        assert mode(path.parent) == 0o700
        assert mode(path) == 0o600
        assert listener.getsockname() == str(path)
    assert not path.exists()


def test_a_stale_socket_is_replaced(directory: Path) -> None:
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_answers_is_left_alone(directory: Path) -> None:
    path = directory / "s"
    with listening(path):
        with pytest.raises(DaemonUnreachable, match="another state directory answers"), listening(path):
            pass
        assert path.exists()


def test_a_socket_laid_over_ours_is_not_removed(directory: Path) -> None:
    path = directory / "s"
    with listening(path):
        path.unlink()
        path.touch()
    assert path.exists()


def test_unsafe_places_are_refused(directory: Path) -> None:
    file = directory / "file"
    file.touch()
    with pytest.raises(DaemonUnreachable, match="not a socket"), listening(file):
        pass
    assert file.exists()
    with pytest.raises(DaemonUnreachable, match="longer than 107 bytes"), listening(directory / ("x" * 120)):
        pass
    (directory / "link").symlink_to(directory)
    with pytest.raises(DaemonUnreachable, match="symbolic link"), listening(directory / "link" / "s"):
        pass
    directory.chmod(0o755)
    with pytest.raises(DaemonUnreachable, match="open to others"), listening(directory / "s"):
        pass
    assert not (directory / "s").exists()


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    level, before, raises = root.level, list(root.handlers), logging.raiseExceptions
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.raiseExceptions = raises


@pytest.mark.usefixtures("root_logger")
def test_the_log_is_private_and_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start_logging(tmp_path / "daemon.log", verbose=False, foreground=True) == ""
    logging.getLogger("hwdash.x").warning("evil \x1b[2J text")
    logging.getLogger("hwdash.x").info("quiet")
    text = (tmp_path / "daemon.log").read_text()
    assert mode(tmp_path / "daemon.log") == 0o600
    assert "\x1b" not in text
    assert "quiet" in text
    assert "quiet" not in capsys.readouterr().err


@pytest.mark.usefixtures("root_logger")
def test_a_log_that_cannot_be_written_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").mkdir()
    assert "no log is written" in start_logging(tmp_path / "daemon.log", verbose=False, foreground=False)
