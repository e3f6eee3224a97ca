"""How many °C an NVIDIA GPU is away from slowing down."""

from __future__ import annotations

from typing import Any

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.sources.nvml_query import FieldBatch, Query, within
from hwdash.sources.pace import Pace

SLOWDOWN_LIMIT = 194
"""Field of the T.Limit at which the GPU slows down, a negative number of °C (nvml.h: ``…SLOWDOWN_TLIMIT``)."""

_PERIOD_S = 15.0
_NEAR_C = 20.0
"""From here on the driver is asked after each change of temperature: the edges of health lie below."""


class Margin:
    """The margin to slowdown of one GPU.

    The driver tells the margin to the highest temperature of normal work (T.Limit 0); slowdown lies further by
    field 194 of *batch*, where there is one. The call is costly: far from the limit it is made every 15 s, and in
    between the margin moves with the temperature.
    """

    def __init__(self, library: Any, handle: Any, batch: FieldBatch, phase: float) -> None:
        self._query = Query(library, ("nvmlDeviceGetMarginTemperature",), (handle,))
        self._batch = batch
        self._pace = Pace(_PERIOD_S, phase)
        self._asked: tuple[float, tuple[Reading, Reading]] | None = None

    def read(self, die: Reading, memory: Reading, now_s: float) -> Reading:
        """The margin at these temperatures of die and memory in °C, or why it is absent. Raises as `judge` does."""
        estimate = self._estimate(die, memory)
        due = self._pace.due(now_s)
        if estimate is not None and not due:
            return estimate
        margin = within(self._query.ask(), -100.0, 200.0)
        self._asked = None
        if not isinstance(margin, Absent):
            margin -= self._beyond()
            self._asked = (margin, (die, memory))
        return margin

    def _beyond(self) -> float:
        """The °C from T.Limit 0 to slowdown, not above 0. Asked once."""
        limit = within(self._batch.get(SLOWDOWN_LIMIT), -50.0, 0.0)
        if is_present(limit):
            self._batch.keep(SLOWDOWN_LIMIT)
            return limit
        return 0.0

    def _estimate(self, die: Reading, memory: Reading) -> float | None:
        """The margin by what was asked last; None where that is no ground to stand on."""
        if self._asked is None:
            return None
        margin, temperatures = self._asked
        if temperatures == (die, memory):
            return margin
        if not is_present(die):
            return None
        risen = [
            now - then
            for now, then in zip((die, memory), temperatures, strict=True)
            if is_present(now) and is_present(then)
        ]
        if not risen:
            return None
        margin -= max(risen)
        return margin if margin > _NEAR_C else None
