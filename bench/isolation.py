"""Sixty-four devices, four of which hang in a driver call for 30 s: do the other sixty keep their interval?"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bench.report import Figure, write
from hwdash.core.device import Device
from hwdash.core.health import HealthState
from hwdash.core.sample import Sample
from hwdash.monitor.monitor import Monitor
from hwdash.sources.fake import FakeSource, fake_gpu

DEVICES = 64
HANGING = 4
INTERVAL_S = 1.0
DRIVER_S = 0.002
"""What each read takes, asleep in the driver."""


class HangingSource(FakeSource):
    """Devices whose reads take as long as a driver's; some hang until `release`."""

    def read(self, key: str, fresh: bool = False) -> Sample:
        """The sample of *key*, after the driver's time."""
        time.sleep(DRIVER_S)
        return super().read(key, fresh)


@dataclass(frozen=True)
class Run:
    """Seconds between two samples of the devices that answer, by phase; and what became of those that hang."""

    calm: list[float]
    hung: list[float]
    stale: int
    back_s: float


def run(hang_s: float = 30.0) -> None:
    """Measure and write ``isolation.json``."""
    found = asyncio.run(_watch(hang_s))
    late = sorted(abs(interval - INTERVAL_S) / INTERVAL_S for interval in found.hung)
    figures = [
        Figure("interval of the other 60 while 4 hang, off by (99th percentile)", _at(late, 0.99), 0.1, "of it"),
        Figure("interval of the other 60 while 4 hang, off by (worst)", late[-1], 0.1, "of it"),
        Figure("hanging devices called stale", found.stale, HANGING, "devices", at_most=False),
    ]
    raw = {
        "devices": DEVICES,
        "hanging": HANGING,
        "hang_s": hang_s,
        "interval_s": INTERVAL_S,
        "driver_s": DRIVER_S,
        "intervals_before_s": _summary(found.calm),
        "intervals_while_hanging_s": _summary(found.hung),
        "back_after_release_s": found.back_s,
    }
    write("isolation", figures, raw)


async def _watch(hang_s: float) -> Run:
    devices: Sequence[Device] = [fake_gpu(n, pci=f"00000000:{n:02x}:00.0") for n in range(DEVICES)]
    source = HangingSource(devices)
    victims = {f"gpu{n * DEVICES // HANGING}" for n in range(HANGING)}
    monitor = Monitor([source], INTERVAL_S)
    calm: list[float] = []
    hung: list[float] = []
    stale: set[str] = set()
    last: dict[str, float] = {}
    timer = threading.Timer(hang_s, source.release)
    began: float | None = None
    released: float | None = None
    await monitor.start()
    try:
        async with aclosing(monitor.snapshots.subscribe()) as snapshots:
            async for snapshot in snapshots:
                now = time.monotonic()
                if began is not None and released is None and now - began >= hang_s:
                    released = now
                into = calm if began is None else hung if released is None else []
                for status in snapshot.devices:
                    if status.sampled_at is None:
                        continue
                    if status.device.id in victims:
                        if status.health.state is HealthState.STALE:
                            stale.add(status.device.id)
                        continue
                    taken = status.sampled_at.timestamp()
                    if (before := last.get(status.device.id)) is not None:
                        into.append(taken - before)
                    last[status.device.id] = taken
                if began is None and snapshot.sequence == 8:
                    source.hanging.update(snapshot.find(name).device.key for name in victims)
                    began = now
                    timer.start()
                if (
                    began is not None
                    and released is not None
                    and all(snapshot.find(name).health.state is HealthState.OK for name in victims)
                ):
                    return Run(calm, hung, len(stale), now - began - hang_s)
    finally:
        timer.cancel()
        source.release()
        await monitor.stop()
    raise RuntimeError("the monitor stopped")


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _summary(intervals: Sequence[float]) -> dict[str, float]:
    ordered = sorted(intervals)
    return {
        "samples": len(ordered),
        "shortest": ordered[0],
        "p50": statistics.median(ordered),
        "p99": _at(ordered, 0.99),
        "worst": ordered[-1],
    }
