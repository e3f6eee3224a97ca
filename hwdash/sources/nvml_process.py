"""The programs on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hwdash.core.process import DeviceProcess, ProcessKind
from hwdash.core.reading import Absent
from hwdash.sources.nvml_query import Query
from hwdash.sources.pace import Pace
from hwdash.sources.process import MAX_PID, ProcessTable
from hwdash.sources.sysfs import Tree

_OFTEN_S, _SELDOM_S = 5.0, 30.0
_MOST_MEMORY = 2**50
_MOST_PROCESSES = 1024


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

        self._table = ProcessTable(tree)
        self._compute = make("Compute", ProcessKind.COMPUTE)
        self._rare = (make("MPSCompute", ProcessKind.COMPUTE), make("Graphics", ProcessKind.GRAPHICS))
        self._known: tuple[DeviceProcess, ...] | Absent | None = None
        self._pending = False

    def read(self, now_s: float) -> tuple[DeviceProcess, ...] | Absent | None:
        """The programs, by process id; why they are not known; None where the driver has no such list.

        Raises as `hwdash.sources.nvml_query.judge` does.
        """
        asked = self._compute.refresh(now_s, seldom=False)
        for rare in self._rare:
            asked |= rare.refresh(now_s, seldom=True)
        if asked or self._pending:
            self._known = self._merge(now_s)
        return self._known

    def _merge(self, now_s: float) -> tuple[DeviceProcess, ...] | Absent | None:
        self._pending = False
        compute = self._compute.found
        if isinstance(compute, Absent):
            return None if compute is Absent.NOT_SUPPORTED else compute
        merged: dict[int, DeviceProcess] = {}
        for found in (*(rare.found for rare in reversed(self._rare)), compute):
            if not isinstance(found, Absent):
                merged |= {process.pid: process for process in found}
        return tuple(self._describe(merged[pid], now_s) for pid in sorted(merged))

    def _describe(self, process: DeviceProcess, now_s: float) -> DeviceProcess:
        identity = self._table.look(process.pid, now_s)
        self._pending |= identity.pending
        return replace(process, name=identity.name, user=identity.user)


def _is_sane(item: Any) -> bool:
    return 0 < int(item.pid) <= MAX_PID


def _bytes_of(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < _MOST_MEMORY else None
