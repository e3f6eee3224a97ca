"""The closed list of metric names, with the unit that each name carries."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Unit(StrEnum):
    """Base units. A metric is always in the unit that its name ends with."""

    RATIO = "ratio"
    BYTES = "bytes"
    CELSIUS = "c"
    WATT = "w"
    JOULE = "j"
    HERTZ = "hz"
    RPM = "rpm"
    BYTES_PER_SECOND = "bytes_per_s"
    COUNT = "count"
    LOAD = "load"
    VOLT = "v"
    AMPERE = "a"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its outside name, its unit and whether it only ever grows.

    ``title`` is what a person reads; ``counter`` marks values whose difference carries the meaning.
    """

    name: str
    unit: Unit
    title: str
    counter: bool = False


def _metrics(*metrics: Metric) -> MappingProxyType[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS = _metrics(
    Metric("utilization", Unit.RATIO, "utilisation"),
    Metric("memory_bandwidth_utilization", Unit.RATIO, "memory bandwidth"),
    Metric("memory_used_bytes", Unit.BYTES, "memory used"),
    Metric("memory_total_bytes", Unit.BYTES, "memory total"),
    Metric("temperature_c", Unit.CELSIUS, "temperature"),
    Metric("hotspot_temperature_c", Unit.CELSIUS, "hotspot temperature"),
    Metric("memory_temperature_c", Unit.CELSIUS, "memory temperature"),
    Metric("temperature_margin_c", Unit.CELSIUS, "margin to slowdown"),
    Metric("power_w", Unit.WATT, "power"),
    Metric("energy_j", Unit.JOULE, "energy", counter=True),
    Metric("clock_hz", Unit.HERTZ, "clock"),
    Metric("memory_clock_hz", Unit.HERTZ, "memory clock"),
    Metric("fan_ratio", Unit.RATIO, "fan"),
    Metric("fan_rpm", Unit.RPM, "fan speed"),
    Metric("pcie_rx_bytes_per_s", Unit.BYTES_PER_SECOND, "PCIe received"),
    Metric("pcie_tx_bytes_per_s", Unit.BYTES_PER_SECOND, "PCIe sent"),
    Metric("pcie_link_generation", Unit.COUNT, "PCIe generation"),
    Metric("pcie_link_width", Unit.COUNT, "PCIe width"),
    Metric("ecc_uncorrected_total", Unit.COUNT, "ECC errors, uncorrected", counter=True),
    Metric("remapped_rows_total", Unit.COUNT, "remapped rows", counter=True),
    Metric("tensor_utilization", Unit.RATIO, "tensor cores"),
    Metric("load_1m", Unit.LOAD, "load, 1 min"),
    Metric("sm_utilization", Unit.RATIO, "multiprocessors"),
    Metric("power_ratio", Unit.RATIO, "power, share of maximum"),
    Metric("requested_clock_hz", Unit.HERTZ, "clock requested"),
    Metric("memory_read_bytes_per_s", Unit.BYTES_PER_SECOND, "memory read"),
    Metric("memory_write_bytes_per_s", Unit.BYTES_PER_SECOND, "memory written"),
    Metric("nvlink_rx_bytes_per_s", Unit.BYTES_PER_SECOND, "NVLink received"),
    Metric("nvlink_tx_bytes_per_s", Unit.BYTES_PER_SECOND, "NVLink sent"),
    Metric("pcie_replay_total", Unit.COUNT, "PCIe replays", counter=True),
    Metric("ecc_corrected_total", Unit.COUNT, "ECC errors, corrected", counter=True),
    Metric("heartbeat_total", Unit.COUNT, "heartbeat", counter=True),
    Metric("errors_total", Unit.COUNT, "errors", counter=True),
    Metric("voltage_v", Unit.VOLT, "voltage"),
    Metric("current_a", Unit.AMPERE, "current"),
)
"""Every metric that hwdash knows, by its outside name."""

BOUNDS = MappingProxyType(
    {
        Unit.RATIO: (0.0, 1.5),
        Unit.BYTES: (0.0, 2.0**60),
        Unit.CELSIUS: (-40.0, 250.0),
        Unit.WATT: (0.0, 1e5),
        Unit.JOULE: (0.0, 1e16),
        Unit.HERTZ: (0.0, 1e12),
        Unit.RPM: (0.0, 2e5),
        Unit.BYTES_PER_SECOND: (0.0, 1e15),
        Unit.COUNT: (0.0, 2.0**64),
        Unit.LOAD: (0.0, 1e6),
        Unit.VOLT: (-1e4, 1e4),
        Unit.AMPERE: (-1e5, 1e5),
    }
)
"""What can be true at all, in base units: a value outside comes from a sensor or driver that has none."""

_OWN_BOUNDS = MappingProxyType({"temperature_margin_c": (-250.0, 290.0)})


def is_possible(name: str, value: float) -> bool:
    """True when *value* can be one of the metric *name*, which must be among `METRICS`; never for NaN."""
    low, high = _OWN_BOUNDS.get(name) or BOUNDS[METRICS[name].unit]
    return low <= value <= high


def metric_hint(name: str) -> str:
    """What may be meant by *name*, which is no metric: those like it, or all there are."""
    close = difflib.get_close_matches(name, METRICS, 3, 0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(METRICS)}"
