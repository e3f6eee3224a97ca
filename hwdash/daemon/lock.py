"""One daemon per state directory: an exclusive lock on a file in it, held as long as the process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from hwdash.core.errors import DaemonUnreachable
from hwdash.core.text import sanitise_line

_RETRY_S = 0.02
_CONTENT_BYTES = 4200


@contextlib.contextmanager
def held_lock(path: Path, socket: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file *path*, with the own pid and *socket* inside; its directory is created for the owner alone.

    Waits up to *wait_s* seconds for another holder to end. Raises `DaemonUnreachable` that names the other daemon and its socket,
    or says why the file cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DaemonUnreachable(
            f"the state directory {path.parent} cannot be used: {error.strerror}; set XDG_STATE_HOME to one you own"
        ) from None
    try:
        _acquire(descriptor, path, time.monotonic() + wait_s)
        with contextlib.suppress(OSError):  # on a full disk the lock holds with nothing in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode() + os.fsencode(socket) + b"\n", 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DaemonUnreachable(_held_by_another(descriptor, path)) from None
            time.sleep(_RETRY_S)
        except OSError as error:
            raise DaemonUnreachable(
                f"{path} cannot be locked: {error.strerror}; set XDG_STATE_HOME to a local file system"
            ) from None
        else:
            return


def _held_by_another(descriptor: int, path: Path) -> str:
    """Who holds the lock and how to reach it: from another session its socket need not be where this one looks."""
    content = os.pread(descriptor, _CONTENT_BYTES, 0).decode(errors="replace")
    pid, _, socket = (sanitise_line(part, _CONTENT_BYTES) for part in content.partition("\n"))
    words = f"a daemon already runs for {path.parent} (pid {pid or 'unknown'})"
    if not socket:
        return f"{words}; stop it with: hwdash stop"
    option = f"--socket {shlex.quote(socket)}"
    return f"{words} and serves on {socket}: use {option}, or stop it with: hwdash {option} stop"
