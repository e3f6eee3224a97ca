"""A recording as a file: opened, unpacked and cut into lines, whatever somebody gave it the name of."""

from __future__ import annotations

import itertools
import os
import stat
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from hwdash.core.recording import GZIP_WBITS, MAX_LINE_BYTES, Decoder, Header, RecordingError, decode_header

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 2**18
_PIECE_BYTES = 2**20
_CHECKED_LINES = 50


def check_recording(path: Path) -> Header:
    """The header of the recording in the file *path*, after a look at its first lines. Blocks.

    Raises `RecordingError` when it is none, or has a mistake there.
    """
    with RecordingFile(path) as file:
        decoder = Decoder(file.name)
        for number, line in itertools.islice(file.lines(), _CHECKED_LINES):
            decoder.decode(line, number)
        return file.header


class RecordingFile:
    """The lines of the recording *path*, plain or gzip-compressed. Use it as a context manager; all calls block.

    ``cut_off`` is a sentence once the lines have ended before their time: the recorder was killed. Raises
    `RecordingError` for what cannot be opened or is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.cut_off = ""
        self._file = _open(path)
        try:
            self._lines = self._read_lines()
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines after the header with their numbers, without line ends; empty ones are left out."""
        for number, line in self._lines:
            if line.strip():
                yield number, line

    def _read_header(self) -> Header:
        for _, line in self._lines:
            return decode_header(line, self.name)
        why = "it ends in its first line" if self.cut_off else "it is empty"
        raise RecordingError(f"{self.name}: not a recording of hwdash: {why}", param="replay")

    def _read_lines(self) -> Iterator[tuple[int, bytes]]:
        rest = bytearray()
        number = 1
        for piece in self._pieces():
            searched = len(rest)
            rest += piece
            begin = 0
            while (end := rest.find(b"\n", max(begin, searched))) >= 0:
                yield number, bytes(rest[begin:end])
                number += 1
                begin = end + 1
            del rest[:begin]
            if len(rest) > MAX_LINE_BYTES:
                limit = f"{MAX_LINE_BYTES // 2**20} MiB"
                raise RecordingError(f"{self.name}:{number}: the line is longer than {limit}", param="replay")
        if rest and not self.cut_off:
            yield number, bytes(rest)

    def _pieces(self) -> Iterator[bytes]:
        """The unpacked content, a MiB at most at a time."""
        data = self._read()
        if data.startswith(_ZSTD_MAGIC):
            raise RecordingError(
                f"{self.name}: compressed with zstd, which this hwdash does not unpack; run: zstd -d", param="replay"
            )
        if not data.startswith(_GZIP_MAGIC):
            while data:
                yield data
                data = self._read()
            return
        while data:
            data = yield from self._member(data)
            if not self.cut_off and not data:
                data = self._read()
            data = data.lstrip(b"\0")  # padding between or after members, as gzip allows

    def _member(self, data: bytes) -> Generator[bytes, None, bytes]:
        """One gzip member that begins with *data*; returns what was read beyond it."""
        press = zlib.decompressobj(GZIP_WBITS)
        while True:
            try:
                piece = press.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise RecordingError(f"{self.name}: its compressed data is damaged ({error})", param="replay") from None
            if piece:
                yield piece
            if press.eof:
                return press.unused_data
            data = press.unconsumed_tail or self._read()
            if not data:
                if piece:
                    continue  # the window may hold more
                self.cut_off = f"{self.name} ends in the middle (was the recorder killed?); what is there is played"
                return b""

    def _read(self) -> bytes:
        try:
            return self._file.read(_READ_BYTES)
        except OSError as error:
            raise RecordingError(f"{self.name}: cannot be read: {error.strerror or error}", param="replay") from None


def _open(path: Path) -> BinaryIO:
    """*path* opened, if it is a regular file. A FIFO or a device is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordingError(f"{path}: cannot be read: {words}", param="replay") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise RecordingError(f"{path} is {what}; name a recording, made with: hwdash record FILE", param="replay")
    return os.fdopen(descriptor, "rb", buffering=0)
