"""What models cannot do on a device, by what came of trying."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.snapshot import DeviceStatus

AGAIN_S = 60.0
"""After so long, one request tries a device again whose memory was too small, whatever it says of its memory."""
_MORE_BYTES = 256 * 2**20
_MORE_SHARE = 0.02
"""Clearly more memory: so many bytes, or this share of the pool where that is more."""
_SETTLED_S = 3.0
"""So long after a failure a sample of the device can still show what the failed worker itself had taken."""


@dataclass(slots=True)
class _Full:
    """``free_bytes`` is the least that was seen free, from before the failure on."""

    words: str
    free_bytes: int | None
    again_s: float
    settled_s: float


class Verdicts:
    """Remembers where models lack kernels and where they ran out of memory, until something speaks against it.

    All times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._lacking: dict[tuple[str, str], str] = {}
        self._full: dict[tuple[str, str], _Full] = {}

    def lacks_kernels(self, key: str, model: str, words: str) -> bool:
        """*model* (empty: any) does not run on the device, says an error in *words*. True when that is news."""
        news = (key, model) not in self._lacking
        self._lacking[key, model] = words
        return news

    def was_full(self, status: DeviceStatus, model: str, words: str, now_s: float) -> bool:
        """*model* did not fit, where *status* was the device's before it tried. True when that is news."""
        pair = (status.device.key, model)
        pool = status.largest_pool
        news = pair not in self._full
        free = None if pool is None else pool.free_bytes
        self._full[pair] = _Full(words, free, now_s + AGAIN_S, now_s + _SETTLED_S)
        return news

    def begin(self, key: str, model: str, now_s: float) -> None:
        """A request tries *model* there: nobody else does for a while, if it did not fit before."""
        if (full := self._full.get((key, model))) is not None:
            full.again_s = now_s + AGAIN_S

    def runs(self, key: str, model: str) -> bool:
        """*model* was answered there. True when something was held against it."""
        held = [
            self._full.pop((key, model), None),
            self._lacking.pop((key, model), None),
            self._lacking.pop((key, ""), None),
        ]
        return any(item is not None for item in held)

    def review(self, status: DeviceStatus, now_s: float) -> tuple[str, ...]:
        """Forget what no longer holds now that the device is in *status*: the models that may be tried again."""
        pool, key = status.largest_pool, status.device.key
        if pool is None:
            return ()
        more = max(_MORE_BYTES, _MORE_SHARE * pool.total_bytes)
        again: list[tuple[str, str]] = []
        for pair, full in self._full.items():
            if pair[0] != key or full.free_bytes is None:
                continue
            if pool.free_bytes >= full.free_bytes + more:
                again.append(pair)
            elif now_s >= full.settled_s:
                full.free_bytes = min(full.free_bytes, pool.free_bytes)
        for pair in again:
            del self._full[pair]
        return tuple(model for _, model in again)

    def kernels(self, key: str, model: str) -> str:
        """Why *model* does not run on the device; empty when nothing is known against it."""
        return self._lacking.get((key, ""), "") or self._lacking.get((key, model), "")

    def memory(self, key: str, model: str, now_s: float) -> tuple[str, float]:
        """Why *model* is not tried there now, and for how many seconds; empty when it may be."""
        full = self._full.get((key, model))
        return (full.words, full.again_s - now_s) if full is not None and now_s < full.again_s else ("", 0.0)

    def sentences(self, key: str) -> tuple[str, ...]:
        """All that is held against the device."""
        held = [*self._lacking.items(), *((pair, full.words) for pair, full in self._full.items())]
        return tuple(f"{model}: {words}" if model else words for (device, model), words in held if device == key)
