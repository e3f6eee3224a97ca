"""The memory pools of one device."""

from __future__ import annotations

from collections.abc import Mapping

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.sources.chips.figure import Figure
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Pool
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.quantity import BOUNDS, Dimension

_LOW, _HIGH = BOUNDS[Dimension.BYTES]


class PoolReader:
    """One memory of a device. For use by one thread. ``readings`` are those of the newest `read`: used, total, free."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.figures = {
            name: Figure(number or Number())
            for name, number in (("used", pool.used), ("total", pool.total), ("free", pool.free))
        }
        self.readings: Mapping[str, Reading] = {}

    def aim(self, place: Place, files: FileReads, facts: Mapping[str, str]) -> None:
        """Find the files at *place*."""
        for figure in self.figures.values():
            figure.aim(place, files, facts)

    def read(self, files: FileReads) -> MemoryPool | None:
        """The pool in whole bytes; None when less than two of used, total and free are known, or they contradict."""
        used, total, free = (_bounded(figure.read(files)) for figure in self.figures.values())
        if is_present(used) and is_present(free) and not is_present(total):
            total = used + free
        elif is_present(total) and is_present(free) and not is_present(used):
            used = total - free
        if is_present(used) and is_present(total):
            if total <= 0:
                total = Absent.BAD_VALUE
            elif not 0 <= used <= total:
                used = Absent.BAD_VALUE
        self.readings = {"used": used, "total": total, "free": free}
        if not is_present(used) or not is_present(total):
            return None
        left = total - used if not is_present(free) else min(free, total)
        return MemoryPool(self.pool.id, int(total), int(used), int(left), shared=self.pool.shared)


def _bounded(reading: Reading) -> Reading:
    return reading if isinstance(reading, Absent) or _LOW <= reading <= _HIGH else Absent.BAD_VALUE


def memory_readings(pool_readers: list[PoolReader]) -> dict[str, Reading]:
    """Used and total memory of a device: of its own pools together, or of the host's where it has none of its own."""
    counted = [one for one in pool_readers if not one.pool.shared] or pool_readers
    return {f"memory_{name}_bytes": _sum([one.readings[name] for one in counted]) for name in ("used", "total")}


def _sum(readings: list[Reading]) -> Reading:
    total = 0.0
    for reading in readings:
        if isinstance(reading, Absent):
            return reading
        total += reading
    return total
