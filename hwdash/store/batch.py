"""What waits to be written."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hwdash.core.event import Event
from hwdash.core.inference import InferenceRecord
from hwdash.core.snapshot import DeviceStatus

MAX_SAMPLES = 4096
_MAX_KEPT = 1000


@dataclass(slots=True)
class Batch:
    """Bounded lists of everything to be written, the oldest going first, and who waits for its commit."""

    samples: deque[DeviceStatus] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    records: deque[InferenceRecord] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def urgent(self) -> bool:
        """True when something is in it that is not to wait for company."""
        return bool(self.events or self.records)

    def take_back(self, failed: Batch) -> None:
        """Keep the events and records of a batch that could not be written, before those that came since."""
        self.events = deque((*failed.events, *self.events), _MAX_KEPT)
        self.records = deque((*failed.records, *self.records), _MAX_KEPT)

    def release(self) -> None:
        """Let everybody go who waits for this batch."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()
