"""The memory of an AMD GPU: its pools, and the errors that its RAS unit counted.

Files after the kernel documents "gpu/amdgpu/driver-misc" and "gpu/amdgpu/ras".
"""

from __future__ import annotations

import re
from dataclasses import replace

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Fault
from hwdash.sources.drm import DrmCard
from hwdash.sources.pace import Pace
from hwdash.sources.procfs import read_memory
from hwdash.sources.sysfs import ReadFailure, Tree

_MAX_BYTES = 2.0**50
_MAX_BLOCKS = 64
_PATIENCE_S = 10.0
"""How long error counts are believed: each file makes the driver ask the firmware."""


def read_pools(tree: Tree, card: DrmCard, readings: dict[str, Reading], *, apu: bool) -> tuple[MemoryPool, ...]:
    """The memories that a program can use, and used and total memory into *readings*.

    Besides its own memory (``vram``) a card maps memory of the host (``gtt``). An APU has none of its own: its
    ``vram`` is set aside from the host's, both count.
    """
    own = _read_pool(tree, card, "vram", shared=apu)
    host = _read_pool(tree, card, "gtt", shared=True)
    counted = (own, host) if apu else (own,)
    pools = [pool for pool in counted if isinstance(pool, MemoryPool)]
    if len(pools) == len(counted):
        readings["memory_used_bytes"] = float(sum(pool.used_bytes for pool in pools))
        readings["memory_total_bytes"] = float(sum(pool.total_bytes for pool in pools))
    else:
        why = next(pool for pool in counted if isinstance(pool, Absent))
        readings["memory_used_bytes"] = readings["memory_total_bytes"] = why
    return tuple(_within_host(tree, pool) for pool in (own, host) if isinstance(pool, MemoryPool))


class MemoryErrors:
    """The RAS counters of one card. For use by one thread."""

    def __init__(self, tree: Tree, card: DrmCard) -> None:
        self._tree = tree
        self._folder = card.path("ras")
        self._pace = Pace(_PATIENCE_S)
        self._last: dict[str, Reading] = {}
        self._faults: tuple[Fault, ...] = ()

    def read(self, at_s: float) -> tuple[dict[str, Reading], tuple[Fault, ...]]:
        """Counts and faults, not older than 10 s at *at_s* on the monotonic clock."""
        if self._pace.due(at_s):
            self._last = self._counts()
            self._read_pages()
        return self._last, self._faults

    def _counts(self) -> dict[str, Reading]:
        names = [name for name in self._tree.names(self._folder) if name.endswith("_err_count")]
        sums: dict[str, Reading] = {}
        for name in names[:_MAX_BLOCKS]:
            for kind, metric in (("ue", "ecc_uncorrected_total"), ("ce", "ecc_corrected_total")):
                count = self._count(f"{self._folder}/{name}", kind)
                if count is Absent.NOT_SUPPORTED:
                    continue
                known = sums.get(metric, 0.0)
                sums[metric] = known + count if is_present(known) and is_present(count) else _why(known, count)
        return sums

    def _count(self, path: str, kind: str) -> Reading:
        try:
            text = self._tree.text(path, 4096)
        except ReadFailure as failure:
            return failure.reason
        match = re.search(rf"^{kind}: *([0-9]{{1,18}})\s*$", text, re.MULTILINE)
        return float(match[1]) if match else Absent.BAD_VALUE

    def _read_pages(self) -> None:
        """Lines ``0x00000001 : 0x00001000 : R``: R retired, P waiting for a moment of rest, F could not be retired."""
        self._faults = ()
        try:
            text = self._tree.text(f"{self._folder}/gpu_vram_bad_pages")
        except ReadFailure as failure:
            if failure.reason is not Absent.NOT_SUPPORTED:
                self._last["remapped_rows_total"] = failure.reason
            return
        states = re.findall(r"^0x[0-9a-fA-F]{1,16} *: *0x[0-9a-fA-F]{1,16} *: *([RPF])\s*$", text, re.MULTILINE)
        if text.strip() and not states:
            self._last["remapped_rows_total"] = Absent.BAD_VALUE
            return
        self._last["remapped_rows_total"] = float(states.count("R"))
        if stuck := len(states) - states.count("R"):
            pages = "1 bad memory page is" if stuck == 1 else f"{stuck} bad memory pages are"
            words = f"{pages} still in use: reset the GPU or restart the machine to retire it"
            self._faults = (Fault("bad_pages_pending", words),)


def _read_pool(tree: Tree, card: DrmCard, name: str, *, shared: bool) -> MemoryPool | Absent:
    total = tree.number(card.path(f"mem_info_{name}_total"), 1.0, _MAX_BYTES)
    used = tree.number(card.path(f"mem_info_{name}_used"), 0.0, _MAX_BYTES)
    if not is_present(total) or not is_present(used):
        return _why(total, used)
    if used > total:
        return Absent.BAD_VALUE
    return MemoryPool(name, int(total), int(used), int(total - used), shared)


def _within_host(tree: Tree, pool: MemoryPool) -> MemoryPool:
    """*pool* with no more free bytes than the host can give, where it is the host's memory that is mapped on demand."""
    if pool.id != "gtt":
        return pool
    memory = read_memory(tree)
    return pool if memory is None else replace(pool, free_bytes=min(pool.free_bytes, memory.available))


def _why(*readings: Reading) -> Absent:
    return next((reading for reading in readings if isinstance(reading, Absent)), Absent.ERROR)
