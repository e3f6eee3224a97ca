"""One NVIDIA GPU, read: a batch of field values and few calls for what has no field."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hwdash.core.device import MemoryPool
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Sample
from hwdash.sources.nvml_query import FieldBatch, Query
from hwdash.sources.nvml_session import INVALID_ARGUMENT, UNKNOWN_TO_DRIVER
from hwdash.sources.nvml_throttle import (
    COUNTER_FIELDS,
    FIELD_POWER_BRAKE,
    FIELD_THERMAL,
    FIELD_THERMAL_HW,
    FIELD_THERMAL_SW,
    HARDWARE_EVENTS,
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

_COSTLY_COUNTERS = frozenset({FIELD_THERMAL_HW, FIELD_POWER_BRAKE})
"""Counters of hardware slowdowns: each costs an H200's driver 0.9 ms of processor time."""

_PATIENCE_S = 5.0
"""How long a costly value is believed that nothing else says to have changed."""

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_DIE = 0
_FIRST_FAN = 0
_MEMORY_V2 = 0x02000028
"""``nvmlMemory_v2`` of nvml.h: the size of the structure with its version in the top byte."""


class Card:
    """One GPU of one NVML session. Every reading fails on its own; what the GPU does not know is asked once.

    Two costly values are asked for again only when something moved or 5 s went by, and else repeated: the margin while
    the temperatures stay the same degree, and the counters of hardware slowdowns while no such event is flagged.
    """

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
        self._counters_until = self._margin_until = float("-inf")
        self._slowed_down = False
        self._last_margin: Reading = Absent.NOT_SUPPORTED
        self._margin_belongs_to: tuple[Reading, Reading] | None = None

    def read(self, key: str, monotonic_s: float, taken_at: datetime) -> Sample:
        """One sample of the GPU, which goes by *key*; the times are those of this moment.

        Raises `hwdash.sources.source.DeviceLost` when it is gone and `hwdash.sources.nvml_session.SessionLost` when
        NVML must be started again.
        """
        events = self._events.ask()
        self._read_fields(events, monotonic_s)
        fields = self._fields
        temperature = _within(self._temperature.ask(), -60.0, 200.0)
        memory_temperature = _within(fields.get(_MEMORY_TEMPERATURE), 1.0, 200.0)
        readings: dict[str, Reading] = {
            "utilization": self._utilization_ratio(),
            "temperature_c": temperature,
            "memory_temperature_c": memory_temperature,
            "temperature_margin_c": self._margin_at((temperature, memory_temperature), monotonic_s),
            "power_w": self._power(),
            "energy_j": self._energy_joules(),
            "clock_hz": _within(self._clock.ask(), 0.0, 1e5, 1e6),
            "memory_clock_hz": _within(self._memory_clock.ask(), 0.0, 1e5, 1e6),
            "fan_ratio": _within(self._fan.ask(), 0.0, 300.0, 1e-2),
            "ecc_uncorrected_total": fields.get(_ECC_UNCORRECTED_LIFETIME),
            "remapped_rows_total": _sum(fields.get(_REMAPPED_CORRECTED), fields.get(_REMAPPED_UNCORRECTED)),
        }
        pools = self._read_memory(readings)
        flags, unknown = (None, None) if isinstance(events, Absent) else flags_of(int(events))
        return Sample(key, monotonic_s, taken_at, readings, pools, flags, seconds_of(fields.get), unknown)

    def _read_fields(self, events: int | Absent, now: float) -> None:
        slowed_down = isinstance(events, Absent) or bool(events & HARDWARE_EVENTS)
        if slowed_down or self._slowed_down or now >= self._counters_until:
            self._counters_until = now + _PATIENCE_S
            self._fields.read()
        else:
            self._fields.read(without=_COSTLY_COUNTERS)
        self._slowed_down = slowed_down
        if any(is_present(self._fields.get(id_)) for id_ in (FIELD_THERMAL_SW, FIELD_THERMAL_HW)):
            self._fields.drop(FIELD_THERMAL)

    def _margin_at(self, temperatures: tuple[Reading, Reading], now: float) -> Reading:
        if (
            not is_present(self._last_margin)
            or temperatures != self._margin_belongs_to
            or now >= self._margin_until
            or not is_present(temperatures[0])
        ):
            self._last_margin = _within(self._margin.ask(), -100.0, 200.0)
            self._margin_belongs_to = temperatures
            self._margin_until = now + _PATIENCE_S
        return self._last_margin

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
