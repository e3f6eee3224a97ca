"""One awake AMD GPU, read: text attributes first, the binary table for what they do not tell."""

from __future__ import annotations

import logging
from datetime import datetime

from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.sample import Sample
from hwdash.sources.amdgpu_facts import Sensors
from hwdash.sources.amdgpu_level import current_clock_hz, current_link
from hwdash.sources.amdgpu_memory import MemoryErrors, read_pools
from hwdash.sources.drm import DrmCard, link_generation, read_link
from hwdash.sources.drm_fleet import told
from hwdash.sources.gpu_metrics import GpuMetrics, TableRefused, decode
from hwdash.sources.gpu_metrics_throttle import ThrottleMeter, Throttling
from hwdash.sources.hwmon_channel import celsius, fan_rpm, volts, watts
from hwdash.sources.sysfs import ReadFailure, Tree

_logger = logging.getLogger(__name__)

METRICS = (
    "utilization",
    "memory_used_bytes",
    "memory_total_bytes",
    "temperature_c",
    "power_w",
    "clock_hz",
    "memory_clock_hz",
)
"""What every AMD GPU should tell; the rest of its metrics is left out where the card does not have them."""

_TABLE_BYTES = 16_384
_HELD_DOWN = frozenset(
    {"low", "manual", "profile_standard", "profile_min_sclk", "profile_min_mclk", "perf_determinism"}
)
"""Values of ``power_dpm_force_performance_level`` under which a user keeps the clock from rising."""


class AmdgpuCard:
    """One card over time: its throttle counters, the unit of its loads. For use by one thread."""

    def __init__(self, tree: Tree, card: DrmCard) -> None:
        self._tree = tree
        self._card = card
        self._meter = ThrottleMeter()
        self._errors = MemoryErrors(tree, card)
        self._centipercent = False
        self._refusal = ""
        self._no_table: Absent = Absent.NOT_SUPPORTED

    def read(self, key: str, sensors: Sensors, monotonic_s: float, taken_at: datetime) -> Sample:
        """One sample of the card, which must be awake; the times are those of this moment."""
        metrics = self._table()
        critical_c = sensors.critical_c.get("junction")
        throttling = self._meter.update(metrics, monotonic_s, critical_c=critical_c) if metrics else Throttling()
        table = metrics or GpuMetrics((0, 0))
        readings: dict[str, Reading] = {"utilization": self._load("gpu_busy_percent", table.utilization)}
        pools = read_pools(self._tree, self._card, readings, apu=sensors.apu)
        readings |= self._temperatures(sensors, table)
        readings["power_w"] = self._power(sensors, table)
        readings |= self._clocks(sensors, table)
        readings |= told(self._others(sensors, table))
        errors, faults = self._errors.read(monotonic_s)
        readings |= told(errors)
        level = self._tree.line(self._card.path("power_dpm_force_performance_level"))
        return Sample(
            key,
            monotonic_s,
            taken_at,
            readings,
            pools,
            throttle_flags=throttling.flags,
            throttle_seconds=throttling.seconds,
            unknown_flags=throttling.unknown,
            throttle_known=throttling.known,
            clock_is_set=level in _HELD_DOWN,
            faults=faults,
        )

    def _table(self) -> GpuMetrics | None:
        try:
            table = self._tree.data(self._card.path("gpu_metrics"), _TABLE_BYTES)
            metrics = decode(table, centipercent=self._centipercent)
        except ReadFailure as failure:
            self._no_table = failure.reason
            return None
        except TableRefused as refusal:
            self._no_table = Absent.BAD_VALUE
            if str(refusal) != self._refusal:
                _logger.warning("%s: %s; its throttle reasons are not known", self._card.slot, refusal)
                self._refusal = str(refusal)
            return None
        self._centipercent = metrics.centipercent
        self._no_table = Absent.NOT_SUPPORTED
        return metrics

    def _load(self, name: str, otherwise: float | None) -> Reading:
        return _or(self._tree.number(self._card.path(name), 0.0, 100.0, 1e-2), otherwise)

    def _temperatures(self, sensors: Sensors, table: GpuMetrics) -> dict[str, Reading]:
        read = {label: celsius(self._tree, f"{base}_input") for label, base in sensors.temperatures.items()}
        die = read[sensors.die] if sensors.die is not None else Absent.NOT_SUPPORTED
        hotspot = _or(read.get("junction", Absent.NOT_SUPPORTED), table.hotspot_temperature_c)
        memory = _or(read.get("mem", Absent.NOT_SUPPORTED), table.memory_temperature_c)
        otherwise = table.temperature_c if table.temperature_c is not None else table.hotspot_temperature_c
        margins = [
            sensors.critical_c[label] - value
            for label in ("edge", "junction")
            if label in sensors.critical_c and is_present(value := read[label])
        ]
        others: dict[str, Reading] = {
            "hotspot_temperature_c": hotspot,
            "memory_temperature_c": memory,
            "temperature_margin_c": min(margins) if margins else Absent.NOT_SUPPORTED,
        }
        return {"temperature_c": _or(die, otherwise), **told(others)}

    def _power(self, sensors: Sensors, table: GpuMetrics) -> Reading:
        """Watts: the mean that the driver forms, else its instant value. A card has one of them, few have both."""
        reading: Reading = Absent.NOT_SUPPORTED
        for name in ("power1_average", "power1_input") if sensors.hwmon is not None else ():
            reading = watts(self._tree, f"{sensors.hwmon}/{name}")
            if reading is not Absent.NOT_SUPPORTED:
                break
        return _or(reading, table.power_w)

    def _clocks(self, sensors: Sensors, table: GpuMetrics) -> dict[str, Reading]:
        return {
            "clock_hz": self._clock(sensors, "sclk", table.clock_hz),
            "memory_clock_hz": self._clock(sensors, "mclk", table.memory_clock_hz),
        }

    def _clock(self, sensors: Sensors, label: str, otherwise: float | None) -> Reading:
        reading = current_clock_hz(self._tree, self._card.path(f"pp_dpm_{label}"))
        if not is_present(reading) and label in sensors.clocks:
            reading = self._tree.number(sensors.clocks[label], 0.0, 1e10)
        return _or(reading, otherwise)

    def _others(self, sensors: Sensors, table: GpuMetrics) -> dict[str, Reading]:
        tree, card = self._tree, self._card
        generation, width = self._link(table)
        replays = tree.number(card.path("pcie_replay_count"), 0.0, 2.0**64)
        return {
            "memory_bandwidth_utilization": self._load("mem_busy_percent", table.memory_activity),
            "energy_j": _or(self._no_table, table.energy_j),
            "pcie_link_generation": generation,
            "pcie_link_width": width,
            "pcie_replay_total": _or(replays, table.pcie_replays),
            **self._hwmon(sensors, table),
        }

    def _hwmon(self, sensors: Sensors, table: GpuMetrics) -> dict[str, Reading]:
        tree, hwmon = self._tree, sensors.hwmon
        if hwmon is None:
            return {"fan_rpm": _or(Absent.NOT_SUPPORTED, table.fan_rpm)}
        rpm = fan_rpm(tree, f"{hwmon}/fan1_input")
        pwm = tree.number(f"{hwmon}/pwm1", 0.0, 65_535.0)
        full = present(tree.number(f"{hwmon}/pwm1_max", 1.0, 65_535.0)) or 255.0
        voltage = volts(tree, f"{hwmon}/in0_input")
        return {
            "fan_rpm": _or(rpm, table.fan_rpm),
            "fan_ratio": (min(1.0, pwm / full) if is_present(pwm) else pwm),
            "voltage_v": _or(voltage, table.voltage_v),
        }

    def _link(self, table: GpuMetrics) -> tuple[Reading, Reading]:
        """Generation and lanes. On newer cards the PCI attributes are those of a switch on the card itself."""
        link = current_link(self._tree, self._card.path("pp_dpm_pcie"))
        if not isinstance(link, Absent):
            return float(link[0]), float(link[1])
        generation, width = read_link(self._tree, self._card, "current")
        if generation is Absent.NOT_SUPPORTED and table.pcie_gigatransfers is not None:
            generation = _or(generation, link_generation(f"{table.pcie_gigatransfers:.1f} GT/s"))
        return generation, _or(width, table.pcie_width)


def _or(reading: Reading, otherwise: float | None) -> Reading:
    """*reading*, or what the binary table says where there is no such file (or it cannot be used)."""
    return reading if is_present(reading) or otherwise is None else float(otherwise)
