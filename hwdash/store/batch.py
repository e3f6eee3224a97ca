"""What waits to be written."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from hwdash.core.event import Event, EventKind
from hwdash.core.inference import InferenceRecord
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.trial import DeviceTrial
from hwdash.store.bench import StoredReport
from hwdash.store.probe import StoredProbe

MAX_SAMPLES = 4096
_MAX_KEPT = 1000
_MAX_REPORTS = 20


@dataclass(slots=True)
class Batch:
    """Bounded lists of everything to be written, the oldest going first, and who waits for its commit.

    ``back_to`` is the moment from which on everything that is in the file goes first.
    """

    samples: deque[DeviceStatus] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    records: deque[InferenceRecord] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    probes: deque[StoredProbe] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    reports: deque[StoredReport] = field(default_factory=lambda: deque(maxlen=_MAX_REPORTS))
    trials: deque[DeviceTrial] = field(default_factory=lambda: deque(maxlen=_MAX_REPORTS))
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    back_to: datetime | None = None

    @property
    def urgent(self) -> bool:
        """True when something is in it that is not to wait for company."""
        return bool(self.events or self.records or self.probes or self.reports or self.trials or self.back_to)

    def wind_back(self, moment: datetime) -> None:
        """Drop what was at *moment* or later, also from the file with the next commit.

        A change of health at the very moment stays: a replay does not tell again how it finds a device there.
        """
        self.samples = deque((one for one in self.samples if (one.sampled_at or moment) < moment), MAX_SAMPLES)
        self.events = deque(
            (one for one in self.events if (one.at, one.kind is not EventKind.HEALTH) <= (moment, False)), _MAX_KEPT
        )
        self.back_to = moment if self.back_to is None else min(moment, self.back_to)

    def take_back(self, failed: Batch) -> None:
        """Keep the events and records of a batch that could not be written, before those that came since."""
        self.events = deque((*failed.events, *self.events), _MAX_KEPT)
        self.records = deque((*failed.records, *self.records), _MAX_KEPT)
        self.probes = deque((*failed.probes, *self.probes), _MAX_KEPT)
        self.reports = deque((*failed.reports, *self.reports), _MAX_REPORTS)
        self.trials = deque((*failed.trials, *self.trials), _MAX_REPORTS)
        if failed.back_to is not None:
            self.back_to = failed.back_to if self.back_to is None else min(failed.back_to, self.back_to)

    def release(self) -> None:
        """Let everybody go who waits for this batch."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()
