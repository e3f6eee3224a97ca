"""The programs on a device, from files that list their process ids."""

from __future__ import annotations

import pwd
from functools import lru_cache

from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.figure import Figure
from hwdash.sources.chips.glance import Glance
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.profile import Number, Pids
from hwdash.sources.sysfs import Tree

MAX_PROCESSES = 256
"""The most processes of one device."""
_MOST_PID = 2**22
"""The largest process id of Linux (proc(5), ``pid_max``)."""


class PidList:
    """The processes on one device. For use by one thread.

    Their names come from ``/proc/PID`` in *tree*, where no path of a profile leads to.
    """

    def __init__(self, pids: Pids, tree: Tree) -> None:
        self._parse = pids.origin.parse
        self._figure = Figure(Number((pids.origin,)))
        self._tree = tree
        self._known: dict[int, DeviceProcess] = {}
        self.tried = ""

    def aim(self, place: Place, glance: Glance) -> None:
        """Find the files at *place*."""
        self._figure.aim(place, glance, {})
        self.tried = next(iter(self._figure.paths), "")

    def read(self, glance: Glance) -> tuple[DeviceProcess, ...] | Absent:
        """The processes in the order of their ids, or why they are not known."""
        if not self._figure.paths:
            return Absent.NOT_SUPPORTED
        found: set[int] = set()
        for path in self._figure.paths:
            self.tried = path
            text = glance.first(path, None)
            if isinstance(text, Absent):
                return text
            pieces = glance.pieces(path, self._parse)
            if text and isinstance(pieces, Absent):
                return pieces
            numbers = [] if isinstance(pieces, Absent) else pieces
            found |= {int(piece) for piece in numbers if piece.isascii() and piece.isdecimal() and len(piece) < 9}
        pids = sorted(pid for pid in found if 0 < pid <= _MOST_PID)[:MAX_PROCESSES]
        self._known = {pid: self._known.get(pid) or self._describe(pid) for pid in pids}
        return tuple(self._known.values())

    def _describe(self, pid: int) -> DeviceProcess:
        name = self._tree.line(f"proc/{pid}/comm")
        status = self._tree.line(f"proc/{pid}/status") or ""
        words = next((line.split() for line in status.splitlines() if line.startswith("Uid:")), [])
        user = _user_name(int(words[1])) if len(words) > 1 and words[1].isdecimal() and len(words[1]) < 11 else None
        return DeviceProcess(pid, name=sanitise_line(name, 64) if name else None, user=user)


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return sanitise_line(pwd.getpwuid(uid).pw_name, 64)
    except (KeyError, OverflowError):
        return str(uid)
