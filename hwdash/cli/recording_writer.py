"""The file that a recording is written to: gzip, whole at every moment as far as a kill or a full disk allows."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.recording import GZIP_WBITS


class RecordingWriter:
    """A new gzip file at *path*. `write` and `flush` block; they raise `HwdashError` when the disk does not take it.

    What was flushed can be read whatever comes: a reader finds it before the missing end of a killed writer, and
    after a failed write the file is cut back to it and ended properly. The head names neither file nor time.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.size = 0
        self._path = path
        self._file = _open(path, overwrite=overwrite)
        self._press = zlib.compressobj(wbits=GZIP_WBITS)
        self._safe = self._press.copy()

    def write(self, line: bytes) -> None:
        """Add *line*; it is on the disk after the next `flush`."""
        self._put(self._press.compress(line), safe=False)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._put(self._press.flush(zlib.Z_SYNC_FLUSH), safe=True)

    def close(self) -> None:
        """End the file. May be called again, and after an error."""
        if self._file.closed:
            return
        try:
            self._put(self._press.flush(zlib.Z_FINISH), safe=False)
            self._file.close()
        except OSError as error:
            raise self._failed(error) from None

    def _put(self, data: bytes, *, safe: bool) -> None:
        try:
            self._file.write(data)
            if safe:
                self._file.flush()
                self.size = self._file.tell()
                self._safe = self._press.copy()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> HwdashError:
        """Cut the file back to what is safe on the disk, and end it there."""
        descriptor = os.dup(self._file.fileno()) if not self._file.closed else -1
        with contextlib.suppress(OSError):
            self._file.close()  # tries once more what it holds, and fails
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self.size)
                os.pwrite(descriptor, self._safe.flush(zlib.Z_FINISH) if self.size else b"", self.size)
            os.close(descriptor)
        return HwdashError(
            f"{self._path}: cannot be written: {error.strerror or error}; what was written before is whole"
        )


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raises `UsageError` when no recording can be made at *path*; with *overwrite* a file there is no hindrance."""
    if str(path) == "-":
        raise UsageError("a recording goes to a file, not to stdout; for a file of that name write ./-", param="file")
    try:
        there = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no directory {path.parent}", param="file") from None
        return
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", param="file") from None
    if not stat.S_ISREG(there.st_mode):
        what = "a directory" if stat.S_ISDIR(there.st_mode) else "no regular file"
        raise UsageError(f"{path} is {what}; name a file for the recording", param="file")
    if not overwrite:
        raise UsageError(f"{path} exists; choose another name, or replace it with --force", param="file")


def _open(path: Path, *, overwrite: bool) -> BinaryIO:
    check_place(path, overwrite=overwrite)
    try:
        return path.open("wb" if overwrite else "xb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}", param="file") from None
