"""The daemon's Unix socket: open to its owner alone, never laid over somebody else's."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hwdash.core.errors import DaemonUnreachable
from hwdash.core.paths import why_not_own_socket, why_not_private

_BACKLOG = 128
_MAX_PATH_BYTES = 107  # unix(7): sun_path holds 108 bytes with its terminating zero


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket at *path*, mode 0600 in a directory 0700 that is created where it is missing.

    A socket file that nobody answers on is replaced. The file is removed at the end, if it still is this socket's.
    Raises `DaemonUnreachable` when the place is unsafe, taken or cannot be used.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise DaemonUnreachable(
            f"the socket path {path} is longer than {_MAX_PATH_BYTES} bytes; choose a shorter one with --socket"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := why_not_private(path.parent, path.parent.lstat(), os.getuid()):
            raise DaemonUnreachable(problem)
        _make_room(path)
        listener = _bind(path)
    except OSError as error:
        raise DaemonUnreachable(
            f"the socket {path} cannot be made: {error.strerror or error}; choose another place with --socket"
        ) from None
    ours = path.lstat()
    try:
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), ours):
                path.unlink()


def _make_room(path: Path) -> None:
    """Remove an own socket file that nobody answers on; raise `DaemonUnreachable` for anything else at *path*."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if problem := why_not_own_socket(path, status, os.getuid()):
        raise DaemonUnreachable(problem)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # a full backlog: somebody listens, slowly
    raise DaemonUnreachable(
        f"a daemon of another state directory answers on {path}; stop it with: hwdash stop --socket {path}"
    )


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener
