"""One NVIDIA GPU, read: a batch of field values and few calls for what has no field."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Fault, Sample
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.nvml_fault import FAULT_FIELDS, faults_of
from hwdash.sources.nvml_gpm import SHARES, Gpm
from hwdash.sources.nvml_link import LINK_FIELDS, LINK_SCOPES, Links
from hwdash.sources.nvml_margin import SLOWDOWN_LIMIT, Margin
from hwdash.sources.nvml_memory import Memory
from hwdash.sources.nvml_process import ProcessList
from hwdash.sources.nvml_query import FieldBatch, Query, within
from hwdash.sources.nvml_session import INVALID_ARGUMENT, UNKNOWN_TO_DRIVER
from hwdash.sources.nvml_throttle import (
    COUNTER_FIELDS,
    EVERY_REASON,
    FIELD_POWER_BRAKE,
    FIELD_THERMAL,
    FIELD_THERMAL_HW,
    FIELD_THERMAL_SW,
    HARDWARE_EVENTS,
    IDLE,
    Throttle,
    reasons_of,
    seconds_of,
    throttle_of,
)
from hwdash.sources.pace import Pace
from hwdash.sources.sysfs import Tree

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
    "pcie_link_generation",
    "pcie_link_width",
    "pcie_replay_total",
    "ecc_corrected_total",
    "ecc_uncorrected_total",
    "remapped_rows_total",
)
"""Every metric that is asked for on any NVIDIA GPU."""

# Field ids of nvml.h, NVML_FI_DEV_*.
_ECC_CORRECTED_LIFETIME, _ECC_UNCORRECTED_LIFETIME = 5, 6
_MEMORY_TEMPERATURE = 82
_ENERGY_MJ = 83
_PCIE_REPLAYS = 94
_REMAPPED_CORRECTED, _REMAPPED_UNCORRECTED = 142, 143
_POWER_INSTANT_MW = 186

_SELDOM = frozenset(
    {
        _ECC_CORRECTED_LIFETIME,
        _ECC_UNCORRECTED_LIFETIME,
        _PCIE_REPLAYS,
        _REMAPPED_CORRECTED,
        _REMAPPED_UNCORRECTED,
        SLOWDOWN_LIMIT,
        *FAULT_FIELDS,
    }
)
"""Fields that hardly ever change."""

_COSTLY_COUNTERS = frozenset({FIELD_THERMAL_HW, FIELD_POWER_BRAKE})
"""Counters of hardware slowdowns: each costs an H200's driver 0.9 ms of processor time."""
_COSTLY_REASONS = frozenset({ThrottleReason.THERMAL_HW, ThrottleReason.POWER_BRAKE})
"""What they count."""

_ENERGY = frozenset({_ENERGY_MJ})
"""An H200's driver needs 3.5 ms of processor time for it."""

_FIELDS = (_MEMORY_TEMPERATURE, _ENERGY_MJ, _POWER_INSTANT_MW, *COUNTER_FIELDS, *LINK_FIELDS, *sorted(_SELDOM))

_OFTEN_S, _SELDOM_S = 5.0, 15.0

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_DIE = 0
_FIRST_FAN = 0
_MOST_COUNT = 1e19


class Card:
    """One GPU of one NVML session. Every reading fails on its own; what the GPU does not know is asked once.

    What moves slowly or costs the driver much is asked for every few seconds, or when something says that it moved,
    and else repeated; *phase*, 0 to 1, sets the cards of a machine apart in that. *tree* is where ``/proc`` is.
    """

    def __init__(self, library: Any, handle: Any, pool_id: str, tree: Tree, phase: float) -> None:
        def query(*names: str, given: tuple[int, ...] = (), unknown: frozenset[int] = UNKNOWN_TO_DRIVER) -> Query:
            return Query(library, names, (handle, *given), unknown)

        self._library, self._handle = library, handle
        self.throttle = Throttle()
        self._fields = FieldBatch(library, handle, _FIELDS, LINK_SCOPES)
        self._utilization = query("nvmlDeviceGetUtilizationRates")
        self._temperature = query("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", given=(_SENSOR_DIE,))
        self._clock = query("nvmlDeviceGetClockInfo", given=(_CLOCK_SM,))
        self._memory_clock = query("nvmlDeviceGetClockInfo", given=(_CLOCK_MEMORY,))
        self._events = query("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        self._supported = query(
            "nvmlDeviceGetSupportedClocksEventReasons", "nvmlDeviceGetSupportedClocksThrottleReasons"
        )
        # A card without fans may call the number of its first fan an invalid argument.
        fan_unknown = UNKNOWN_TO_DRIVER | {INVALID_ARGUMENT}
        self._fan = query("nvmlDeviceGetFanSpeed_v2", given=(_FIRST_FAN,), unknown=fan_unknown)
        self._power_average = query("nvmlDeviceGetPowerUsage")
        self._energy = query("nvmlDeviceGetTotalEnergyConsumption")
        self._memory = Memory(library, handle, pool_id)
        self._margin = Margin(library, handle, self._fields, phase)
        self._links = Links(library, handle, self._fields, phase)
        self._processes = ProcessList(library, handle, tree, phase)
        self._gpm: Gpm | None = None
        self._gpm_is_settled = False
        self._counters_pace, self._fields_pace = Pace(_OFTEN_S, phase), Pace(_OFTEN_S, phase)
        self._fan_pace, self._clock_pace = Pace(_OFTEN_S, phase), Pace(_SELDOM_S, phase)
        self._energy_pace = Pace(_OFTEN_S, phase)
        self._energy_due = True
        self._power_is_told = False
        self._last_energy: Reading = Absent.NOT_SUPPORTED
        self._costly_due = True
        self._costly_known: frozenset[ThrottleReason] = frozenset()
        self._slowed_down = self._idle = False
        self._thermal_is_one = True
        self._seldom: dict[str, Reading] = {}
        self._faults: tuple[Fault, ...] = ()
        self._last_fan: Reading = Absent.NOT_SUPPORTED
        self._last_memory_clock: Reading = Absent.NOT_SUPPORTED
        self._reasons: frozenset[ThrottleReason] | None = None

    def read(self, key: str, monotonic_s: float, taken_at: datetime, fresh: bool = False) -> Sample:
        """One sample of the GPU, which goes by *key*; the times are those of this moment.

        The energy counter is of now when *fresh*, or where the power is not told otherwise; else of the last 5 s. A
        counter of throttled seconds that was not asked for in this read is left out: an old one has no rate.

        Raises `hwdash.sources.source.DeviceLost` when it is gone and `hwdash.sources.nvml_session.SessionLost` when
        NVML must be started again.
        """
        events = self._events.ask()
        self._notice_idle(events)
        self._read_fields(events, monotonic_s, fresh)
        memory, pools = self._memory.read(monotonic_s)
        readings = {**self._readings(monotonic_s), **memory, **self._links.read(monotonic_s)}
        processes = self._processes.read(monotonic_s)
        readings |= self._counters_of_gpm().read(monotonic_s)
        seconds = seconds_of(self._fields.get, frozenset() if self._costly_due else _COSTLY_COUNTERS)
        if self._costly_due:
            self._costly_known = _COSTLY_REASONS.intersection(seconds)
        self.throttle = throttle = throttle_of(events, self._known_reasons())
        return Sample(
            key,
            monotonic_s,
            taken_at,
            readings,
            pools,
            throttle.flags,
            seconds,
            throttle.unknown,
            throttle.known.union(seconds, self._costly_known),
            throttle.clock_is_set,
            processes,
            self._faults,
        )

    def close(self) -> None:
        """Give back what NVML holds for this card. Never raises."""
        if self._gpm is not None:
            self._gpm.close()

    def _counters_of_gpm(self) -> Gpm:
        """GPM, without what a counter of the links has been found for."""
        if self._gpm is None or not self._gpm_is_settled:
            metrics = {**SHARES, **self._links.without_counter()}
            self._gpm_is_settled = self._links.is_settled
            if self._gpm is None:
                self._gpm = Gpm(self._library, self._handle, metrics)
            self._gpm.keep(metrics)
        return self._gpm

    def _readings(self, now_s: float) -> dict[str, Reading]:
        """What is neither memory nor link, once the fields are read."""
        temperature = within(self._temperature.ask(), -60.0, 200.0)
        memory_temperature = within(self._fields.get(_MEMORY_TEMPERATURE), 1.0, 200.0)
        return {
            "utilization": self._utilization_ratio(),
            "temperature_c": temperature,
            "memory_temperature_c": memory_temperature,
            "temperature_margin_c": self._margin.read(temperature, memory_temperature, now_s),
            "power_w": self._power(),
            "energy_j": self._energy_joules(),
            "clock_hz": within(self._clock.ask(), 0.0, 1e5, 1e6),
            "memory_clock_hz": self._memory_hertz(now_s),
            "fan_ratio": self._fan_share(now_s),
            **self._seldom,
        }

    def _known_reasons(self) -> frozenset[ThrottleReason]:
        if self._reasons is None:
            bits = self._supported.ask()
            if bits is Absent.NOT_SUPPORTED:
                self._reasons = EVERY_REASON
            elif not isinstance(bits, Absent):
                self._reasons = reasons_of(int(bits))
        return EVERY_REASON if self._reasons is None else self._reasons

    def _notice_idle(self, events: int | Absent) -> None:
        """The power state follows work and rest, and so do memory clock and link."""
        idle = not isinstance(events, Absent) and bool(events & IDLE)
        if idle != self._idle:
            self._idle = idle
            self._clock_pace.hasten()

    def _read_fields(self, events: int | Absent, now_s: float, fresh: bool) -> None:
        slowed_down = isinstance(events, Absent) or bool(events & HARDWARE_EVENTS)
        self._costly_due = self._counters_pace.due(now_s) or slowed_down or self._slowed_down
        self._energy_due = self._energy_pace.due(now_s) or fresh or not self._power_is_told
        seldom = self._fields_pace.due(now_s)
        self._fields.read(_left_out(self._costly_due, self._energy_due, seldom))
        self._slowed_down = slowed_down
        if seldom:
            self._seldom, self._faults = self._seldom_readings(), faults_of(self._fields.get)
        if self._thermal_is_one and any(
            is_present(self._fields.get(id_)) for id_ in (FIELD_THERMAL_SW, FIELD_THERMAL_HW)
        ):
            self._thermal_is_one = False
            self._fields.drop(FIELD_THERMAL)

    def _seldom_readings(self) -> dict[str, Reading]:
        counts = {
            "pcie_replay_total": self._fields.get(_PCIE_REPLAYS),
            "ecc_corrected_total": self._fields.get(_ECC_CORRECTED_LIFETIME),
            "ecc_uncorrected_total": self._fields.get(_ECC_UNCORRECTED_LIFETIME),
            "remapped_rows_total": _sum(self._fields.get(_REMAPPED_CORRECTED), self._fields.get(_REMAPPED_UNCORRECTED)),
        }
        return {name: within(count, 0.0, _MOST_COUNT) for name, count in counts.items()}

    def _memory_hertz(self, now_s: float) -> Reading:
        if self._clock_pace.due(now_s):
            before, self._last_memory_clock = (
                self._last_memory_clock,
                within(self._memory_clock.ask(), 0.0, 1e5, 1e6),
            )
            if before != self._last_memory_clock:
                self._links.hasten()
        return self._last_memory_clock

    def _fan_share(self, now_s: float) -> Reading:
        if self._fan_pace.due(now_s):
            self._last_fan = within(self._fan.ask(), 0.0, 300.0, 1e-2)
        return self._last_fan

    def _utilization_ratio(self) -> Reading:
        rates = self._utilization.ask()
        return rates if isinstance(rates, Absent) else within(rates.gpu, 0.0, 100.0, 1e-2)

    def _power(self) -> Reading:
        """The power of this instant; where there is no such field, the driver's own choice (often a 1 s mean)."""
        milliwatts = self._fields.get(_POWER_INSTANT_MW)
        if isinstance(milliwatts, Absent):
            milliwatts = self._power_average.ask()
        power = within(milliwatts, 0.0, 1e8, 1e-3)
        self._power_is_told = is_present(power)
        return power

    def _energy_joules(self) -> Reading:
        if self._energy_due:
            millijoules = self._fields.get(_ENERGY_MJ)
            if millijoules is Absent.NOT_SUPPORTED:
                millijoules = self._energy.ask()
            self._last_energy = within(millijoules, 0.0, 1e18, 1e-3)
        return self._last_energy


@cache
def _left_out(costly: bool, energy: bool, seldom: bool) -> frozenset[int]:
    """The fields that are not asked for, when each of these parts is or is not."""
    parts = ((_COSTLY_COUNTERS, costly), (_ENERGY, energy), (_SELDOM, seldom))
    return frozenset().union(*(fields for fields, asked in parts if not asked))


def _sum(first: Reading, second: Reading) -> Reading:
    if isinstance(first, Absent):
        return first
    return second if isinstance(second, Absent) else first + second
