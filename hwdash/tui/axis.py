"""The axes of the history: times with their local marks, latencies with theirs. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

HOUR = 3600
DAY = 86_400


_STEPS = (60, 120, 300, 600, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY)
_GRAIN = 900
"""Every time zone is a multiple of this many seconds away from UTC."""


class Mark(NamedTuple):
    """A labelled place on an axis; ``at`` is in the axis' own unit."""

    at: float
    label: str


def time_marks(since: datetime, until: datetime, columns: int, zone: tzinfo | None = None) -> tuple[Mark, ...]:
    """Marks at round local times, as many as stand apart in *columns* cells; ``at`` is 0 at *since*, 1 at *until*.

    *zone* None is the machine's own time zone.
    """
    start, end = since.timestamp(), until.timestamp()
    if end <= start or columns < 1:
        return ()
    pattern = "%H:%M" if end - start <= 2 * DAY else "%a %d"
    room = columns / (len("00:00") + 3)
    step = next((step for step in _STEPS if (end - start) / step <= room), None)
    if step is None or (pattern == "%a %d" and step < DAY):
        step = DAY if step is not None else max(DAY, math.ceil((end - start) / room / DAY) * DAY)
    marks = []
    grain = min(step, _GRAIN)
    for number in range(math.ceil(start / grain), math.floor(end / grain) + 1):
        moment = number * grain
        local = datetime.fromtimestamp(moment, UTC).astimezone(zone)
        offset = local.utcoffset()
        if (moment + (offset.total_seconds() if offset else 0)) % step == 0:
            marks.append(Mark((moment - start) / (end - start), local.strftime(pattern)))
    return tuple(marks)


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from 0 to ``top`` with its marks (``at`` likewise, of a latency in seconds), labels of one width, upwards."""

    top: float
    marks: tuple[Mark, ...]


def latency_scale(largest: float, rows: int) -> Scale:
    """A scale that holds *largest* seconds, with marks at round values about three *rows* apart."""
    if not (math.isfinite(largest) and largest > 0):
        largest = 1e-3
    size, unit = next(((size, unit) for size, unit in ((1.0, "s"), (1e-3, "ms")) if largest >= size), (1e-6, "µs"))
    steps = max(1, min(6, rows // 3))
    step = _round_up(largest / size / steps)
    count = max(1, math.ceil(largest / size / step - 1e-9))
    labels = [f"{number * step:.4g} {unit}" for number in range(count + 1)]
    width = max(map(len, labels))
    marks = tuple(Mark(number * step * size, label.rjust(width)) for number, label in enumerate(labels))
    return Scale(count * step * size, marks)


def number_scale(largest: float, rows: int) -> Scale:
    """A scale that holds *largest* of whatever is counted, as `latency_scale` does."""
    if not (math.isfinite(largest) and largest > 0):
        largest = 1.0
    size, unit = next(((size, unit) for size, unit in ((1e6, "M"), (1e4, "k")) if largest >= size), (1.0, ""))
    size = 1e3 if unit == "k" else size
    step = _round_up(largest / size / max(1, min(6, rows // 3)))
    count = max(1, math.ceil(largest / size / step - 1e-9))
    labels = [f"{number * step:.4g}{unit if number else ''}" for number in range(count + 1)]
    width = max(map(len, labels))
    return Scale(
        count * step * size,
        tuple(Mark(number * step * size, label.rjust(width)) for number, label in enumerate(labels)),
    )


def _round_up(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= value * (1 - 1e-9)), 10 * power)
