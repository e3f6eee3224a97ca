"""The last minutes of every device, kept while the dashboard runs, and their drawing in dots."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from hwdash.core.health import HealthState
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import HARMLESS
from hwdash.tui.glyphs import Glyphs

TRACE_S = 1200.0
"""Seconds of history that are kept."""
STEP_S = 2.0
"""Seconds that one point covers; two points share a cell."""

METRICS = ("utilization", "temperature_c", "power_w", "clock_hz")
"""What is traced, in drawing order."""

_NOTHING: tuple[float | None, ...] = (None,) * len(METRICS)


class TracePoint(NamedTuple):
    """The newest values of one step; None where there was no fresh reading. ``suspected``: no flag said so."""

    step: int
    values: tuple[float | None, ...]
    throttled: bool
    suspected: bool = False


class TraceHistory:
    """Points per device, oldest first."""

    def __init__(self) -> None:
        self._points: dict[str, deque[TracePoint]] = {}
        self._step_s = STEP_S

    def add(self, snapshot: Snapshot) -> None:
        """Take the values of *snapshot*; of a second one in the same step only that a device throttled or went.

        A snapshot from before the newest one (a replay that went back) takes the place of all that came after it.
        """
        if snapshot.interval_s > self._step_s:
            self._step_s = snapshot.interval_s
            self._points.clear()
        step = int(snapshot.taken_at.timestamp() / self._step_s)
        for status in snapshot.devices:
            points = self._points.setdefault(status.device.key, deque(maxlen=int(TRACE_S / STEP_S)))
            while points and points[-1].step > step:
                points.pop()
            if not points or points[-1].step < step:
                points.append(_point(step, status))
            elif _is_silent(status):
                points[-1] = points[-1]._replace(values=_NOTHING)
            elif (now := _throttled(status)) and (not points[-1].throttled or points[-1].suspected):
                points[-1] = points[-1]._replace(throttled=now, suspected=status.health.suspected)

    @property
    def step_s(self) -> float:
        """Seconds of one point."""
        return self._step_s

    def window(self, key: str, cells: int) -> tuple[TracePoint | None, ...]:
        """Two points for each of *cells*, the newest last, None where nothing was seen.

        The window moves by whole cells, so that a drawing stands still in between.
        """
        points = self._points.get(key)
        if not points or cells <= 0:
            return (None,) * (2 * max(cells, 0))
        end = points[-1].step | 1
        window: list[TracePoint | None] = [None] * (2 * cells)
        for point in reversed(points):
            if (place := point.step - end - 1) < -2 * cells:
                break
            window[place] = point
        return tuple(window)


def _point(step: int, status: DeviceStatus) -> TracePoint:
    if _is_silent(status):
        return TracePoint(step, _NOTHING, False)
    values = tuple(status.number(metric) for metric in METRICS)
    return TracePoint(step, values, _throttled(status), status.health.suspected)


def _is_silent(status: DeviceStatus) -> bool:
    return status.health.state in (HealthState.STALE, HealthState.LOST) and not status.has_numbers


def _throttled(status: DeviceStatus) -> bool:
    if status.health.state is HealthState.THROTTLED:
        return True
    return any(item.active and item.reason not in HARMLESS for item in status.throttle)


def scale(metric: str, status: DeviceStatus) -> tuple[float, float] | None:
    """The fixed range that *metric* is drawn in, None where the device does not tell an upper end."""
    limits = status.device.limits
    tops: Mapping[str, float | None] = {
        "utilization": 1.0,
        "temperature_c": limits.temperature_shutdown_c or limits.temperature_slowdown_c or 100.0,
        "power_w": limits.power_w,
        "clock_hz": limits.clock_hz,
    }
    top = tops[metric]
    return None if not top or top <= 0 else (20.0 if metric == "temperature_c" and top > 20 else 0.0, top)


def ceiling(values: Iterable[float | None]) -> float:
    """An upper end for values without a limit: the next 1, 2 or 5 times a power of ten."""
    top = max((value for value in values if value is not None), default=0.0)
    size = 1.0
    while size < top:
        for factor in (2.0, 2.5, 2.0):
            if size >= top:
                break
            size *= factor
    return size


@lru_cache(maxsize=32)
def draw_trace(values: tuple[float | None, ...], low: float, high: float, rows: int, glyphs: Glyphs) -> Sequence[str]:
    """*values*, two a cell, as *rows* lines filled from below; None is a gap, a value at or below *low* one dot.

    Remembered, because a trace stands still between two steps. Braille dots where the font has them (four levels a row), else one of the glyphs' levels a cell.
    """
    per_row = 4 if glyphs.braille else len(glyphs.levels) - 1
    most = per_row * rows

    def height(value: float | None) -> int:
        if value is None:
            return 0
        return max(1, round((min(max(value, low), high) - low) / (high - low) * most))

    heights = [height(value) for value in values]
    pairs = list(zip(heights[::2], heights[1::2], strict=True))
    lines = []
    for row in range(rows):
        floor = (rows - 1 - row) * per_row
        levels = [max(0, min(per_row, height - floor)) for height in range(most + 1)]
        if glyphs.braille:
            lines.append("".join([_BRAILLE[levels[left]][levels[right]] for left, right in pairs]))
        else:
            lines.append("".join([glyphs.levels[levels[max(pair)]] for pair in pairs]))
    return lines


def _braille(left: int, right: int) -> str:
    bits = (0x00, 0x40, 0x44, 0x46, 0x47)[left] | (0x00, 0x80, 0xA0, 0xB0, 0xB8)[right]
    return chr(0x2800 + bits) if bits else " "


_BRAILLE = tuple(tuple(_braille(left, right) for right in range(5)) for left in range(5))
"""A cell by the dots of its left and its right column, filled from below (Unicode 15, block Braille Patterns)."""
