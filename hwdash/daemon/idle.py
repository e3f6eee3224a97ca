"""What a device draws while nothing runs on it."""

from __future__ import annotations

from collections import deque
from statistics import median

IDLE_UTILIZATION = 0.02
"""A device that says it is busier than this is not idle, whoever keeps it busy."""
SETTLE_S = 2.0
"""After work, for so long nothing counts: NVML tells a power that is averaged over the last second."""
WINDOW_S = 5.0
"""How long a device must have been idle after that."""
FORGET_S = 3600.0
"""A figure holds so long. It is also replaced by each newer one: a device with a model on it draws more than an empty one."""
_NEWEST = 60


class IdlePower:
    """The median power of a device in its newest idle time."""

    def __init__(self) -> None:
        self._newest_s: float | None = None
        self._since_s: float | None = None
        self._powers: deque[float] = deque(maxlen=_NEWEST)
        self._watts: float | None = None
        self._seen_s = 0.0

    def note(self, at_s: float, power_w: float, utilization: float | None, *, busy: bool) -> None:
        """A sample, taken at *at_s* of the wall clock. *busy*: somebody works with the device, or has it alone.

        One that was told before is passed over. A device whose *utilization* is not known may be at work for others.
        """
        if at_s == self._newest_s:
            return
        back = self._newest_s is not None and at_s < self._newest_s
        self._newest_s = at_s
        if busy or utilization is None or utilization > IDLE_UTILIZATION:
            self._since_s = None
            return
        if self._since_s is None or back:
            self._since_s = at_s
            self._powers.clear()
        idle_s = at_s - self._since_s
        if idle_s < SETTLE_S:
            return
        self._powers.append(power_w)
        if idle_s >= SETTLE_S + WINDOW_S:
            self._watts, self._seen_s = median(self._powers), at_s

    def watts(self, now_s: float) -> float | None:
        """The idle power as known at *now_s* of the wall clock; None where it was not seen within the last hour."""
        return self._watts if abs(now_s - self._seen_s) <= FORGET_S else None
