"""Which metric is stored in which column, in which unit; and the fixed codes of throttle reasons and health states.

The codes stand in files of users: they are never renumbered, new ones are added at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from hwdash.core.health import HealthState
from hwdash.core.throttle import ThrottleActivity, ThrottleReason

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``sample``: the *metric* in base units times *scale*, rounded to a whole number."""

    metric: str
    name: str
    scale: float = 1.0

    def stored(self, value: float) -> int | None:
        """What stands in the column for *value*; None where SQLite has no integer for it (NaN, infinite, too large)."""
        return scaled(value, self.scale)

    def value(self, stored: int) -> float:
        """The metric in base units, from what stands in the column."""
        return stored / self.scale


def scaled(value: float | None, scale: float) -> int | None:
    """*value* times *scale* as a whole number, None for None and for what fits no 64-bit integer."""
    if value is None or not math.isfinite(product := value * scale) or abs(product) > _LARGEST:
        return None
    return min(round(product), _LARGEST)


COLUMNS = (
    Column("utilization", "utilization_permille", 1e3),
    Column("memory_bandwidth_utilization", "memory_bandwidth_utilization_permille", 1e3),
    Column("tensor_utilization", "tensor_utilization_permille", 1e3),
    Column("memory_used_bytes", "memory_used_kib", 1 / 1024),
    Column("memory_total_bytes", "memory_total_kib", 1 / 1024),
    Column("temperature_c", "temperature_mc", 1e3),
    Column("hotspot_temperature_c", "hotspot_temperature_mc", 1e3),
    Column("memory_temperature_c", "memory_temperature_mc", 1e3),
    Column("temperature_margin_c", "temperature_margin_mc", 1e3),
    Column("power_w", "power_mw", 1e3),
    Column("energy_j", "energy_mj", 1e3),
    Column("clock_hz", "clock_khz", 1e-3),
    Column("memory_clock_hz", "memory_clock_khz", 1e-3),
    Column("fan_ratio", "fan_permille", 1e3),
    Column("fan_rpm", "fan_rpm"),
    Column("pcie_rx_bytes_per_s", "pcie_rx_kib_per_s", 1 / 1024),
    Column("pcie_tx_bytes_per_s", "pcie_tx_kib_per_s", 1 / 1024),
    Column("pcie_link_generation", "pcie_link_generation"),
    Column("pcie_link_width", "pcie_link_width"),
    Column("ecc_uncorrected_total", "ecc_uncorrected_total"),
    Column("remapped_rows_total", "remapped_rows_total"),
    Column("load_1m", "load_1m_milli", 1e3),
    Column("sm_utilization", "sm_utilization_permille", 1e3),
    Column("power_ratio", "power_permille", 1e3),
    Column("requested_clock_hz", "requested_clock_khz", 1e-3),
    Column("memory_read_bytes_per_s", "memory_read_kib_per_s", 1 / 1024),
    Column("memory_write_bytes_per_s", "memory_write_kib_per_s", 1 / 1024),
    Column("nvlink_rx_bytes_per_s", "nvlink_rx_kib_per_s", 1 / 1024),
    Column("nvlink_tx_bytes_per_s", "nvlink_tx_kib_per_s", 1 / 1024),
    Column("pcie_replay_total", "pcie_replay_total"),
    Column("ecc_corrected_total", "ecc_corrected_total"),
    Column("heartbeat_total", "heartbeat_total"),
    Column("errors_total", "errors_total"),
    Column("voltage_v", "voltage_mv", 1e3),
    Column("current_a", "current_ma", 1e3),
)
"""Every metric of `hwdash.core.metric.METRICS`."""

THROTTLE_BITS = MappingProxyType(
    {
        ThrottleReason.THERMAL_SW: 1 << 0,
        ThrottleReason.THERMAL_HW: 1 << 1,
        ThrottleReason.MEMORY_THERMAL: 1 << 2,
        ThrottleReason.POWER_CAP: 1 << 3,
        ThrottleReason.POWER_BRAKE: 1 << 4,
        ThrottleReason.CURRENT_LIMIT: 1 << 5,
        ThrottleReason.SYNC_BOOST: 1 << 6,
        ThrottleReason.BOARD_LIMIT: 1 << 7,
        ThrottleReason.RELIABILITY: 1 << 8,
        ThrottleReason.PROCHOT: 1 << 9,
        ThrottleReason.HW_SLOWDOWN: 1 << 10,
        ThrottleReason.UNKNOWN: 1 << 11,
    }
)
"""The bit of each reason in the ``throttle`` columns."""
_BITS_BY_NAME = {reason.value: bit for reason, bit in THROTTLE_BITS.items()}

HEALTH_CODES = MappingProxyType(
    {
        HealthState.OK: 0,
        HealthState.WARM: 1,
        HealthState.THROTTLED: 2,
        HealthState.STALE: 3,
        HealthState.LOST: 4,
    }
)
"""What stands for each state in ``sample.health``."""


def throttle_mask(names: Iterable[str]) -> int:
    """The bits of the reasons in *names*; a name that is no reason counts as ``unknown``."""
    mask = 0
    for name in names:
        mask |= _BITS_BY_NAME.get(name, THROTTLE_BITS[ThrottleReason.UNKNOWN])
    return mask


def throttle_columns(activities: tuple[ThrottleActivity, ...]) -> tuple[int | None, int | None]:
    """``throttle`` and ``throttle_permille``: the reasons active now or since the sample before, and the largest duty.

    Both are None for a device that tells of no reason, so that it is not taken for a free-running one.
    """
    if not activities:
        return None, None
    mask = throttle_mask(item.reason for item in activities if item.limiting)
    duty = max((item.duty for item in activities if item.duty is not None), default=None)
    return mask, scaled(duty, 1e3)
