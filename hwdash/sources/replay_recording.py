"""A recording in memory: a place for every snapshot, the snapshots themselves packed until they are looked at."""

from __future__ import annotations

import bisect
import logging
import threading
import zlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.event import Event, EventKind
from hwdash.core.recording import Decoder, Frame, Header, RecordingError, decode_line
from hwdash.sources.replay_file import RecordingFile

log = logging.getLogger(__name__)

MAX_BYTES = 2**30
"""Packed, no more of a recording than this is held."""

_CHUNK_LINES = 64
_CHUNK_BYTES = 2**20
_CHUNKS_UNPACKED = 2
_FRAMES_DECODED = 4
_MAX_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive snapshot lines, compressed: the number of the first, and the line number of each in the file."""

    first: int
    numbers: tuple[int, ...]
    packed: bytes


class Recording:
    """The snapshots of the recording *path*, by number from 0. Every line is read and checked once, by `load`.

    What is loaded can be played while the rest is still being read. Packed it takes about what the file does;
    besides, two chunks of a MiB and four snapshots are held as they are. Safe to use from several threads.
    Opening and loading block and raise `RecordingError`.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.complete = False
        self.problem = ""
        self._path = path
        self._file = RecordingFile(path)
        self.header: Header = self._file.header
        self._positions = array("d")
        self._chunks: list[_Chunk] = []
        self._open_lines: list[tuple[int, bytes]] = []
        self._open_bytes = 0
        self._packed_bytes = 0
        self._events: dict[int, tuple[Event, ...]] = {}
        self._unpacked: OrderedDict[int, list[bytes]] = OrderedDict()
        self._decoded: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()
        self._abandoned = False

    @property
    def count(self) -> int:
        """Snapshots that are loaded."""
        return len(self._positions)

    @property
    def duration_s(self) -> float:
        """The place of the last snapshot that is loaded."""
        return self._positions[-1] if self._positions else 0.0

    def load(self) -> None:
        """Read the file to its end. An error after the first snapshot is also kept as ``problem``."""
        try:
            with self._file as file:
                self._load(file)
            self.problem = file.cut_off
            if not self.count:
                raise RecordingError(f"{file.name}: the recording has no snapshots", param="replay")
        except RecordingError as error:
            self.problem = error.message
            raise
        finally:
            self.complete = True

    def close(self) -> None:
        """Let a `load` on another thread end early."""
        self._abandoned = True

    def position(self, number: int) -> float:
        """The place of snapshot *number* in seconds."""
        return self._positions[number]

    def at(self, position_s: float) -> int:
        """The number of the snapshot nearest to *position_s*; of two that are equally near, the later one."""
        right = bisect.bisect_right(self._positions, position_s, hi=self.count)
        if right == 0:
            return 0
        if right >= self.count:
            return self.count - 1
        nearer_left = position_s - self._positions[right - 1] < self._positions[right] - position_s
        return right - 1 if nearer_left else right

    def frame(self, number: int) -> Frame:
        """Snapshot *number*. Raises ``IndexError`` when it is not loaded."""
        with self._lock:
            if (known := self._decoded.get(number)) is not None:
                self._decoded.move_to_end(number)
                return known
            line_number, line = self._line(number)
            frame = decode_line(line, str(self._path), line_number)
            assert isinstance(frame, Frame)  # it was checked when it was loaded
            self._decoded[number] = frame
            while len(self._decoded) > _FRAMES_DECODED:
                self._decoded.popitem(last=False)
            return frame

    def events(self, number: int) -> tuple[Event, ...]:
        """What the devices themselves reported between the snapshot before *number* and that one.

        What the monitor found out when it was recorded is not among it: it is found out anew.
        """
        return self._events.get(number, ())

    def _load(self, file: RecordingFile) -> None:
        decoder = Decoder(file.name)
        waiting: list[Event] = []
        events = 0
        for number, line in file.lines():
            if self._abandoned:
                return
            item = decoder.decode(line, number)
            if isinstance(item, Event):
                if item.kind is EventKind.DEVICE and item.code is None and events < _MAX_EVENTS:
                    waiting.append(item)
                    events += 1
            elif isinstance(item, Frame):
                if waiting:
                    self._events[self.count] = tuple(waiting)
                    waiting = []
                self._add(number, line, item.position_s)

    def _add(self, number: int, line: bytes, position_s: float) -> None:
        with self._lock:
            self._open_lines.append((number, line))
            self._open_bytes += len(line)
            self._positions.append(position_s)
        if len(self._open_lines) < _CHUNK_LINES and self._open_bytes < _CHUNK_BYTES:
            return
        packed = zlib.compress(b"\n".join(line for _, line in self._open_lines), 1)
        self._packed_bytes += len(packed)
        if self._packed_bytes > MAX_BYTES:
            raise RecordingError(
                f"{self._path}:{number}: the recording is too long to be held in memory", param="replay"
            )
        with self._lock:
            first = self.count - len(self._open_lines)
            self._chunks.append(_Chunk(first, tuple(number for number, _ in self._open_lines), packed))
            self._open_lines = []
            self._open_bytes = 0

    def _line(self, number: int) -> tuple[int, bytes]:
        if not 0 <= number < self.count:
            raise IndexError(number)
        place = bisect.bisect_right(self._chunks, number, key=lambda chunk: chunk.first) - 1
        packed = self._chunks[-1].first + len(self._chunks[-1].numbers) if self._chunks else 0
        if number >= packed:
            return self._open_lines[number - packed]
        chunk = self._chunks[place]
        lines = self._unpacked.get(place)
        if lines is None:
            lines = self._unpacked[place] = zlib.decompress(chunk.packed).split(b"\n")
            while len(self._unpacked) > _CHUNKS_UNPACKED:
                self._unpacked.popitem(last=False)
        else:
            self._unpacked.move_to_end(place)
        return chunk.numbers[number - chunk.first], lines[number - chunk.first]
