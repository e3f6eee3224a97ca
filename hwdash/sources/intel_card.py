"""One awake Intel GPU, read."""

from __future__ import annotations

from datetime import datetime

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.sample import Sample
from hwdash.sources.drm import DrmCard
from hwdash.sources.drm_fleet import told
from hwdash.sources.hwmon_channel import celsius, fan_rpm, volts
from hwdash.sources.intel_facts import Sensors, read_clock
from hwdash.sources.intel_throttle import read_reasons, reasons_known
from hwdash.sources.procfs import read_memory
from hwdash.sources.rate import Rate
from hwdash.sources.sysfs import Tree

METRICS = ("utilization", "temperature_c", "power_w", "clock_hz")
"""What every Intel GPU should tell; the rest is left out where the card does not have it."""

_MAX_BYTES = 2.0**50
_U32 = 2.0**32
_WHOLE = 1.5
"""A share of idle time that clocks which do not tick together can still show."""


class IntelCard:
    """One card over time. For use by one thread.

    Its utilisation is an estimate: the share of time in which the first graphics unit was not powered down. The PCI
    attributes are not read: on Arc cards they are those of a switch on the card.
    """

    def __init__(self, tree: Tree, card: DrmCard) -> None:
        self._tree = tree
        self._card = card
        self._idle = Rate(_U32)

    def read(self, key: str, sensors: Sensors, monotonic_s: float, taken_at: datetime) -> Sample:
        """One sample of the card, which must be awake; the times are those of this moment.

        ``power_w`` is left to whoever derives it from ``energy_j``.
        """
        tree = self._tree
        readings: dict[str, Reading] = {
            "utilization": self._utilization(sensors, monotonic_s),
            "temperature_c": self._celsius(sensors.temperature),
            "power_w": Absent.NOT_SUPPORTED,
            "clock_hz": read_clock(tree, sensors.unit.achieved),
        }
        if sensors.energy is not None:
            energy = tree.number(sensors.energy, 0.0, 2.0**64, 1e-6)
            readings["energy_j"] = energy
            readings["power_w"] = energy if isinstance(energy, Absent) else Absent.FIRST_SAMPLE
        requested = read_clock(tree, sensors.unit.requested)
        others: dict[str, Reading] = {
            "requested_clock_hz": requested,
            "memory_temperature_c": self._celsius(sensors.memory_temperature),
            "voltage_v": self._volts(sensors.voltage),
            "fan_rpm": self._fans(sensors),
        }
        readings |= told(others)
        pools = self._memory(sensors, readings)
        flags, unknown = read_reasons(tree, sensors.unit.reasons)
        return Sample(
            key,
            monotonic_s,
            taken_at,
            readings,
            pools,
            throttle_flags=flags,
            unknown_flags=unknown,
            throttle_known=reasons_known(sensors.unit.reasons) if flags is not None else frozenset(),
            clock_is_set=self._is_held_down(sensors),
        )

    def _celsius(self, base: str | None) -> Reading:
        return celsius(self._tree, f"{base}_input") if base is not None else Absent.NOT_SUPPORTED

    def _volts(self, path: str | None) -> Reading:
        return volts(self._tree, path) if path is not None else Absent.NOT_SUPPORTED

    def _utilization(self, sensors: Sensors, at_s: float) -> Reading:
        if sensors.unit.idle is None:
            return Absent.NOT_SUPPORTED
        idle_ms = self._idle.update(self._tree.number(sensors.unit.idle, 0.0, 2.0**64), at_s)
        if not is_present(idle_ms):
            return idle_ms
        share = idle_ms * 1e-3
        # More than all of the time: the counter was reset, which looks like a wrap.
        return max(0.0, 1.0 - share) if share <= _WHOLE else Absent.FIRST_SAMPLE

    def _fans(self, sensors: Sensors) -> Reading:
        """The fastest fan."""
        speeds = [fan_rpm(self._tree, path) for path in sensors.fans]
        known = [speed for speed in speeds if is_present(speed)]
        return max(known) if known else next(iter(speeds), Absent.NOT_SUPPORTED)

    def _memory(self, sensors: Sensors, readings: dict[str, Reading]) -> tuple[MemoryPool, ...]:
        """The pools; used and total memory of a discrete card into *readings*. An integrated GPU uses the host's memory.

        Of the drivers only i915 as Intel distributes it says how much memory there is.
        """
        if not sensors.discrete:
            memory = read_memory(self._tree)
            if memory is None:
                return ()
            return (MemoryPool("ram", memory.total, memory.total - memory.available, memory.available, shared=True),)
        total = self._tree.number(f"{self._card.folder}/lmem_total_bytes", 1.0, _MAX_BYTES)
        free = self._tree.number(f"{self._card.folder}/lmem_avail_bytes", 0.0, _MAX_BYTES)
        if is_present(total) and is_present(free) and free <= total:
            readings["memory_used_bytes"], readings["memory_total_bytes"] = total - free, total
            return (MemoryPool("vram", int(total), int(total - free), int(free)),)
        why = next((value for value in (total, free) if isinstance(value, Absent)), Absent.BAD_VALUE)
        readings["memory_used_bytes"] = readings["memory_total_bytes"] = why
        return ()

    def _is_held_down(self, sensors: Sensors) -> bool:
        ceiling, peak = (present(read_clock(self._tree, path)) for path in (sensors.unit.ceiling, sensors.unit.peak))
        return ceiling is not None and peak is not None and 0 < ceiling < peak
