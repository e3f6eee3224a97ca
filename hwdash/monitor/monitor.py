"""The monitor: samples of all devices into one snapshot a tick, whatever a single driver does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence

from hwdash.core.clock import Clock, SystemClock
from hwdash.core.config import check_interval
from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.group import group_names, group_sample
from hwdash.core.health import STALE_AFTER_INTERVALS
from hwdash.core.probe import Usual
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.core.trial import DtypeSpeed
from hwdash.monitor.broadcast import Broadcast
from hwdash.monitor.complaint import Complaints
from hwdash.monitor.mailbox import Bell
from hwdash.monitor.poll import Poll
from hwdash.monitor.registry import Registry
from hwdash.monitor.track import Moment
from hwdash.sources.source import Source

log = logging.getLogger(__name__)

GRACE_SHARE = 0.25
"""The share of an interval that a tick waits for the answers of its own reads …"""
GRACE_MOST_S = 0.25
"""… and never longer than this."""
LEAST_PERIOD_S = 0.02
"""Ticks are never closer together than this, however fast a recording is played."""


def next_tick(due_s: float, now_s: float, interval_s: float) -> float:
    """The first time of the schedule ``due_s + n * interval_s``, n ≥ 1, after *now_s*. Late ticks are left out."""
    missed = math.floor((now_s - due_s) / interval_s) if now_s > due_s else 0
    return due_s + (missed + 1) * interval_s


class Monitor:
    """Reads all devices of *sources* every *interval_s* and publishes a `Snapshot` of what is known.

    A read may take *deadline_s*; a device whose driver does not answer goes stale alone. *on_event* is told every
    event, on the loop, before the snapshot that shows it. Sources are searched again every *rescan_s*; a
    lost device is asked again every *lost_retry_s*, at most once a tick.

    *clock* is what samples are stamped with: ages, rescans and snapshots follow it, and it may be that of a recording,
    which stands, jumps (then call `rewind`) or runs at another speed (then set `pace`). Ticks and the deadlines of
    reads follow the machine's own time.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        interval_s: float = 1.0,
        deadline_s: float = 2.0,
        clock: Clock = SystemClock(),  # noqa: B008 - has no state
        on_event: Callable[[Event], None] | None = None,
        *,
        rescan_s: float = 10.0,
        lost_retry_s: float = 5.0,
    ) -> None:
        self.snapshots: Broadcast[Snapshot] = Broadcast()
        self._sources = tuple(sources)
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._on_event = on_event
        self._rescan_s = rescan_s
        self._lost_retry_s = lost_retry_s
        self._registry = Registry(Complaints(log, clock))
        self._last_requests: dict[str, LastRequest] = {}
        self._poll: Poll | None = None
        self._task: asyncio.Task[None] | None = None
        self._pace = 1.0
        self._bell = Bell()
        self._ticking = asyncio.Lock()
        self._sequence = 0

    @property
    def interval_s(self) -> float:
        """Seconds between two ticks. Setting it (0.1 to 60, else `UsageError`) changes the rhythm at once."""
        return self._interval_s

    @interval_s.setter
    def interval_s(self, value: float) -> None:
        self._interval_s = check_interval(value)
        self._bell.ring()

    @property
    def pace(self) -> float:
        """Ticks an interval: the speed of a recording, 1 for hardware. Setting it changes the rhythm at once.

        Snapshots go on to name `interval_s`, the recorded one. There is at most one tick every 20 ms.
        """
        return self._pace

    @pace.setter
    def pace(self, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"a pace must be a positive number, not {value!r}")
        self._pace = value
        self._bell.ring()

    @property
    def _period_s(self) -> float:
        return max(self._interval_s / self._pace, LEAST_PERIOD_S)

    async def start(self) -> None:
        """Start the threads and the tick. Returns at once; `ready` waits for the first snapshot."""
        self._poll = Poll(self._sources, self._registry, self._clock, self._rescan_s, self._lost_retry_s)
        self._task = asyncio.create_task(self._run(self._poll), name="hwdash-monitor")

    async def stop(self) -> None:
        """End the tick and all subscriptions, and close each source of which no call hangs. Takes 0.2 s at most."""
        if self._task is None or self._poll is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        self.snapshots.close()
        await self._poll.stop()

    async def ready(self) -> None:
        """Wait for the first complete cycle (or for `stop`)."""
        async with contextlib.aclosing(self.snapshots.subscribe()) as snapshots:
            async for _ in snapshots:
                return

    async def refresh(self, key: str, timeout_s: float = 0.1) -> Sample | None:
        """A sample of *key* that is read now, out of turn; None when the device is lost, or late by *timeout_s*.

        Of a group, one of all its devices.
        """
        track = self._registry.get(key)
        if track is None and (keys := group_names(key)):
            samples = await asyncio.gather(*(self.refresh(member, timeout_s) for member in keys))
            known = [sample for sample in samples if sample is not None]
            return group_sample(key, known) if len(known) == len(keys) else None
        if self._task is None or self._poll is None or track is None:
            return None
        return await self._poll.refresh(track, timeout_s, self._deadline_s)

    def device(self, name: str) -> Device:
        """The device of that id, key or ``visible_as``. Raises `UnknownDevice`, which lists the ids there are."""
        return self._registry.find(name)

    def note_request(self, key: str, last: LastRequest) -> None:
        """Show *last* with the device *key* from the next snapshot on, also when the device is found only later."""
        if self._last_requests.get(key) == last:
            return
        self._last_requests[key] = last
        if (track := self._registry.get(key)) is not None:
            track.note_request(self._clock.monotonic(), last)

    def note_probe(self, key: str, model: str, gap_s: float, usual: Usual, counts_s: float) -> None:
        """A probe of *model* on the device *key*, otherwise idle, took *gap_s* from token to token, where *usual* is usual.

        Slow ones in a row that no throttle reason explains make the device suspected, for *counts_s* after the newest.
        """
        if (track := self._registry.get(key)) is not None:
            track.note_probe(self._clock.monotonic(), model, gap_s, usual, counts_s)

    def use_trials(self, tried: Callable[[Device], tuple[DtypeSpeed, ...]]) -> None:
        """Show with each device, from the next snapshot on, how fast its precisions are: what *tried* says of it now."""
        self._registry.use_trials(tried)

    async def rewind(self, catch_up: Callable[[], bool] | None = None) -> None:
        """The clock has jumped: forget all samples, conditions, suspicions and last requests (not the ids).

        Then, while *catch_up* moves the recording one frame on and returns True, each frame is read in silence: no
        snapshot, no event. At the end one tick shows where that led; its snapshot is published before this returns.
        """
        if self._task is None or self._poll is None:
            return
        async with self._ticking:
            self._poll.rewind()
            self._last_requests.clear()
            for track in self._registry.admit():
                track.forget()
            while catch_up is not None and catch_up():
                await self._look(self._poll, self._deadline_s)
            await self._tick(self._poll, self._deadline_s)
        self._bell.ring()

    async def _run(self, poll: Poll) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            ticked_s = loop.time()
            try:
                async with self._ticking:
                    await self._tick(poll, self._deadline_s if self._sequence == 0 else self._grace_s)
            except Exception:
                log.exception("a tick of the monitor failed")
            due_s = next_tick(due_s, loop.time(), self._period_s)
            while await self._bell.wait(due_s):
                due_s = max(loop.time(), ticked_s + self._period_s)

    @property
    def _grace_s(self) -> float:
        return min(GRACE_SHARE * self._period_s, GRACE_MOST_S)

    async def _tick(self, poll: Poll, patience_s: float) -> None:
        moment, statuses, events = await self._look(poll, patience_s)
        self._sequence += 1
        sources = tuple(watch.status(moment) for watch in poll.watches)
        for event in events:
            self._tell(event)
        self.snapshots.publish(Snapshot(self._sequence, moment.at, self._interval_s, statuses, sources))

    async def _look(self, poll: Poll, patience_s: float) -> tuple[Moment, tuple[DeviceStatus, ...], list[Event]]:
        """One cycle: the time, the row of every device, and what happened."""
        first = self._sequence == 0
        started_s = self._clock.monotonic()
        await poll.cycle(patience_s)
        moment = self._moment(started_s)
        statuses = []
        events: list[Event] = []
        for track in self._registry.admit():
            # A device that was just plugged in gets its row with its first answer, or when that is overdue.
            if first or track.visible(moment):
                try:
                    status, happened = track.observe(moment, self._last_requests.get(track.device.key))
                except Exception:
                    log.exception("the row of %s could not be made", track.device.key)
                    continue
                statuses.append(status)
                events += happened
        return moment, tuple(statuses), events

    def _moment(self, started_s: float) -> Moment:
        now_s = self._clock.monotonic()
        # What a tick waited for one device does not make the samples of the others old.
        oldest_s = max(STALE_AFTER_INTERVALS * self._interval_s, self._deadline_s) + max(0.0, now_s - started_s)
        return Moment(now_s, self._clock.now(), self._deadline_s, oldest_s)

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            log.exception("the listener to events failed")
