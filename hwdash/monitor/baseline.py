"""What is usual for a device, learned while it works: a clock that forgets slowly, and the pace of its answers."""

from __future__ import annotations

import math
from collections import deque

LEARN_BUSY_S = 60.0
"""A usual clock is known after this many busy seconds …"""
LEARN_SAMPLES = 8
"""… and this many samples."""
HALF_LIFE_S = 600.0
"""Busy seconds after which a clock counts half."""
CLOCK_QUANTILE = 0.9
LEARN_REQUESTS = 8
"""A usual pace is known from this many answers, those under test not counted."""
RECENT_REQUESTS = 3
"""The answers under test are this many, the newest."""
PACE_QUANTILE = 0.25

_STEP_HZ = 5e6
_MOST_STEPS = 4000
_RENEW_S = 5.0
_MOST_WEIGHT = 1e9
_KEPT_REQUESTS = 64


class UsualClock:
    """The clock that busy seconds reach or exceed a tenth of the time, newer ones counting more.

    Kept as busy seconds by steps of 5 MHz (a GPU's own steps are 15); the steps are bounded.
    """

    def __init__(self) -> None:
        self._weights: dict[int, float] = {}
        self._unit = 1.0
        self._busy_s = 0.0
        self._samples = 0
        self._renewed_at_s = -math.inf
        self._hertz: float | None = None

    def learn(self, clock_hz: float, seconds: float) -> None:
        """The device was busy at *clock_hz* for *seconds*."""
        step = min(round(clock_hz / _STEP_HZ), _MOST_STEPS)
        self._unit *= 2.0 ** (seconds / HALF_LIFE_S)
        self._weights[step] = self._weights.get(step, 0.0) + seconds * self._unit
        self._busy_s += seconds
        self._samples += 1
        if self._unit > _MOST_WEIGHT:
            self._weights = {step: weight / self._unit for step, weight in self._weights.items()}
            self._unit = 1.0

    @property
    def hertz(self) -> float | None:
        """The usual clock, renewed every few busy seconds; None until enough is learned."""
        if self._busy_s < LEARN_BUSY_S or self._samples < LEARN_SAMPLES:
            return None
        if self._busy_s - self._renewed_at_s >= _RENEW_S:
            self._renewed_at_s = self._busy_s
            self._hertz = self._quantile() * _STEP_HZ
        return self._hertz

    def _quantile(self) -> int:
        above = sum(self._weights.values()) * (1.0 - CLOCK_QUANTILE)
        steps = sorted(self._weights, reverse=True)
        for step in steps:
            above -= self._weights[step]
            if above <= 0:
                return step
        return steps[-1]


class UsualPace:
    """The gaps between the tokens of a model's newest answers, and what is usual among the older ones."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=_KEPT_REQUESTS)

    def learn(self, gap_s: float) -> None:
        """Another answer came with a median gap of *gap_s*."""
        self._gaps.append(gap_s)

    def compare(self) -> tuple[float, float] | None:
        """The median of the newest gaps and the usual one, in seconds; None until enough is learned."""
        gaps = list(self._gaps)
        older, newest = sorted(gaps[:-RECENT_REQUESTS]), sorted(gaps[-RECENT_REQUESTS:])
        if len(older) < LEARN_REQUESTS:
            return None
        return newest[len(newest) // 2], older[int((len(older) - 1) * PACE_QUANTILE)]
