"""What a tick costs outside the driver: rates, health, snapshot and its publication, by device.

Real monitors over a source that answers at once with all that an H200 tells. The peer is a loop that only copies the
readings of the same samples, so that the ratio means something on another machine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import datetime

from bench.report import Figure, write
from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device, MemoryPool
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleReason
from hwdash.monitor.monitor import Monitor
from hwdash.sources.fake import fake_gpu, fake_readings

GOAL_US = 50.0
COUNTS = (64, 512)
INTERVAL_S = 0.1
SPEED = 10.0
WARM_UP = 90
REASONS = frozenset(ThrottleReason) - {ThrottleReason.UNKNOWN, ThrottleReason.MEMORY_THERMAL}


class QuickClock:
    """Ten times as fast as the machine's: what is usual for a device is learned within the warm-up."""

    def __init__(self) -> None:
        self._began = SYSTEM_CLOCK.monotonic()

    def monotonic(self) -> float:
        """Ten seconds for each."""
        return self._began + (SYSTEM_CLOCK.monotonic() - self._began) * SPEED

    def now(self) -> datetime:
        """The machine's time."""
        return SYSTEM_CLOCK.now()


class InstantSource:
    """Devices that answer at once. Every second one is power-capped; ``spent_s`` is the time spent in `read`."""

    name = "instant"
    problem = ""

    def __init__(self, count: int, clock: Clock, *, per_device: bool) -> None:
        self._clock = clock
        self.per_device = per_device
        self.spent_s = 0.0
        self._devices = [
            fake_gpu(n, pci=f"00000000:{n // 32:02x}:{n % 32:02x}.0", source=self.name) for n in range(count)
        ]
        self._places = {device.key: place for place, device in enumerate(self._devices)}
        self._reads = 0

    def discover(self) -> Sequence[Device]:
        """All of them."""
        return self._devices

    def read(self, key: str, fresh: bool = False) -> Sample:
        """A sample in which what moves on hardware has moved."""
        began = time.thread_time()
        self._reads += 1
        now = self._clock.monotonic()
        capped = self._places[key] % 2 == 0
        sample = Sample(
            key,
            now,
            self._clock.now(),
            _readings(self._reads, now),
            (MemoryPool("hbm", 150 * 10**9, 20 * 10**9, 130 * 10**9),),
            frozenset({ThrottleReason.POWER_CAP}) if capped else frozenset(),
            dict.fromkeys(REASONS, 0.0) | ({ThrottleReason.POWER_CAP: now} if capped else {}),
            throttle_known=REASONS,
        )
        self.spent_s += time.thread_time() - began
        return sample

    def close(self) -> None:
        """Nothing to let go of."""


def _readings(number: int, now: float) -> Mapping[str, Reading]:
    return fake_readings(
        utilization=0.9,
        power_w=Absent.NOT_SUPPORTED,
        energy_j=now * 350.0,
        clock_hz=1.98e9 - number % 7 * 15e6,
        memory_clock_hz=3.2e9,
        hotspot_temperature_c=60.0,
        fan_rpm=Absent.NOT_SUPPORTED,
        memory_bandwidth_utilization=0.4,
        sm_utilization=0.8,
        tensor_utilization=0.5,
        pcie_rx_bytes_per_s=1e9,
        pcie_tx_bytes_per_s=1e8,
        pcie_link_generation=5.0,
        pcie_link_width=16.0,
        nvlink_rx_bytes_per_s=1e10,
        nvlink_tx_bytes_per_s=1e10,
        ecc_uncorrected_total=0.0,
        ecc_corrected_total=0.0,
        remapped_rows_total=0.0,
        pcie_replay_total=0.0,
    )


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU by device and tick.

    ``tick_us`` is the work of the loop: the orders to the readers, rates, health, snapshot, publication.
    ``process_us`` adds what the readers spend besides the driver, and the system for them. ``copy_us`` is the peer.
    """

    tick_us: float
    process_us: float
    copy_us: float


async def _measure(count: int, ticks: int, *, per_device: bool) -> Cost:
    clock = QuickClock()
    source = InstantSource(count, clock, per_device=per_device)
    monitor = Monitor([source], INTERVAL_S, clock=clock)
    ticks_us: list[float] = []
    process_us: list[float] = []
    await monitor.start()
    try:
        spent_s, began, loop_began = 0.0, 0.0, 0.0
        async with aclosing(monitor.snapshots.subscribe()) as snapshots:
            async for snapshot in snapshots:
                if snapshot.sequence > WARM_UP:
                    ticks_us.append((time.thread_time() - loop_began) / count * 1e6)
                    process_us.append((time.process_time() - began - source.spent_s + spent_s) / count * 1e6)
                if len(ticks_us) == ticks:
                    break
                spent_s, began, loop_began = source.spent_s, time.process_time(), time.thread_time()
    finally:
        await monitor.stop()
    samples = [source.read(f"fake:gpu-{n}") for n in range(count)]
    return Cost(statistics.median(ticks_us), statistics.median(process_us), _copy_us(samples, ticks))


def _copy_us(samples: Sequence[Sample], rounds: int) -> float:
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        copies = [{"key": sample.key, "taken_at": sample.taken_at, **sample.readings} for sample in samples]
        costs.append((time.process_time() - began) / len(copies) * 1e6)
    return statistics.median(costs)


def run(ticks: int = 60) -> None:
    """Measure and write ``tick.json``."""
    costs: dict[str, Cost] = {}
    for count in COUNTS:
        for per_device in (False, True):
            threads = "a thread each" if per_device else "one thread"
            costs[f"{count} devices, {threads}"] = asyncio.run(_measure(count, ticks, per_device=per_device))
    raw = {name: asdict(cost) | {"copy_loops": cost.tick_us / cost.copy_us} for name, cost in costs.items()}
    for name, case in raw.items():
        print(
            f"      {name}: {case['tick_us']:.0f} us on the loop, {case['process_us']:.0f} us with the readers, "
            f"{case['copy_loops']:.0f} copy loops"
        )
    # With a thread for each device the loop also wakes each of them: work for the driver's sake.
    figures = [
        Figure(
            f"a tick outside the driver, {count} devices",
            costs[f"{count} devices, one thread"].tick_us,
            GOAL_US,
            "us a device",
        )
        for count in COUNTS
    ]
    write("tick", figures, {"ticks": ticks, "warm_up": WARM_UP, "interval_s": INTERVAL_S, "by_case": raw})
