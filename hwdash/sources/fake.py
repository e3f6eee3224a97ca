"""The shipped fake of a source: devices that say what they are told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.source import DeviceLost, SourceUnavailable

GIB = 2**30


def fake_gpu(index: int = 0, **changes: object) -> Device:
    """A GPU with the fixed facts of a datacenter card; *changes* replace fields of `Device`."""
    facts: dict[str, object] = {
        "key": f"fake:gpu-{index}",
        "kind": DeviceKind.GPU,
        "vendor": "Fake",
        "name": f"Fake GPU {index}",
        "source": "fake",
        "driver": "1.0",
        "pci": f"00000000:0{index:x}:00.0",
        "capabilities": Capabilities("9.0", ("fp32", "fp16", "bf16", "fp8"), 132, inference=True),
        "limits": Limits(power_w=700.0, temperature_slowdown_c=89.0, temperature_shutdown_c=95.0, clock_hz=1.98e9),
        "visible_as": f"GPU-fake-{index}",
    }
    return Device(**(facts | changes))  # type: ignore[arg-type]


def fake_readings(**changes: Reading) -> Mapping[str, Reading]:
    """Readings of a GPU at work; *changes* replace or add metrics."""
    readings: dict[str, Reading] = {
        "utilization": 0.5,
        "memory_used_bytes": 20.0 * GIB,
        "memory_total_bytes": 140.0 * GIB,
        "temperature_c": 50.0,
        "memory_temperature_c": 48.0,
        "temperature_margin_c": 39.0,
        "power_w": 350.0,
        "energy_j": 1000.0,
        "clock_hz": 1.755e9,
        "fan_ratio": Absent.NOT_SUPPORTED,
    }
    return readings | changes


class FakeSource:
    """A `hwdash.sources.source.Source` without hardware.

    ``readings`` maps a device key to its readings, or to a function of the number of reads so far. Set ``lost`` or
    ``hanging`` while it runs: a device in ``lost`` raises `DeviceLost`; a read of a device in ``hanging`` blocks
    until `release` is called. ``changes`` replaces further fields of a device's samples. ``unavailable`` makes
    discovery fail with those words, and ``fix`` as what to do; ``problem`` is what it left out.
    """

    def __init__(
        self,
        devices: Sequence[Device] = (),
        readings: Mapping[str, Mapping[str, Reading] | Callable[[int], Mapping[str, Reading]]] | None = None,
        *,
        name: str = "fake",
        per_device: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.per_device = per_device
        self.devices = list(devices)
        self.readings = dict(readings or {})
        self.flags: dict[str, frozenset[ThrottleReason]] = {}
        self.throttle_seconds: dict[str, Mapping[ThrottleReason, float]] = {}
        self.changes: dict[str, Mapping[str, Any]] = {}
        self.lost: set[str] = set()
        self.hanging: set[str] = set()
        self.unavailable: str | None = None
        self.fix = ""
        self.problem = ""
        self.reads: dict[str, int] = {}
        self.closed = False
        self._clock = clock
        self._released = threading.Event()

    def discover(self) -> Sequence[Device]:
        """The devices as given."""
        if self.unavailable is not None:
            raise SourceUnavailable(self.unavailable, self.fix)
        return tuple(self.devices)

    def read(self, key: str, fresh: bool = False) -> Sample:
        """The scripted sample of *key*."""
        count = self.reads[key] = self.reads.get(key, 0) + 1
        if key in self.hanging:
            self._released.wait()
        if key in self.lost:
            raise DeviceLost(f"{key} is gone")
        readings = self.readings.get(key, fake_readings())
        if callable(readings):
            readings = readings(count)
        used, total = readings.get("memory_used_bytes"), readings.get("memory_total_bytes")
        pools: tuple[MemoryPool, ...] = ()
        if isinstance(used, float) and isinstance(total, float):
            pools = (MemoryPool("hbm", int(total), int(used), int(total - used)),)
        sample = Sample(
            key=key,
            monotonic_s=self._clock.monotonic(),
            taken_at=self._clock.now(),
            readings=readings,
            pools=pools,
            throttle_flags=self.flags.get(key, frozenset()),
            throttle_seconds=self.throttle_seconds.get(key, {}),
        )
        return replace(sample, **self.changes.get(key, {}))

    def release(self) -> None:
        """Let every hanging read go on."""
        self.hanging.clear()
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
