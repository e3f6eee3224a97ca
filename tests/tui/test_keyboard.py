"""The dashboard in a real pseudo-terminal: keys, a lone Escape, the end by a signal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.place import home


@contextmanager
def dashboard(stderr: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The dashboard of a throw-away home, drawn; its process and the terminal's other end; *stderr* may be elsewhere."""
    with home(TERM="xterm-256color", LINES="24", COLUMNS="80") as environment:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "hwdash"],
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave if stderr is None else stderr,
            start_new_session=True,
        )
        os.close(slave)
        try:
            read_until(master, b"Quit")
            yield process, master
        finally:
            process.kill()
            process.wait()
            os.close(master)


def read_until(master: int, words: bytes, within_s: float = 30.0) -> None:
    """Read what is drawn until *words* come."""
    seen, deadline = b"", time.monotonic() + within_s
    while words not in seen:
        assert time.monotonic() < deadline, seen[-2000:]
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)


def ended(process: subprocess.Popen[bytes], master: int, within_s: float = 15.0) -> int:
    """The exit code; what the process still draws is taken from the terminal, so that it can leave."""
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        assert time.monotonic() < deadline
        if select.select([master], [], [], 0.05)[0]:
            try:
                os.read(master, 65536)
            except OSError:
                process.wait(within_s)
    return process.returncode


def test_it_is_drawn_on_standard_output(tmp_path: Path) -> None:
    with (tmp_path / "err.txt").open("wb") as errors, dashboard(errors.fileno()) as (process, master):
        os.write(master, b"q")
        read_until(master, b"\x1b[?1049l")
        assert ended(process, master) == 0
    assert (tmp_path / "err.txt").read_bytes() == b""


def test_keys_and_a_lone_escape_arrive() -> None:
    with dashboard() as (process, master):
        os.write(master, b"?")
        read_until(master, b"Help")
        os.write(master, b"\x1b")
        read_until(master, b"sorted by")
        os.write(master, b"q")
        assert ended(process, master) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    with dashboard() as (process, master):
        process.send_signal(number)
        read_until(master, b"\x1b[?1049l")
        ended(process, master)
