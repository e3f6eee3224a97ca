"""One NVIDIA GPU, read: a batch of field values and few calls for what has no field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.nvml_query import FieldBatch, Query
from hwdash.sources.nvml_session import INVALID_ARGUMENT, UNKNOWN_TO_DRIVER
from hwdash.sources.nvml_throttle import (
    COUNTER_FIELDS,
    FIELD_THERMAL,
    FIELD_THERMAL_HW,
    FIELD_THERMAL_SW,
    flags_of,
    seconds_of,
)

METRICS = (
    "utilization",
    "memory_used_bytes",
    "memory_total_bytes",
    "temperature_c",
    "memory_temperature_c",
    "temperature_margin_c",
    "power_w",
    "energy_j",
    "clock_hz",
    "memory_clock_hz",
    "fan_ratio",
    "ecc_uncorrected_total",
    "remapped_rows_total",
)
"""Every metric that is read from an NVIDIA GPU."""

# Field ids of nvml.h, NVML_FI_DEV_*.
_ECC_UNCORRECTED_LIFETIME = 6
_MEMORY_TEMPERATURE = 82
_ENERGY_MJ = 83
_REMAPPED_CORRECTED = 142
_REMAPPED_UNCORRECTED = 143
_POWER_INSTANT_MW = 186
_FIELDS = (
    _MEMORY_TEMPERATURE,
    _ENERGY_MJ,
    _POWER_INSTANT_MW,
    _ECC_UNCORRECTED_LIFETIME,
    _REMAPPED_CORRECTED,
    _REMAPPED_UNCORRECTED,
    *COUNTER_FIELDS,
)

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_DIE = 0
_FIRST_FAN = 0
_MEMORY_V2 = 0x02000028
"""``nvmlMemory_v2`` of nvml.h: the size of the structure with its version in the top byte."""


@dataclass(frozen=True, slots=True)
class CardReading:
    """What one read of one GPU gave; the fields are those of `hwdash.core.sample.Sample`."""

    readings: Mapping[str, Reading]
    pools: tuple[MemoryPool, ...]
    throttle_flags: frozenset[ThrottleReason] | None
    throttle_seconds: Mapping[ThrottleReason, float]
    unknown_flags: str | None


class Card:
    """One GPU of one NVML session. Every reading fails on its own; what the GPU does not know is asked once."""

    def __init__(self, library: Any, handle: Any, pool_id: str) -> None:
        def query(*names: str, given: tuple[int, ...] = (), unknown: frozenset[int] = UNKNOWN_TO_DRIVER) -> Query:
            return Query(library, names, (handle, *given), unknown)

        self._pool_id = pool_id
        self._fields = FieldBatch(library, handle, _FIELDS)
        self._utilization = query("nvmlDeviceGetUtilizationRates")
        self._memory_v2 = query("nvmlDeviceGetMemoryInfo", given=(_MEMORY_V2,))
        self._memory_v1 = query("nvmlDeviceGetMemoryInfo")
        self._temperature = query("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", given=(_SENSOR_DIE,))
        self._margin = query("nvmlDeviceGetMarginTemperature")
        self._clock = query("nvmlDeviceGetClockInfo", given=(_CLOCK_SM,))
        self._memory_clock = query("nvmlDeviceGetClockInfo", given=(_CLOCK_MEMORY,))
        self._events = query("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        # A card without fans may call the number of its first fan an invalid argument.
        fan_unknown = UNKNOWN_TO_DRIVER | {INVALID_ARGUMENT}
        self._fan = query("nvmlDeviceGetFanSpeed_v2", given=(_FIRST_FAN,), unknown=fan_unknown)
        self._power_average = query("nvmlDeviceGetPowerUsage")
        self._energy = query("nvmlDeviceGetTotalEnergyConsumption")

    def read(self) -> CardReading:
        """Read the GPU now.

        Raises `hwdash.sources.source.DeviceLost` when it is gone and `hwdash.sources.nvml_session.SessionLost` when
        NVML must be started again.
        """
        fields = self._fields
        fields.read()
        if is_present(fields.get(FIELD_THERMAL_SW)) or is_present(fields.get(FIELD_THERMAL_HW)):
            fields.drop({FIELD_THERMAL})
        readings: dict[str, Reading] = {
            "utilization": self._utilization_ratio(),
            "temperature_c": _within(self._temperature.ask(), -60.0, 200.0),
            "memory_temperature_c": _within(fields.get(_MEMORY_TEMPERATURE), 1.0, 200.0),
            "temperature_margin_c": _within(self._margin.ask(), -100.0, 200.0),
            "power_w": self._power(),
            "energy_j": self._energy_joules(),
            "clock_hz": _within(self._clock.ask(), 0.0, 1e5, 1e6),
            "memory_clock_hz": _within(self._memory_clock.ask(), 0.0, 1e5, 1e6),
            "fan_ratio": _within(self._fan.ask(), 0.0, 300.0, 1e-2),
            "ecc_uncorrected_total": fields.get(_ECC_UNCORRECTED_LIFETIME),
            "remapped_rows_total": _sum(fields.get(_REMAPPED_CORRECTED), fields.get(_REMAPPED_UNCORRECTED)),
        }
        pools = self._read_memory(readings)
        events = self._events.ask()
        flags, unknown = (None, None) if isinstance(events, Absent) else flags_of(int(events))
        return CardReading(readings, pools, flags, seconds_of(fields.get), unknown)

    def _utilization_ratio(self) -> Reading:
        rates = self._utilization.ask()
        return rates if isinstance(rates, Absent) else _within(rates.gpu, 0.0, 100.0, 1e-2)

    def _power(self) -> Reading:
        """The power of this instant; where there is no such field, the driver's own choice (often a 1 s mean)."""
        milliwatts = self._fields.get(_POWER_INSTANT_MW)
        if isinstance(milliwatts, Absent):
            milliwatts = self._power_average.ask()
        return _within(milliwatts, 0.0, 1e8, 1e-3)

    def _energy_joules(self) -> Reading:
        millijoules = self._fields.get(_ENERGY_MJ)
        if millijoules is Absent.NOT_SUPPORTED:
            millijoules = self._energy.ask()
        return _within(millijoules, 0.0, 1e18, 1e-3)

    def _read_memory(self, readings: dict[str, Reading]) -> tuple[MemoryPool, ...]:
        """Put used and total memory into *readings*. Version 1 counts the driver's reserve as used, version 2 does not."""
        info = self._memory_v2.ask()
        if info is Absent.NOT_SUPPORTED:
            info = self._memory_v1.ask()
        if not isinstance(info, Absent) and not (info.total > 0 and info.used <= info.total >= info.free):
            info = Absent.BAD_VALUE
        if isinstance(info, Absent):
            readings["memory_used_bytes"] = readings["memory_total_bytes"] = info
            return ()
        readings["memory_used_bytes"] = float(info.used)
        readings["memory_total_bytes"] = float(info.total)
        return (MemoryPool(self._pool_id, info.total, info.used, info.free),)


def _within(value: Any, low: float, high: float, scale: float = 1.0) -> Reading:
    """*value* times *scale*; absent when it is, or when it lies outside what hardware can mean."""
    if isinstance(value, Absent):
        return value
    return value * scale if low <= value <= high else Absent.BAD_VALUE


def _sum(first: Reading, second: Reading) -> Reading:
    if isinstance(first, Absent):
        return first
    return second if isinstance(second, Absent) else first + second
