"""What the deaths of workers mean for the next one."""

from __future__ import annotations

import logging
import time

from hwdash.core.errors import WorkerDied
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.text import sanitise_line

_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.5, 30.0
_FORGIVEN_DEATHS = 2
"""Deaths in a row after which those who wait are kept waiting for the next worker; after more they are let go."""
_log = logging.getLogger(__name__)


class Setback:
    """Deaths in a row, and what went wrong last (``problem``, empty when all is well): each makes the next wait longer."""

    def __init__(self) -> None:
        self.problem = ""
        self._deaths = 0
        self._not_before = 0.0

    @property
    def delay_s(self) -> float:
        """Seconds until the next worker may start."""
        return max(0.0, self._not_before - time.monotonic())

    @property
    def hopeless(self) -> WorkerDied | None:
        """The error for those who wait, once so many have died that another device should answer them."""
        if self._deaths <= _FORGIVEN_DEATHS:
            return None
        return WorkerDied(f"{self.problem}; {self._deaths} died in a row")

    def died(self, error: WorkerDied) -> None:
        """One more worker is dead."""
        self._deaths += 1
        self._not_before = time.monotonic() + min(_FIRST_BACK_OFF_S * 2 ** (self._deaths - 1), _LONGEST_BACK_OFF_S)
        self.problem = error.message
        _log.warning("%s", self.problem)

    def over(self) -> None:
        """A worker has answered."""
        self._deaths, self.problem = 0, ""

    def stage(self, device: str) -> StageEvent:
        """What those who wait on *device* are told."""
        return StageEvent(
            Stage.STARTING, device, sanitise_line(f"{self.problem}; next try in {self.delay_s:.1f} s", 300)
        )
