"""How fast a device has been with a model, over its last answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

ALPHA = 0.25
"""Weight of the newest answer in the moving averages once there are some: about the last seven answers count."""


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of the first ``count`` values, exponentially weighted from the fourth on, and that of their distances."""

    value: float
    deviation: float = 0.0
    count: int = 1

    def after(self, value: float) -> Average:
        """The average once *value* has been seen too."""
        weight = max(ALPHA, 1.0 / (self.count + 1))
        distance = abs(value - self.value)
        return Average(
            self.value + weight * (value - self.value),
            self.deviation + weight * (distance - self.deviation),
            self.count + 1,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """Averages over ``samples`` finished answers of one model on one device, in seconds and joules; None: never seen.

    ``ttft_s`` is without cold start and without waiting for others, ``itl_s`` the time from token to token. An answer
    with a cold start is slower in its first tokens, too, as libraries load their kernels: it counts until there is one
    without (``warm``), and then no longer.
    """

    samples: int = 0
    ttft_s: Average | None = None
    itl_s: Average | None = None
    cold_start_s: Average | None = None
    joules_per_token: Average | None = None
    warm: bool = False

    def after(
        self,
        ttft_s: float | None = None,
        itl_s: float | None = None,
        cold_start_s: float | None = None,
        joules_per_token: float | None = None,
    ) -> Pace:
        """The pace once one more answer with these figures has been seen; None leaves its average as it is."""
        cold_start = _after(self.cold_start_s, cold_start_s)
        warm = cold_start_s is None
        if self.warm and not warm:
            return replace(self, cold_start_s=cold_start)
        before = self if self.warm == warm else Pace()
        return Pace(
            before.samples + 1,
            _after(before.ttft_s, ttft_s),
            _after(before.itl_s, itl_s),
            cold_start,
            _after(before.joules_per_token, joules_per_token),
            warm,
        )


def _after(average: Average | None, value: float | None) -> Average | None:
    if value is None:
        return average
    return Average(value) if average is None else average.after(value)
