"""The rankings that were told lately, so that the next one under the same requirements keeps their order."""

from __future__ import annotations

from collections import OrderedDict

from hwdash.core.ranking import Ranking
from hwdash.core.requirement import Requirements

_MOST = 64


class Recall:
    """The newest ranking for each of the requirements that were asked for lately, a bounded number of them."""

    def __init__(self) -> None:
        self._told: OrderedDict[Requirements, tuple[float, Ranking]] = OrderedDict()

    def last(self, requirements: Requirements, since_s: float) -> Ranking | None:
        """What was told under *requirements* at *since_s* or later, in seconds of one monotonic clock; None: nothing."""
        told = self._told.get(requirements)
        return None if told is None or told[0] < since_s else told[1]

    def keep(self, requirements: Requirements, ranking: Ranking, now_s: float) -> None:
        """*ranking* is told under *requirements* at *now_s*."""
        self._told[requirements] = now_s, ranking
        self._told.move_to_end(requirements)
        while len(self._told) > _MOST:
            self._told.popitem(last=False)
