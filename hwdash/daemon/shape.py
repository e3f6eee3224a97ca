"""The shapes of models, at hand without reading a file each time."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from hwdash.core.clock import Clock
from hwdash.core.model import ModelShape
from hwdash.core.text import sanitise_line

log = logging.getLogger(__name__)

_FRESH_S = 5.0
_PATIENCE_S = 2.0
_MOST = 64


class ShapeBook:
    """Remembers what *read* says of a model, and reads it again when that is more than a few seconds old."""

    def __init__(self, read: Callable[[str], Awaitable[ModelShape | None]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, ModelShape | None]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[None]] = {}

    def at_hand(self, model: str) -> ModelShape | None:
        """What is known of *model* now; what is old or missing is read meanwhile."""
        read_at, shape = self._known.get(model, (None, None))
        if (read_at is None or self._clock.monotonic() - read_at > _FRESH_S) and model not in self._reading:
            task = self._reading[model] = asyncio.create_task(self._refresh(model))
            task.add_done_callback(lambda _: self._reading.pop(model, None))
        return shape

    async def find(self, model: str) -> ModelShape | None:
        """The shape of *model*; None where it is not known, or not within two seconds (a disk that does not answer)."""
        shape = self.at_hand(model)
        if shape is None and (reading := self._reading.get(model)) is not None:
            await asyncio.wait({reading}, timeout=_PATIENCE_S)
            _, shape = self._known.get(model, (0.0, None))
        return shape

    def close(self) -> None:
        """Read no more."""
        for task in self._reading.values():
            task.cancel()

    async def _refresh(self, model: str) -> None:
        try:
            shape = await self._read(model)
        except Exception:
            log.exception("the shape of %s cannot be read", sanitise_line(model, 100))
            shape = None
        self._known[model] = (self._clock.monotonic(), shape)
        self._known.move_to_end(model)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
