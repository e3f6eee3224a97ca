"""The programs on an NVIDIA GPU."""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hwdash.core.process import DeviceProcess, ProcessKind
from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_pace import Pace
from hwdash.sources.nvml_query import Query
from hwdash.sources.sysfs import ReadFailure, Tree

_OFTEN_S, _SELDOM_S = 5.0, 30.0
_MOST_PID = 2**22
"""The largest process id of Linux (proc(5), ``pid_max``)."""
_MOST_MEMORY = 2**50
_MOST_PROCESSES = 1024
_COMM_LENGTH = 15
"""``/proc/PID/comm`` is cut to this many characters."""


class _List:
    """One of the driver's lists. Where *function*'s newest version answers nonsense, the one before is taken for good.

    The drivers 535.98 and 535.104 answer to version 3 with longer records than they document.
    """

    def __init__(self, library: Any, handle: Any, function: str, kind: ProcessKind, phase: float) -> None:
        self._query = Query(library, (f"{function}_v3", f"{function}_v2"), (handle,))
        self._often = Pace(_OFTEN_S, phase)
        self._seldom = Pace(_SELDOM_S, phase)
        self._kind = kind
        self._nonsense = False
        self.found: list[DeviceProcess] | Absent = []

    def refresh(self, now_s: float, *, seldom: bool) -> bool:
        """Ask when it is time; *seldom* lists are left alone longer while they are empty. True when it was asked."""
        often = self._often.due(now_s)
        if not (self._seldom.due(now_s) if seldom and not self.found else often):
            return False
        answer = self._query.ask()
        while not isinstance(answer, Absent) and not all(map(_is_sane, answer)):
            self._nonsense = True
            self._query.give_up()
            answer = self._query.ask()
        if answer is Absent.NOT_SUPPORTED and self._nonsense:
            answer = Absent.BAD_VALUE
        self.found = answer if isinstance(answer, Absent) else self._processes(answer)
        return True

    def _processes(self, answer: Sequence[Any]) -> list[DeviceProcess]:
        return [
            DeviceProcess(int(item.pid), self._kind, memory_bytes=_bytes_of(item.usedGpuMemory))
            for item in answer[:_MOST_PROCESSES]
        ]


class ProcessList:
    """The programs on one GPU or MIG instance, asked for every 5 s. *tree* is where ``/proc`` is.

    A list that was empty and is for a rare kind of program (graphics, MPS) is asked for every 30 s.
    """

    def __init__(self, library: Any, handle: Any, tree: Tree, phase: float) -> None:
        def make(function: str, kind: ProcessKind) -> _List:
            return _List(library, handle, f"nvmlDeviceGet{function}RunningProcesses", kind, phase)

        self._tree = tree
        self._compute = make("Compute", ProcessKind.COMPUTE)
        self._rare = (make("MPSCompute", ProcessKind.COMPUTE), make("Graphics", ProcessKind.GRAPHICS))
        self._known: tuple[DeviceProcess, ...] | Absent | None = None

    def read(self, now_s: float) -> tuple[DeviceProcess, ...] | Absent | None:
        """The programs, by process id; why they are not known; None where the driver has no such list.

        Raises as `hwdash.sources.nvml_query.judge` does.
        """
        asked = self._compute.refresh(now_s, seldom=False)
        for rare in self._rare:
            asked |= rare.refresh(now_s, seldom=True)
        if asked:
            self._known = self._merge()
        return self._known

    def _merge(self) -> tuple[DeviceProcess, ...] | Absent | None:
        compute = self._compute.found
        if isinstance(compute, Absent):
            return None if compute is Absent.NOT_SUPPORTED else compute
        merged: dict[int, DeviceProcess] = {}
        for found in (*(rare.found for rare in reversed(self._rare)), compute):
            if not isinstance(found, Absent):
                merged |= {process.pid: process for process in found}
        return tuple(_describe(self._tree, merged[pid]) for pid in sorted(merged))


def _describe(tree: Tree, process: DeviceProcess) -> DeviceProcess:
    place = f"proc/{process.pid}"
    return DeviceProcess(process.pid, process.kind, _name_of(tree, place), _user_of(tree, place), process.memory_bytes)


def _name_of(tree: Tree, place: str) -> str | None:
    """The command; None where the process is not to be seen (a container without the host's process ids)."""
    comm = tree.line(f"{place}/comm")
    if comm is not None and len(comm) < _COMM_LENGTH:
        return sanitise_line(comm, 64)
    try:
        command = tree.text(f"{place}/cmdline", 4096).partition("\0")[0]
    except ReadFailure:
        command = ""
    # A program that titled itself (``postgres: writer``) has no path there.
    name = command.partition(" ")[0].rpartition("/")[2]
    if comm is not None and not name.startswith(comm):
        name = comm
    return sanitise_line(name, 64) or None


def _user_of(tree: Tree, place: str) -> str | None:
    status = tree.line(f"{place}/status") or ""
    words = next((line.split() for line in status.splitlines() if line.startswith("Uid:")), [])
    return _user_name(int(words[1])) if len(words) > 1 and words[1].isdecimal() else None


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return sanitise_line(pwd.getpwuid(uid).pw_name, 64)
    except (KeyError, OverflowError):
        return str(uid)


def _is_sane(item: Any) -> bool:
    return 0 < int(item.pid) <= _MOST_PID


def _bytes_of(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < _MOST_MEMORY else None
