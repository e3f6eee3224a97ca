"""A worker must not outlive the process that asked for it."""

from __future__ import annotations

import ctypes
import logging
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_log = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; a no-op where there is no ``prctl``."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError) as error:
        _log.warning("cannot tie this process to its parent: %s", error)
