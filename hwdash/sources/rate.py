"""From a growing counter to a rate: wraps taken out, gaps left as gaps."""

from __future__ import annotations

from hwdash.core.reading import Absent, Reading, is_present


def unwrapped_growth(last: float, now: float, modulus: float | None) -> float | None:
    """How much a counter grew from *last* to *now*, with a wrap at *modulus* taken out; None when it was reset.

    A counter fell by a wrap only when it lost more than half of its range: read often enough, it cannot have grown by
    the other half meanwhile, while a device that starts anew mostly has counted less. *modulus* None: it never wraps.
    """
    if now >= last:
        return now - last
    if modulus is None or last >= modulus or last - now <= modulus / 2:
        return None
    return now - last + modulus


class Rate:
    """The growth per second of one counter. For use by one thread.

    *modulus* is what the counter wraps at (2**32 for 32 bits, its largest value + 1 elsewhere), None for one that never
    wraps. The first value has no rate, and neither has one that fell back without a wrap (see `unwrapped_growth`): the device
    was reset.
    """

    def __init__(self, modulus: float | None = None) -> None:
        self._modulus = modulus
        self._last: tuple[float, float] | None = None
        self._rate: Reading = Absent.FIRST_SAMPLE

    def update(self, value: Reading, at_s: float) -> Reading:
        """The rate up to *value*, read at *at_s* on the monotonic clock; an absent value's own reason.

        A second value of the same moment repeats the rate.
        """
        if not is_present(value):
            self._last = None
            return value
        if self._last is not None and at_s <= self._last[1]:
            return self._rate
        last, self._last = self._last, (value, at_s)
        self._rate = Absent.FIRST_SAMPLE
        if last is not None:
            growth = unwrapped_growth(last[0], value, self._modulus)
            if growth is not None:
                self._rate = growth / (at_s - last[1])
        return self._rate
