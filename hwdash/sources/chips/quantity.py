"""Units that a profile may name, and the metrics that it may fill, with their dimensions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from hwdash.core.metric import BOUNDS as BASE_BOUNDS
from hwdash.core.metric import METRICS, Metric
from hwdash.core.metric import Unit as BaseUnit


class Dimension(StrEnum):
    """What a unit measures."""

    TEMPERATURE = "temperature"
    POWER = "power"
    ENERGY = "energy"
    FREQUENCY = "frequency"
    BYTES = "bytes"
    BYTE_RATE = "bytes per second"
    RATIO = "ratio"
    SPEED = "speed"
    VOLTAGE = "voltage"
    CURRENT = "current"
    TIME = "time"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by its symbol; ``factor`` turns it into the base unit of its dimension."""

    symbol: str
    dimension: Dimension
    factor: float


def _units(*groups: tuple[Dimension, dict[str, float]]) -> MappingProxyType[str, Unit]:
    return MappingProxyType(
        {symbol: Unit(symbol, dimension, factor) for dimension, units in groups for symbol, factor in units.items()}
    )


_SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12} | {
    f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", start=1)
}

UNITS = _units(
    (Dimension.TEMPERATURE, {"m°C": 1e-3, "°C": 1.0, "mC": 1e-3, "C": 1.0}),
    (Dimension.POWER, {"uW": 1e-6, "µW": 1e-6, "mW": 1e-3, "W": 1.0, "kW": 1e3}),
    (Dimension.ENERGY, {"pJ": 1e-12, "nJ": 1e-9, "uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0, "Wh": 3600.0}),
    (Dimension.FREQUENCY, {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}),
    (Dimension.BYTES, _SIZES),
    (Dimension.BYTE_RATE, {f"{symbol}/s": factor for symbol, factor in _SIZES.items()}),
    (Dimension.RATIO, {"%": 1e-2, "permille": 1e-3, "ratio": 1.0}),
    (Dimension.SPEED, {"RPM": 1.0}),
    (Dimension.VOLTAGE, {"uV": 1e-6, "µV": 1e-6, "mV": 1e-3, "V": 1.0}),
    (Dimension.CURRENT, {"uA": 1e-6, "µA": 1e-6, "mA": 1e-3, "A": 1.0}),
    (Dimension.TIME, {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}),
    (Dimension.COUNT, {"count": 1.0}),
)
"""Every unit, by its symbol."""

_DIMENSIONS = MappingProxyType(
    {
        BaseUnit.RATIO: Dimension.RATIO,
        BaseUnit.BYTES: Dimension.BYTES,
        BaseUnit.CELSIUS: Dimension.TEMPERATURE,
        BaseUnit.WATT: Dimension.POWER,
        BaseUnit.JOULE: Dimension.ENERGY,
        BaseUnit.HERTZ: Dimension.FREQUENCY,
        BaseUnit.RPM: Dimension.SPEED,
        BaseUnit.BYTES_PER_SECOND: Dimension.BYTE_RATE,
        BaseUnit.COUNT: Dimension.COUNT,
        BaseUnit.VOLT: Dimension.VOLTAGE,
        BaseUnit.AMPERE: Dimension.CURRENT,
    }
)

INTEGRALS = MappingProxyType(
    {
        Dimension.POWER: Dimension.ENERGY,
        Dimension.BYTE_RATE: Dimension.BYTES,
        Dimension.RATIO: Dimension.TIME,
    }
)
"""What a counter must count so that its growth per second has the dimension on the left."""

ALIASES = MappingProxyType(
    {
        "temperature_die": "temperature_c",
        "temperature_hotspot": "hotspot_temperature_c",
        "temperature_memory": "memory_temperature_c",
        "power": "power_w",
        "energy": "energy_j",
        "clock_core": "clock_hz",
        "clock_memory": "memory_clock_hz",
        "clock_requested": "requested_clock_hz",
        "memory_bandwidth": "memory_bandwidth_utilization",
        "pcie_rx": "pcie_rx_bytes_per_s",
        "pcie_tx": "pcie_tx_bytes_per_s",
        "mem_read_rate": "memory_read_bytes_per_s",
        "mem_write_rate": "memory_write_bytes_per_s",
        "fan": "fan_ratio",
        "voltage": "voltage_v",
        "current": "current_a",
        "heartbeat": "heartbeat_total",
        "errors": "errors_total",
        "ecc_corrected": "ecc_corrected_total",
        "ecc_uncorrected": "ecc_uncorrected_total",
    }
)
"""Short names of metrics, for profiles."""

LIMITS = MappingProxyType(
    {
        "power_w": Dimension.POWER,
        "clock_hz": Dimension.FREQUENCY,
        "temperature_slowdown_c": Dimension.TEMPERATURE,
        "temperature_shutdown_c": Dimension.TEMPERATURE,
        "memory_temperature_max_c": Dimension.TEMPERATURE,
        "memory_bandwidth_bytes_per_s": Dimension.BYTE_RATE,
    }
)
"""The limits of a device that a profile can tell, by their names in `hwdash.core.device.Limits`."""

LIMIT_OF = MappingProxyType(
    {
        "temperature_c": "temperature_slowdown_c",
        "hotspot_temperature_c": "temperature_slowdown_c",
        "memory_temperature_c": "memory_temperature_max_c",
        "clock_hz": "clock_hz",
        "power_w": "power_w",
    }
)
"""The metrics whose largest value is a limit of the device, and which."""

POWER_LIMIT = "power_limit"
"""A name among the metrics that becomes a limit of the device instead."""

_NOT_OF_A_CHIP = frozenset({"load_1m"})


def find_metric(name: str) -> Metric | None:
    """The metric that a profile calls *name*: a short name or the outside name; None when it may not be filled."""
    outside = ALIASES.get(name, name)
    return None if outside in _NOT_OF_A_CHIP else METRICS.get(outside)


def metric_names() -> list[str]:
    """Every name that `find_metric` knows, short ones instead of the outside names that they stand for."""
    long = METRICS.keys() - _NOT_OF_A_CHIP - set(ALIASES.values())
    return sorted({*ALIASES, *long, POWER_LIMIT})


def dimension_of(metric: Metric) -> Dimension:
    """What *metric* measures."""
    return _DIMENSIONS[metric.unit]


BOUNDS = MappingProxyType(
    {dimension: BASE_BOUNDS[unit] for unit, dimension in _DIMENSIONS.items()} | {Dimension.TIME: (0.0, 1e12)}
)
"""What can be true at all, in base units: a value outside comes from a sensor or driver that has none."""

_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(\S{1,8})", re.ASCII)


def parse_quantity(text: str, dimension: Dimension) -> float | None:
    """``32GiB`` or ``300 W`` in the base unit of *dimension*; None when it is no such thing."""
    match = _QUANTITY.fullmatch(text.strip())
    unit = UNITS.get(match[2]) if match is not None else None
    if match is None or unit is None or unit.dimension is not dimension:
        return None
    value = float(match[1]) * unit.factor
    return value if math.isfinite(value) else None


def symbols_of(*dimensions: Dimension) -> str:
    """The symbols of the units of *dimensions*, for a message."""
    return ", ".join(unit.symbol for unit in UNITS.values() if unit.dimension in dimensions)
