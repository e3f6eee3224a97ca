"""Whose energy it was: what a device's counter moved by is shared out among the requests that ran meanwhile.

Between two reads of the counter the same requests run, since each of them reads it when it begins and when it ends. What
it moved by goes in equal parts to the workers that were at work, and a worker's part in equal parts to its requests; a
request whose worker told how much of its steps it took gets its part scaled to that when it ends, and the last one of
those that ran together gets what is left. So the parts of all add up to what the device took.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from hwdash.core.snapshot import Snapshot
from hwdash.daemon.idle import IdlePower


class Party:
    """A request on a device, as far as its energy goes. ``worker`` is what computes it: requests of one share its steps.

    ``shared``: others ran meanwhile. ``broken``: the counter fell back meanwhile, and nothing is known.
    """

    __slots__ = ("active_s", "alone_s", "broken", "even_s", "running", "shared", "since_s", "worker")

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.running = False
        self.since_s: float | None = None
        self.shared = False
        self.broken = False
        self.active_s = 0.0
        self.alone_s = 0.0
        self.even_s = 0.0

    def scale(self, share: float | None) -> float:
        """What its even part of the time beside others is to be multiplied by, for *share* of all its time to be its own.

        1 where *share* is not known.
        """
        if share is None or self.even_s <= 0.0:
            return 1.0
        return max(0.0, (share * self.active_s - self.alone_s) / self.even_s)


@dataclass(slots=True)
class _Pot:
    """Joules that the same parties wait for; ``even`` is what each of them would get in equal parts."""

    joules: float = 0.0
    even: float = 0.0


class Meter:
    """The energy of one device, and what it draws while nothing runs on it (``idle``)."""

    def __init__(self) -> None:
        self.idle = IdlePower()
        self._parties: set[Party] = set()
        self._pots: dict[frozenset[Party], _Pot] = {}
        self._last: tuple[float, float] | None = None

    @property
    def busy(self) -> bool:
        """A request runs."""
        return any(party.running for party in self._parties)

    def enter(self, worker: str) -> Party:
        """A request of *worker* that begins with the next `begin`, and is charged once it is ``running``."""
        party = Party(worker)
        self._parties.add(party)
        return party

    def read(self, at_s: float, joules: float) -> None:
        """The counter stood at *joules* at *at_s* of the monotonic clock. Reads older than the newest are passed over."""
        if self._last is not None:
            before_s, before_j = self._last
            if at_s <= before_s:
                return
            self._share_out(before_s, at_s - before_s, joules - before_j)
        self._last = at_s, joules

    def begin(self, party: Party) -> None:
        """*party* takes part from the newest read on."""
        if self._last is not None:
            party.since_s = self._last[0]

    def leave(self, party: Party, share: float | None = None) -> float | None:
        """Take *party* out as of the newest read; gives its joules, None where they are not known. May be called again.

        *share* is its part of its worker's steps while it ran, as the worker tells; None for an even one.
        """
        self._parties.discard(party)
        scale, total = party.scale(share), 0.0
        for members in [members for members in self._pots if party in members]:
            pot, others = self._pots.pop(members), members - {party}
            part = min(pot.joules, scale * pot.even) if others else pot.joules
            total += part
            if others:
                left = self._pots.setdefault(others, _Pot())
                left.joules += pot.joules - part
                left.even += pot.even
        return None if party.broken else total

    def _share_out(self, begin_s: float, seconds: float, joules: float) -> None:
        active = [
            party for party in self._parties if party.running and party.since_s is not None and party.since_s <= begin_s
        ]
        workers = Counter(party.worker for party in active)
        for party in active:
            party.active_s += seconds
            party.shared |= len(active) > 1
            party.broken |= joules < 0.0
            if workers[party.worker] == 1:
                party.alone_s += seconds
            else:
                party.even_s += seconds / workers[party.worker]
        for worker, count in workers.items() if joules > 0.0 else ():
            members = frozenset(party for party in active if party.worker == worker)
            pot = self._pots.setdefault(members, _Pot())
            pot.joules += joules / len(workers)
            pot.even += joules / len(workers) / count


class Meters:
    """The meters of all devices, by key. *at_work* tells whether anybody works with that device now, or has it alone."""

    def __init__(self, at_work: Callable[[str], bool]) -> None:
        self._at_work = at_work
        self._meters: dict[str, Meter] = {}

    def of(self, key: str) -> Meter:
        """The meter of the device *key*."""
        return self._meters.setdefault(key, Meter())

    async def watch(self, snapshots: AsyncGenerator[Snapshot, None]) -> None:
        """Learn from *snapshots*, until they end, what each device draws while nothing runs on it."""
        async with contextlib.aclosing(snapshots):
            async for snapshot in snapshots:
                for status in snapshot.devices:
                    if status.sampled_at is None or (power_w := status.number("power_w")) is None:
                        continue
                    key = status.device.key
                    meter = self.of(key)
                    busy = meter.busy or self._at_work(key)
                    meter.idle.note(status.sampled_at.timestamp(), power_w, status.number("utilization"), busy=busy)
