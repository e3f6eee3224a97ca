"""The memory of an NVIDIA GPU or of a MIG instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading
from hwdash.sources.nvml_query import Query
from hwdash.sources.pace import Pace

_VERSION_2 = 0x02000028
"""``nvmlMemory_v2`` of nvml.h: the size of the structure with its version in the top byte."""

_PERIOD_S = 1.5
"""Under 2 s, so that at the usual interval every other read asks."""


class Memory:
    """Asked for at most every 1.5 s. Version 1 counts the driver's reserve as used, version 2 does not."""

    def __init__(self, library: Any, handle: Any, pool_id: str) -> None:
        self._version_2 = Query(library, ("nvmlDeviceGetMemoryInfo",), (handle, _VERSION_2))
        self._version_1 = Query(library, ("nvmlDeviceGetMemoryInfo",), (handle,))
        self._pool_id = pool_id
        self._pace = Pace(_PERIOD_S)
        self._known: tuple[Mapping[str, Reading], tuple[MemoryPool, ...]] = ({}, ())

    def read(self, now_s: float) -> tuple[Mapping[str, Reading], tuple[MemoryPool, ...]]:
        """Used and total memory, and the pool; no pool where they are absent. Raises as `judge` does."""
        if self._pace.due(now_s):
            self._known = self._ask()
        return self._known

    def _ask(self) -> tuple[Mapping[str, Reading], tuple[MemoryPool, ...]]:
        info = self._version_2.ask()
        if info is Absent.NOT_SUPPORTED:
            info = self._version_1.ask()
        if not isinstance(info, Absent) and not (info.total > 0 and info.used <= info.total >= info.free):
            info = Absent.BAD_VALUE
        if isinstance(info, Absent):
            self._pace.hasten()
            return {"memory_used_bytes": info, "memory_total_bytes": info}, ()
        pool = MemoryPool(self._pool_id, info.total, info.used, info.free)
        return {"memory_used_bytes": float(info.used), "memory_total_bytes": float(info.total)}, (pool,)
