"""The programs on a device, from files that list their process ids."""

from __future__ import annotations

from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.sources.chips.figure import Figure
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Pids
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.place import Place
from hwdash.sources.process import MAX_PID, ProcessTable
from hwdash.sources.sysfs import Tree

MAX_PROCESSES = 256
"""The most processes of one device."""


class PidList:
    """The processes on one device. For use by one thread.

    Their names come from ``/proc/PID`` in *tree*, where no path of a profile leads to.
    """

    def __init__(self, pids: Pids, tree: Tree) -> None:
        self._parse = pids.origin.parse
        self._figure = Figure(Number((pids.origin,)))
        self._table = ProcessTable(tree)
        self.tried = ""

    def aim(self, place: Place, files: FileReads) -> None:
        """Find the files at *place*."""
        self._figure.aim(place, files, {})
        self.tried = next(iter(self._figure.paths), "")

    def read(self, files: FileReads) -> tuple[DeviceProcess, ...] | Absent:
        """The processes in the order of their ids, or why they are not known."""
        if not self._figure.paths:
            return Absent.NOT_SUPPORTED
        found: set[int] = set()
        for path in self._figure.paths:
            self.tried = path
            text = files.first(path, None)
            if isinstance(text, Absent):
                return text
            pieces = files.pieces(path, self._parse)
            if text and isinstance(pieces, Absent):
                return pieces
            numbers = [] if isinstance(pieces, Absent) else pieces
            found |= {int(piece) for piece in numbers if piece.isascii() and piece.isdecimal() and len(piece) < 9}
        pids = sorted(pid for pid in found if 0 < pid <= MAX_PID)[:MAX_PROCESSES]
        return tuple(self._described(pid, files.now_s) for pid in pids)

    def _described(self, pid: int, now_s: float) -> DeviceProcess:
        identity = self._table.look(pid, now_s)
        return DeviceProcess(pid, name=identity.name, user=identity.user)
