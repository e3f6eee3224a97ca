"""The terminal: drawn on standard output, and its input listened to without waking up ten times a second.

Textual 8.2 polls for keys every 0.1 s, so that it can tell a lone Escape from the start of a sequence. That is needed
only just after a key; for a screen that changes once a second it is a tenth of all the work.
"""

from __future__ import annotations

import codecs
import os
import select
import sys
import time
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

_AWAKE_S = 1.0
"""How long after a key the keyboard is watched closely."""
_CLOSELY_MS = 100
_CALMLY_MS = 500
"""Also the longest that leaving without a key (by a signal) waits for this thread."""


class CalmDriver(LinuxDriver):
    """Textual's driver for Linux terminals with a calmer input thread.

    It draws on standard output, as Textual 8.2 does not: what goes to standard error may be kept in a file.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if sys.__stdout__ is not None:
            self._file = sys.__stdout__

    def run_input_thread(self) -> None:
        """Turn bytes from the terminal into events until the app ends."""
        parser = XTermParser(self._debug)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        terminal = select.poll()
        terminal.register(self.fileno, select.POLLIN)
        heard_s = time.monotonic()
        while not self.exit_event.is_set():
            close = time.monotonic() - heard_s < _AWAKE_S
            if terminal.poll(_CLOSELY_MS if close else _CALMLY_MS):
                heard_s = time.monotonic()
                if not (data := self._read()):
                    # The terminal is gone; the app notices that by itself and ends.
                    self.exit_event.wait(_CALMLY_MS / 1000)
                    continue
                for event in parser.feed(decoder.decode(data)):
                    self.process_message(event)
            for event in parser.tick():
                self.process_message(event)

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, 4096)
        except OSError:
            return b""
