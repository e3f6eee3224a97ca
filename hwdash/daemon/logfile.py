"""The daemon's log: a rotated file that only its owner can read, and the terminal while it runs in the foreground."""

from __future__ import annotations

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import cast

from hwdash.core.text import sanitise

_MAX_BYTES = 5 * 2**20
_COPIES = 3
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CHATTY = ("asyncio", "aiosqlite", "uvicorn.error", "httpx", "httpcore")
"""Below WARNING they, and what is named after them, log every statement, connection and request."""


class _Formatter(logging.Formatter):
    """A record as text in which foreign control characters are harmless."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitise(super().format(record))


class _PrivateFile(RotatingFileHandler):
    """A rotated file with mode 0600."""

    def _open(self) -> TextIOWrapper:
        stream = open(  # noqa: SIM115 - the handler owns it; Path.open takes no opener
            self.baseFilename, self.mode, encoding=self.encoding, opener=lambda path, flags: os.open(path, flags, 0o600)
        )
        return cast("TextIOWrapper", stream)


def start_logging(path: Path, *, verbose: bool, foreground: bool) -> str:
    """Send all log records to *path* (5 MB, three older copies beside it), in the *foreground* warnings to stderr too.

    *verbose* keeps debug records. Gives a sentence when the file cannot be written, else an empty string.
    """
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.raiseExceptions = False  # a full disk must not spill tracebacks on the terminal
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    if foreground:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setLevel(logging.DEBUG if verbose else logging.WARNING)
        terminal.setFormatter(_Formatter("hwdash: %(message)s"))
        root.addHandler(terminal)
    try:
        file = _PrivateFile(path, maxBytes=_MAX_BYTES, backupCount=_COPIES, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        problem = f"no log is written: {path}: {error.strerror}"
        logging.getLogger(__name__).warning("%s", problem)
        return problem
    file.setFormatter(_Formatter(_FORMAT))
    root.addHandler(file)
    return ""
