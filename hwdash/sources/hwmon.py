"""The temperature of the processor packages, from hwmon or, failing that, from a thermal zone.

Names after the kernel documents "hwmon/sysfs-interface", "hwmon/coretemp", "hwmon/k10temp" and
"driver-api/thermal/sysfs-api", which has the unit of hwmon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.sources.hwmon_channel import celsius, celsius_limit
from hwdash.sources.sysfs import Tree

_HWMON = "sys/class/hwmon"
_THERMAL = "sys/class/thermal"

_LABELS = {
    "coretemp": re.compile(r"(Package|Physical) id [0-9]+"),
    "k10temp": re.compile(r"Tdie|Tctl"),
    "zenpower": re.compile(r"Tdie|Tctl"),
    "cpu_thermal": re.compile(r""),
}
"""Drivers of processor sensors, and which of their channels speaks for a package."""

_ZONES = frozenset({"x86_pkg_temp", "cpu-thermal", "cpu_thermal"})


@dataclass(frozen=True, slots=True)
class Sensor:
    """One channel: the file with its value, and the limits it states (°C)."""

    path: str
    slowdown_c: float | None = None
    shutdown_c: float | None = None


def find_sensors(tree: Tree) -> tuple[Sensor, ...]:
    """The sensors of the processor packages of *tree*: all of the best driver there is, or none."""
    found = [sensor for name in tree.names(_HWMON) for sensor in _of_chip(tree, f"{_HWMON}/{name}")]
    return tuple(found or _zones(tree))


def read_hottest(tree: Tree, sensors: tuple[Sensor, ...]) -> Reading:
    """The highest of the sensors that can be read, in °C; if none can, why the first cannot."""
    readings = [celsius(tree, sensor.path) for sensor in sensors]
    if values := [reading for reading in readings if is_present(reading)]:
        return max(values)
    return readings[0] if readings else Absent.NOT_SUPPORTED


def _of_chip(tree: Tree, folder: str) -> list[Sensor]:
    driver = tree.line(f"{folder}/name") or ""
    if (wanted := _LABELS.get(driver)) is None:
        return []
    channels = [match[1] for name in tree.names(folder) if (match := re.fullmatch(r"(temp[0-9]{1,4})_input", name))]
    labels = {channel: tree.line(f"{folder}/{channel}_label") for channel in channels}
    fitting = [channel for channel, label in labels.items() if label is not None and wanted.fullmatch(label)]
    # Tctl may lie above the real temperature by a constant that Tdie is free of.
    fitting = [channel for channel in fitting if labels[channel] == "Tdie"] or fitting
    if not fitting and channels and not any(labels.values()):
        fitting = channels[:1]
    return [_sensor(tree, f"{folder}/{channel}", throttles=driver != "cpu_thermal") for channel in fitting]


def _sensor(tree: Tree, base: str, *, throttles: bool) -> Sensor:
    """The sensor of one channel. *throttles*: at its critical value the processor slows down, else the machine stops."""
    critical = celsius_limit(tree, f"{base}_crit")
    emergency = celsius_limit(tree, f"{base}_emergency")
    if throttles:
        return Sensor(f"{base}_input", critical, emergency)
    return Sensor(f"{base}_input", None, critical)


def _zones(tree: Tree) -> list[Sensor]:
    folders = [f"{_THERMAL}/{name}" for name in tree.names(_THERMAL) if re.fullmatch(r"thermal_zone[0-9]+", name)]
    return [Sensor(f"{folder}/temp") for folder in folders if tree.line(f"{folder}/type") in _ZONES]
