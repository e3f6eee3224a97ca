"""Why a file cannot be read, in words for the author of a profile. Looks at the file again: for checks, not for every tick."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from pathlib import Path

from hwdash.sources.chips.template import ROOTS
from hwdash.sources.sysfs import ReadFailure, Tree

_ALLOWED = " and ".join(f"/{root}" for root in ROOTS)
_LIKE = 0.75
"""How much alike two names of files are of which one may be meant for the other."""
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def file_cause(sysroot: Path, path: str) -> str:
    """Why *path*, without its leading slash, cannot be read below *sysroot*; empty when it can. Not made safe yet."""
    base = os.path.realpath(sysroot).rstrip("/")
    full = f"{base}/{path}"
    try:
        return _outside(base, full) or _no_plain_file(full, base) or _unreadable(sysroot, path)
    except ValueError:
        return "no name that a file can have"


def _outside(base: str, full: str) -> str:
    """Where a link, or a path with ``..``, leads to that may not be read; nothing there is touched."""
    real = os.path.realpath(full)
    if any(f"{real}/".startswith(f"{base}/{root}/") for root in ROOTS):
        return ""
    what = "link" if os.path.islink(full) else "path"  # noqa: PTH114
    return f"the {what} leads to {_below(base, real)}, outside {_ALLOWED}"


def _no_plain_file(full: str, base: str) -> str:
    try:
        mode = os.stat(full).st_mode  # noqa: PTH116
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "links in a circle"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return _missing(full, base)
        return _words_of(error)
    if stat.S_ISREG(mode):
        return ""
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
    return f"{kind}, not a plain file"


def _missing(full: str, base: str) -> str:
    if os.path.islink(full):  # noqa: PTH114
        return f"the link leads to {_below(base, os.path.realpath(full))}, which is not there"
    folder, _, name = full.rpartition("/")
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return f"there is no directory {_below(base, folder)}"
    close = difflib.get_close_matches(name, names[:1000], 1, _LIKE)
    return "there is no such file" + (f"; did you mean {close[0]}?" if close else "")


def _unreadable(sysroot: Path, path: str) -> str:
    try:
        Tree(sysroot, ROOTS).text(path)
    except ReadFailure as failure:
        return _words_of(failure.__cause__)
    return ""


def _words_of(error: BaseException | None) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return "it cannot be read"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission"
    return f"the driver answers: {os.strerror(error.errno)}"


def _below(base: str, path: str) -> str:
    """*path* as a profile would write it."""
    return path.removeprefix(base) or "/"
