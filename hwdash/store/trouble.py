"""What is wrong with the disk: of which sort it is, and one sentence that says what to do."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from hwdash.core.errors import HwdashError
from hwdash.core.text import sanitise_line

_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_UNWRITABLE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})


def is_broken(error: BaseException) -> bool:
    """True when the file's content is damaged or was never a database."""
    return _code(error) in _BROKEN


def is_passing(error: BaseException) -> bool:
    """True when the disk is full or the file locked: the connection is sound and its next try may succeed."""
    return _code(error) in _LOCKED | {sqlite3.SQLITE_FULL}


def is_trouble(error: BaseException) -> bool:
    """True for what the outside did to us (disk, permissions, locks), false for rows that no database would take."""
    return isinstance(error, OSError | HwdashError | sqlite3.OperationalError) or is_broken(error)


def explain(error: BaseException, path: Path) -> str:
    """Why *path* cannot be written, and what to do about it."""
    if isinstance(error, HwdashError):
        return error.message
    reason = sanitise_line(str(error)) or type(error).__name__
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return f"the disk of {path.parent} is full; free some space there"
    if code in _LOCKED:
        return f"{path} is locked by another program; close it"
    if code in _UNWRITABLE or isinstance(error, OSError):
        return f"{path} cannot be written ({reason}); check that {path.parent} belongs to you and is writable"
    if code == sqlite3.SQLITE_IOERR:
        return f"{path} cannot be written ({reason}); check the disk and its free space"
    return f"{path} cannot be written ({reason}); the daemon's log tells more"


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    extended = getattr(error, "sqlite_errorcode", None)
    return extended & 0xFF if isinstance(extended, int) else None
