"""How fast a device has been with a model, over its last answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

ALPHA = 0.25
"""Weight of the newest answer in the moving averages: about the last seven answers count."""


@dataclass(frozen=True, slots=True)
class Average:
    """An exponentially weighted mean and the equally weighted mean of the distances from it."""

    value: float
    deviation: float = 0.0

    def after(self, value: float) -> Average:
        """The average once *value* has been seen too."""
        distance = abs(value - self.value)
        return Average(self.value + ALPHA * (value - self.value), self.deviation + ALPHA * (distance - self.deviation))


@dataclass(frozen=True, slots=True)
class Pace:
    """Averages over ``samples`` finished answers of one model on one device, in seconds and joules; None: never seen.

    ``ttft_s`` is without cold start and without waiting for others, ``itl_s`` the time from token to token.
    """

    samples: int = 0
    ttft_s: Average | None = None
    itl_s: Average | None = None
    cold_start_s: Average | None = None
    joules_per_token: Average | None = None

    def after(
        self,
        ttft_s: float | None = None,
        itl_s: float | None = None,
        cold_start_s: float | None = None,
        joules_per_token: float | None = None,
    ) -> Pace:
        """The pace once one more answer with these figures has been seen; None leaves its average as it is."""
        return Pace(
            self.samples + 1,
            _after(self.ttft_s, ttft_s),
            _after(self.itl_s, itl_s),
            _after(self.cold_start_s, cold_start_s),
            _after(self.joules_per_token, joules_per_token),
        )


def _after(average: Average | None, value: float | None) -> Average | None:
    if value is None:
        return average
    return Average(value) if average is None else average.after(value)
