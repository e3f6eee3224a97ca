"""Every metric that the daemon tells Prometheus: its name, type, unit and labels, and where each reading goes. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class FamilyKind(StrEnum):
    """What a family is made of, under the names that OpenMetrics has for it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """All series under one name.

    ``name`` is what a query writes, with the ``_total`` of a counter and the ``_info`` of an info; a histogram has
    ``_bucket``, ``_sum`` and ``_count`` behind it. ``unit`` is the base unit that the name says, empty for a number
    without one. ``labels`` are in the order in which `hwdash.daemon.metric_page.Page.add` takes them.
    """

    name: str
    words: str
    labels: tuple[str, ...] = ("device",)
    unit: str = ""
    histogram: bool = False

    @property
    def kind(self) -> FamilyKind:
        """Its type."""
        if self.histogram:
            return FamilyKind.HISTOGRAM
        if self.name.endswith("_total"):
            return FamilyKind.COUNTER
        return FamilyKind.INFO if self.name.endswith("_info") else FamilyKind.GAUGE


@dataclass(frozen=True, slots=True)
class Home:
    """Where a reading goes: a family, and the values of its labels after ``device``."""

    family: Family
    labels: tuple[str, ...] = ()


_THROTTLE = ("device", "reason", "class")
_ANSWER = ("device", "model")

BUILD = Family("hwdash_build_info", "The version of hwdash and of the Python that runs it.", ("version", "python"))
DEVICE = Family(
    "hwdash_device_info",
    "What the device is; always 1.",
    ("device", "id", "kind", "vendor", "name", "driver", "firmware", "pci", "source", "parent", "compute_capability"),
)
UP = Family("hwdash_device_up", "1 while the device answers: its health is neither stale nor lost.")
HEALTH = Family(
    "hwdash_device_health", "1 for the health that the device is in, 0 for the others.", ("device", "state")
)
SCORE = Family(
    "hwdash_device_score",
    "Score of the device, 0 to 1, for the default model under a policy.",
    ("device", "policy"),
)
SOURCE_UP = Family("hwdash_source_up", "1 while the source of devices works.", ("source",))
POLL = Family(
    "hwdash_poll_duration_seconds",
    "How long the newest read of a source took; of its slowest device where each has a thread of its own.",
    ("source",),
    "seconds",
)

UTILIZATION = Family("hwdash_device_utilization_ratio", "Share of time in which the device was busy.", unit="ratio")
SM = Family("hwdash_device_sm_utilization_ratio", "Share of multiprocessors that were busy, over time.", unit="ratio")
TENSOR = Family("hwdash_device_tensor_utilization_ratio", "Share of time in which tensor cores worked.", unit="ratio")
MEMORY_USED = Family("hwdash_device_memory_used_bytes", "Memory in use, by pool.", ("device", "pool"), "bytes")
MEMORY_TOTAL = Family("hwdash_device_memory_total_bytes", "Size of the memory, by pool.", ("device", "pool"), "bytes")
MEMORY_FREE = Family(
    "hwdash_device_memory_free_bytes",
    "Memory that can be allocated, by pool; may be less than total less used.",
    ("device", "pool"),
    "bytes",
)
MEMORY_BANDWIDTH = Family(
    "hwdash_device_memory_bandwidth_ratio", "Share of time in which the memory was read or written.", unit="ratio"
)
MEMORY_TRAFFIC = Family(
    "hwdash_device_memory_traffic_bytes_per_second",
    "Bytes read from and written to the memory, a second.",
    ("device", "direction"),
    "bytes_per_second",
)
TEMPERATURE = Family("hwdash_device_temperature_celsius", "Temperature, by sensor.", ("device", "sensor"), "celsius")
MARGIN = Family(
    "hwdash_device_temperature_margin_celsius",
    "Degrees left until the device slows down because of heat.",
    unit="celsius",
)
TEMPERATURE_LIMIT = Family(
    "hwdash_device_temperature_limit_celsius",
    "Temperature at which the device slows down, shuts down, or has too hot a memory.",
    ("device", "limit"),
    "celsius",
)
POWER = Family("hwdash_device_power_watts", "Power drawn.", unit="watts")
POWER_LIMIT = Family("hwdash_device_power_limit_watts", "Power that the device may draw.", unit="watts")
POWER_RATIO = Family("hwdash_device_power_ratio", "Power drawn, as a share of what the device may draw.", unit="ratio")
ENERGY = Family("hwdash_device_energy_joules_total", "Energy drawn, by the device's own counter.", unit="joules")
VOLTAGE = Family("hwdash_device_voltage_volts", "Voltage.", unit="volts")
CURRENT = Family("hwdash_device_current_amperes", "Current.", unit="amperes")
CLOCK = Family("hwdash_device_clock_hertz", "Clock, by domain.", ("device", "domain"), "hertz")
CLOCK_LIMIT = Family("hwdash_device_clock_limit_hertz", "Highest clock of the cores.", unit="hertz")
CLOCK_REQUESTED = Family(
    "hwdash_device_clock_requested_hertz", "Clock of the cores that the driver asked for.", unit="hertz"
)
FAN = Family("hwdash_device_fan_ratio", "Speed of the fan, as a share of its full speed.", unit="ratio")
FAN_RPM = Family("hwdash_device_fan_rpm", "Speed of the fan in revolutions a minute.", unit="rpm")
LOAD = Family("hwdash_device_load_average", "Load average of the host over one minute.")
PCIE = Family(
    "hwdash_device_pcie_bytes_per_second",
    "Bytes over PCIe, a second.",
    ("device", "direction"),
    "bytes_per_second",
)
PCIE_GENERATION = Family("hwdash_device_pcie_link_generation", "Generation that the PCIe link runs at now.")
PCIE_WIDTH = Family("hwdash_device_pcie_link_width", "Lanes that the PCIe link runs on now.")
PCIE_REPLAYS = Family("hwdash_device_pcie_replays_total", "PCIe packets that were sent again.")
NVLINK = Family(
    "hwdash_device_nvlink_bytes_per_second",
    "Bytes over all NVLinks, a second.",
    ("device", "direction"),
    "bytes_per_second",
)
ECC = Family("hwdash_device_ecc_errors_total", "Memory errors that ECC found, by type.", ("device", "type"))
REMAPPED = Family("hwdash_device_remapped_rows_total", "Rows of memory that were replaced by spare ones.")
HEARTBEATS = Family("hwdash_device_heartbeats_total", "Signs of life that the device counts.")
ERRORS = Family("hwdash_device_errors_total", "Errors that the device counts.")

THROTTLE_ACTIVE = Family(
    "hwdash_device_throttle_active", "1 while the driver says that this reason slows the device down.", _THROTTLE
)
THROTTLE_DUTY = Family(
    "hwdash_device_throttle_duty_ratio",
    "Share of the time between the two newest samples in which this reason held, where the driver counts it.",
    _THROTTLE,
    "ratio",
)
THROTTLE_SECONDS = Family(
    "hwdash_device_throttle_seconds_total", "Time under this reason, by the driver's own counter.", _THROTTLE, "seconds"
)

REQUESTS = Family(
    "hwdash_inference_requests_total",
    "Requests that ended on the device, by how (stop, length, cancelled, error); each attempt counts.",
    ("device", "model", "status"),
)
FALLBACKS = Family(
    "hwdash_inference_fallbacks_total",
    "Requests that this device failed and another one then answered.",
    _ANSWER,
)
TTFT = Family(
    "hwdash_inference_ttft_seconds", "From the arrival of a request to its first token.", _ANSWER, "seconds", True
)
ITL = Family("hwdash_inference_itl_seconds", "Gap between two tokens of an answer.", _ANSWER, "seconds", True)
DURATION = Family(
    "hwdash_inference_duration_seconds", "From the arrival of a request to its end.", _ANSWER, "seconds", True
)
TOKENS = Family(
    "hwdash_inference_tokens_total", "Tokens read (prompt) and made (completion).", ("device", "model", "direction")
)
INFERENCE_ENERGY = Family(
    "hwdash_inference_energy_joules_total",
    "Energy of answers, their parts of the device's own counter; scope says what that covers.",
    ("device", "model", "scope"),
    "joules",
)
ENERGY_TOKENS = Family(
    "hwdash_inference_energy_tokens_total",
    "Tokens made by answers whose part of the energy is known.",
    ("device", "model", "scope"),
)
PROBE_UP = Family(
    "hwdash_probe_up",
    "1 when the newest probe of a loaded model was well, 0 when it failed or its answer was wrong.",
    _ANSWER,
)
PROBE_WRONG = Family(
    "hwdash_probe_wrong", "1 when the newest probe was answered with other tokens than before, 0 when not.", _ANSWER
)
PROBE_TTFT = Family("hwdash_probe_ttft_seconds", "Time to first token of the newest probe.", _ANSWER, "seconds")
PROBE_ITL = Family("hwdash_probe_itl_seconds", "Median gap between two tokens of the newest probe.", _ANSWER, "seconds")
PROBE_DURATION = Family("hwdash_probe_duration_seconds", "Time that the newest probe took.", _ANSWER, "seconds")
PROBE_DRIFT = Family(
    "hwdash_probe_drift_ratio",
    "How much slower than its baseline the newest probes were, as a share; 0 is as fast.",
    _ANSWER,
    "ratio",
)
QUEUE = Family("hwdash_engine_queue_depth", "Requests that wait for the device.")
RUNNING = Family("hwdash_engine_running_requests", "Requests that the device answers now.")
SLOTS = Family("hwdash_engine_slots", "Requests that the device may answer at once.")
BREAKER = Family(
    "hwdash_engine_breaker",
    "1 for the state of the device's circuit breaker, 0 for the others.",
    ("device", "state"),
)

FAMILIES = MappingProxyType({family.name: family for family in tuple(globals().values()) if isinstance(family, Family)})
"""Every family by its name, in the order in which they are told."""

READINGS = MappingProxyType(
    {
        "utilization": Home(UTILIZATION),
        "memory_bandwidth_utilization": Home(MEMORY_BANDWIDTH),
        "memory_used_bytes": Home(MEMORY_USED, ("memory",)),
        "memory_total_bytes": Home(MEMORY_TOTAL, ("memory",)),
        "temperature_c": Home(TEMPERATURE, ("die",)),
        "hotspot_temperature_c": Home(TEMPERATURE, ("hotspot",)),
        "memory_temperature_c": Home(TEMPERATURE, ("memory",)),
        "temperature_margin_c": Home(MARGIN),
        "power_w": Home(POWER),
        "energy_j": Home(ENERGY),
        "clock_hz": Home(CLOCK, ("core",)),
        "memory_clock_hz": Home(CLOCK, ("memory",)),
        "fan_ratio": Home(FAN),
        "fan_rpm": Home(FAN_RPM),
        "pcie_rx_bytes_per_s": Home(PCIE, ("received",)),
        "pcie_tx_bytes_per_s": Home(PCIE, ("sent",)),
        "pcie_link_generation": Home(PCIE_GENERATION),
        "pcie_link_width": Home(PCIE_WIDTH),
        "ecc_uncorrected_total": Home(ECC, ("uncorrected",)),
        "remapped_rows_total": Home(REMAPPED),
        "tensor_utilization": Home(TENSOR),
        "load_1m": Home(LOAD),
        "sm_utilization": Home(SM),
        "power_ratio": Home(POWER_RATIO),
        "requested_clock_hz": Home(CLOCK_REQUESTED),
        "memory_read_bytes_per_s": Home(MEMORY_TRAFFIC, ("read",)),
        "memory_write_bytes_per_s": Home(MEMORY_TRAFFIC, ("written",)),
        "nvlink_rx_bytes_per_s": Home(NVLINK, ("received",)),
        "nvlink_tx_bytes_per_s": Home(NVLINK, ("sent",)),
        "pcie_replay_total": Home(PCIE_REPLAYS),
        "ecc_corrected_total": Home(ECC, ("corrected",)),
        "heartbeat_total": Home(HEARTBEATS),
        "errors_total": Home(ERRORS),
        "voltage_v": Home(VOLTAGE),
        "current_a": Home(CURRENT),
    }
)
"""The home of every reading of `hwdash.core.metric.METRICS`. Memory has it only where no pool is told of."""
