"""One daemon per state directory: an exclusive lock on a file in it, held as long as the process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hwdash.core.errors import DaemonUnreachable
from hwdash.core.text import sanitise_line

_RETRY_S = 0.02


@contextlib.contextmanager
def held_lock(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file *path*, with the own pid inside; its directory is created for the owner alone.

    Waits up to *wait_s* seconds for another holder to end. Raises `DaemonUnreachable` that names the other daemon,
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
        with contextlib.suppress(OSError):  # on a full disk the lock holds without the pid in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = sanitise_line(os.pread(descriptor, 32, 0).decode(errors="replace")) or "unknown"
                raise DaemonUnreachable(
                    f"a daemon already runs for {path.parent} (pid {holder}); stop it with: hwdash stop"
                ) from None
            time.sleep(_RETRY_S)
        except OSError as error:
            raise DaemonUnreachable(
                f"{path} cannot be locked: {error.strerror}; set XDG_STATE_HOME to a local file system"
            ) from None
        else:
            return
