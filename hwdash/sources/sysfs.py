"""Files of ``/sys`` and ``/proc``, read below a root, at most so much of them, with every failure named."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from hwdash.core.order import natural_key
from hwdash.core.reading import Absent, Reading

MAX_BYTES = 64 * 1024
"""The most that is read of one file."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")

_REASONS = {
    errno.EACCES: Absent.NO_PERMISSION,
    errno.EPERM: Absent.NO_PERMISSION,
    errno.ENOENT: Absent.NOT_SUPPORTED,
    errno.ENOTDIR: Absent.NOT_SUPPORTED,
    errno.EOPNOTSUPP: Absent.NOT_SUPPORTED,
    errno.ETIMEDOUT: Absent.TIMED_OUT,
}


class ReadFailure(Exception):
    """A file could not be read. ``reason`` is what that means for a metric."""

    def __init__(self, path: str, reason: Absent) -> None:
        super().__init__(f"{path}: {reason.value}")
        self.reason = reason

    @classmethod
    def of(cls, path: str, error: OSError) -> ReadFailure:
        """The failure that *error* means."""
        return cls(path, _REASONS.get(error.errno or 0, Absent.ERROR))


class Tree:
    """The files below *root*, which is ``/`` on a live machine. Paths are given without a leading slash.

    A link that leads out of *root* is an error, so that a tree made by hand never shows the machine it lies on. With
    *within* nothing is read, listed or found but what lies in those folders after every link has been followed.
    """

    def __init__(self, root: Path = Path("/"), within: Sequence[str] = ()) -> None:
        self._root = os.path.realpath(root)
        self._base = self._root.rstrip(os.sep)
        self._within = tuple(f"{self._base}/{folder}" for folder in within)

    @property
    def live(self) -> bool:
        """True for the tree of the machine itself."""
        return self._root == "/"

    def text(self, path: str, limit: int = MAX_BYTES) -> str:
        """The first *limit* bytes of a file as text; bytes that are not UTF-8 become U+FFFD.

        Raises `ReadFailure` for whatever goes wrong.
        """
        return self.data(path, limit).decode("utf-8", "replace")

    def data(self, path: str, limit: int = MAX_BYTES) -> bytes:
        """The first *limit* bytes of a file. Raises `ReadFailure` for whatever goes wrong."""
        try:
            return self._bytes(path, limit)
        except OSError as error:
            raise ReadFailure.of(path, error) from error
        except ValueError as error:  # a null byte in a name
            raise ReadFailure(path, Absent.ERROR) from error

    def text_beside(self, folder: str, name: str) -> str:
        """The text of the file *name* in *folder*, which `real` gave: saves following the links again for every file.

        Raises `ReadFailure`.
        """
        path = f"{folder}/{name}"
        try:
            return self._read(f"{self._base}/{path}", path, MAX_BYTES, os.O_NOFOLLOW).decode("utf-8", "replace")
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link: to be followed with care
                return self.text(path)
            raise ReadFailure.of(path, error) from error
        except ValueError as error:
            raise ReadFailure(path, Absent.ERROR) from error

    def line(self, path: str) -> str | None:
        """The text of a small file without the white space around it; None when it is empty or cannot be read."""
        try:
            return self.text(path, 4096).strip() or None
        except ReadFailure:
            return None

    def number(self, path: str, low: float, high: float, scale: float = 1.0) -> Reading:
        """The number in a file, times *scale*; absent when it cannot be read or lies outside *low* to *high*.

        The bounds are in the unit of the file.
        """
        try:
            text = self.text(path, 4096).strip()
        except ReadFailure as failure:
            return failure.reason
        if _NUMBER.fullmatch(text) is None:
            return Absent.BAD_VALUE
        value = float(text)
        # 12 places: below what any sensor tells, above what the multiplication adds.
        return round(value * scale, 12) if low <= value <= high else Absent.BAD_VALUE

    def names(self, path: str) -> list[str]:
        """What is in a directory, numbers within names in their natural order; nothing when it cannot be listed.

        A name that is not UTF-8 is left out: it could be written nowhere.
        """
        try:
            return sorted((name for name in os.listdir(self._inside(path)) if _is_text(name)), key=natural_key)  # noqa: PTH208
        except (OSError, ValueError):
            return []

    def link(self, path: str) -> str | None:
        """The last part of where a link points to, which need not exist; None when it is no link or cannot be read.

        None likewise for a name that is not UTF-8.
        """
        folder, _, name = path.rpartition("/")
        try:
            target = Path(self._inside(folder), name).readlink().name
            return target if target and _is_text(target) else None
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        """True when there is something at *path*; a link that leads nowhere is nothing."""
        try:
            return Path(self._inside(path)).exists()
        except (OSError, ValueError):
            return False

    def is_folder(self, path: str) -> bool:
        """True when *path* is a directory that is there."""
        try:
            return stat.S_ISDIR(os.stat(self._inside(path)).st_mode)  # noqa: PTH116  asked at every tick
        except (OSError, ValueError):
            return False

    def real(self, path: str) -> str | None:
        """*path* with every link followed, without a leading slash; None when that leads out or is no path."""
        try:
            full = os.path.realpath(f"{self._base}/{path}")
            return self._checked(full, path)[len(self._base) + 1 :]
        except (OSError, ValueError):
            return None

    def _bytes(self, path: str, limit: int) -> bytes:
        return self._read(self._inside(path), path, limit)

    @staticmethod
    def _read(full: str, path: str, limit: int, flags: int = 0) -> bytes:
        # Without O_NONBLOCK the opening of a named pipe would wait for a writer.
        descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a plain file", path)
            data = b""
            while len(data) < limit and (chunk := os.read(descriptor, limit - len(data))):
                data += chunk
            return data
        finally:
            os.close(descriptor)

    def _inside(self, path: str) -> str:
        if self.live and not self._within:
            return f"/{path}"
        return self._checked(os.path.realpath(f"{self._base}/{path}"), path)

    def _checked(self, full: str, path: str) -> str:
        if full != self._root and not full.startswith(self._base + os.sep):
            raise OSError(errno.EXDEV, "leads out of the tree", path)
        if self._within and not any(full == folder or full.startswith(folder + os.sep) for folder in self._within):
            raise OSError(errno.EXDEV, "leads out of the folders that may be read", path)
        return full


def _is_text(name: str) -> bool:
    """True for a name without the halves of surrogate pairs that stand for bytes that are not UTF-8."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)
