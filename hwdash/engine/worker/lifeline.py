"""What ties a child process to the daemon: it ends when the daemon ends, writes where it is told, says how far it is."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from typing import Any

from hwdash.core.wire import dumps

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_log = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; a no-op where there is no ``prctl``."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError) as error:
        _log.warning("cannot tie this process to its parent: %s", error)


def write_to(path: str) -> None:
    """Let all output of this process go to the end of the file *path* from now on, that of libraries in C included."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _log.warning("the output stays here: %s", error)
        return
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def say(message: dict[str, Any]) -> None:
    """Print *message* for `hwdash.engine.child.Child`, as one line of JSON."""
    sys.stdout.write(dumps(message).decode() + "\n")
    sys.stdout.flush()
