"""The single product of the monitor: every device, as of one tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from hwdash.core.device import Device, MemoryPool
from hwdash.core.errors import UnknownDevice
from hwdash.core.event import Event
from hwdash.core.group import group_names, group_status
from hwdash.core.health import Health, HealthState, asleep
from hwdash.core.process import DeviceProcess
from hwdash.core.ranking import Ranking
from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.replay import ReplayState
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.throttle import ThrottleActivity


@dataclass(frozen=True, slots=True)
class LastRequest:
    """The newest finished request on a device: its model, time to first token (s) and decode speed (tokens/s).

    ``ttft_s`` is without queue and cold start (`Timing.warm_ttft_s`), so that devices can be compared by it. ``itl_p50_s`` is
    the median gap between its tokens, None for an answer too short to have one.
    """

    model: str
    finished_at: datetime
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    itl_p50_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device with its newest readings, throttling and health.

    ``throttle`` has every reason that the device tells of, worst first, also those that do not hold; `limiting` those
    that do. ``sampled_at`` is None until the first sample came in; ``age_s`` is the age of the newest sample when the
    snapshot was taken, None likewise. ``processes`` and ``faults`` are as in `hwdash.core.sample.Sample`;
    ``clock_is_set`` likewise.
    """

    device: Device
    readings: Mapping[str, Reading]
    pools: tuple[MemoryPool, ...]
    throttle: tuple[ThrottleActivity, ...]
    health: Health
    sampled_at: datetime | None
    age_s: float | None
    last_request: LastRequest | None = None
    processes: tuple[DeviceProcess, ...] | Absent | None = None
    faults: tuple[Fault, ...] = ()
    clock_is_set: bool = False

    @property
    def limiting(self) -> tuple[ThrottleActivity, ...]:
        """The throttle reasons that are active now or were since the sample before, worst first."""
        return tuple(activity for activity in self.throttle if activity.limiting)

    @property
    def asleep(self) -> bool:
        """The driver suspended the device, and nothing of it is read so that it stays so."""
        return asleep(self.readings)

    @property
    def has_numbers(self) -> bool:
        """There is a number as of ``sampled_at``, and it says how the device is now.

        Also of a device that is lost or stale because it says itself that it failed or stalled, and is still read.
        """
        if self.health.state is HealthState.STALE and all(item.level is not FaultLevel.STALLED for item in self.faults):
            return False
        return any(is_present(reading) for reading in self.readings.values())

    def number(self, metric: str) -> float | None:
        """The value of *metric* in base units, or None when it is absent or unknown to the device."""
        return present(self.readings.get(metric))

    @property
    def largest_pool(self) -> MemoryPool | None:
        """The pool with the most free bytes, of the device's own if it has any; None when no memory can be read.

        Where one program can use all pools together, all of them as one, called ``memory``.
        """
        if self.device.spans_pools and len(self.pools) > 1:
            return MemoryPool(
                "memory",
                sum(pool.total_bytes for pool in self.pools),
                sum(pool.used_bytes for pool in self.pools),
                sum(pool.free_bytes for pool in self.pools),
            )
        return max(self.pools, key=lambda pool: (not pool.shared, pool.free_bytes), default=None)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What one source did in the newest tick. ``problem`` is empty when it works; else a sentence with the fix."""

    name: str
    devices: int
    poll_s: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All devices of the machine at one tick. ``sequence`` grows by one per tick; ``taken_at`` is UTC.

    ``events`` are the newest events, oldest first, a few seconds of them: who follows every snapshot knows by their
    ``number`` which he has seen. ``replay`` is there while a recording is played instead of hardware.
    """

    sequence: int
    taken_at: datetime
    interval_s: float
    devices: tuple[DeviceStatus, ...]
    sources: tuple[SourceStatus, ...] = ()
    ranking: Ranking | None = None
    events: tuple[Event, ...] = ()
    replay: ReplayState | None = None

    def find(self, name: str) -> DeviceStatus:
        """The device whose id or key is *name*, or the group whose ids or keys *name* joins by ``+``.

        Raises `hwdash.core.errors.UnknownDevice`, which lists the ids there are, and `UsageError` for devices that cannot
        be a group.
        """
        for status in self.devices:
            if name in (status.device.id, status.device.key):
                return status
        if parts := group_names(name):
            return group_status([self.find(part) for part in parts])
        raise UnknownDevice(name, tuple(status.device.id for status in self.devices))
