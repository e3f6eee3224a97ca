"""Which stretches of a row of places are taken: an allocator without memory of its own."""

from __future__ import annotations

import bisect


class Segments:
    """Hands out stretches of ``size`` places, the lowest that fits first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken: list[tuple[int, int]] = []

    def take(self, length: int) -> int | None:
        """The start of a free stretch of *length* places, which is taken then; None where there is none."""
        start = 0
        for number, (begin, end) in enumerate(self._taken):
            if begin - start >= length:
                self._taken.insert(number, (start, start + length))
                return start
            start = end
        if self.size - start < length:
            return None
        self._taken.append((start, start + length))
        return start

    def give(self, start: int) -> None:
        """The stretch that begins at *start* is free again."""
        del self._taken[self._index(start)]

    def extend(self, start: int, length: int) -> bool:
        """Make the stretch at *start* so long without moving it; false where what follows is in the way."""
        number = self._index(start)
        following = self._taken[number + 1][0] if number + 1 < len(self._taken) else self.size
        if start + length > following:
            return False
        self._taken[number] = (start, start + length)
        return True

    def grow(self, size: int) -> None:
        """Have *size* places, more than before."""
        self.size = max(self.size, size)

    def _index(self, start: int) -> int:
        number = bisect.bisect_left(self._taken, (start, 0))
        if number == len(self._taken) or self._taken[number][0] != start:
            raise KeyError(start)
        return number
