"""How the dashboard ends: on signals, and when its terminal goes away."""

from __future__ import annotations

import asyncio
import signal
import sys
import termios
import threading
from collections.abc import Callable


def watch_signals(leave: Callable[[], object]) -> None:
    """Have SIGTERM and SIGHUP call *leave*, so that the terminal is put back in order. Main thread only; else nothing."""
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, leave)


def terminal_is_gone() -> bool:
    """True when standard input was a terminal and hung up. With SIGHUP ignored nothing else tells it."""
    stream = sys.__stdin__
    if stream is None or stream.closed:
        return True
    try:
        termios.tcgetattr(stream.fileno())
    except termios.error:
        return True
    except OSError:
        return False
    return False
