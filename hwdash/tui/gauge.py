"""What a device does besides computing, in words: memory traffic, links, heat, errors, programs. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hwdash.core.format import bytes_text, reading_text
from hwdash.core.metric import METRICS
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus

PROGRAMS = 8
"""Programs that are named; the others are counted."""


class Fact(NamedTuple):
    """One labelled statement; ``style`` is that of the words."""

    label: str
    words: str
    style: str = "text"


def gauges(status: DeviceStatus) -> Iterator[Fact]:
    """Work, heat and links of a device, as far as it tells of them."""
    work = ("sm_utilization", "tensor_utilization", "memory_bandwidth_utilization")
    yield from _listed(status, "busy", work)
    yield from _listed(status, "traffic", ("memory_read_bytes_per_s", "memory_write_bytes_per_s"))
    yield from _heat(status)
    yield from _supply(status)
    yield from _pcie(status)
    yield from _listed(status, "nvlink", ("nvlink_rx_bytes_per_s", "nvlink_tx_bytes_per_s"))


def _texts(status: DeviceStatus, metrics: tuple[str, ...]) -> list[str]:
    return [
        f"{METRICS[metric].title} {reading_text(metric, status.readings[metric])}"
        for metric in metrics
        if status.number(metric) is not None
    ]


def _listed(status: DeviceStatus, label: str, metrics: tuple[str, ...]) -> Iterator[Fact]:
    if parts := _texts(status, metrics):
        yield Fact(label, ", ".join(parts).replace("NVLink ", ""))


def _heat(status: DeviceStatus) -> Iterator[Fact]:
    parts = []
    if (hotspot := status.number("hotspot_temperature_c")) is not None:
        parts.append(f"hotspot {hotspot:.0f} °C")
    if (memory := status.number("memory_temperature_c")) is not None:
        limit = status.device.limits.memory_temperature_max_c
        parts.append(f"memory {memory:.0f} °C" + ("" if limit is None else f" of {limit:.0f} °C"))
    parts += _texts(status, ("fan_ratio", "fan_rpm"))
    if parts:
        yield Fact("heat", ", ".join(parts))


def _supply(status: DeviceStatus) -> Iterator[Fact]:
    yield from _listed(status, "supply", ("power_ratio", "voltage_v", "current_a"))
    if (asked := status.number("requested_clock_hz")) is not None:
        yield Fact("clock", f"{reading_text('requested_clock_hz', asked)} requested")
    if status.clock_is_set:
        yield Fact("clock", "held down by a user's setting")


def _pcie(status: DeviceStatus) -> Iterator[Fact]:
    limits = status.device.limits
    now = (status.number("pcie_link_generation"), status.number("pcie_link_width"))
    most = (limits.pcie_link_generation, limits.pcie_link_width)
    parts = []
    if link := _link(*now):
        top = _link(*most)
        parts.append(f"{link} of {top}" if top and top != link else link)
    # A lower generation is how an idle link saves power; a missing lane is a fault of the slot or the board.
    narrow = now[1] is not None and most[1] is not None and now[1] < most[1]
    if narrow:
        parts.append("fewer lanes than it could have: check the slot")
    parts += [text.removeprefix("PCIe ") for text in _texts(status, ("pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s"))]
    if parts:
        yield Fact("pcie", ", ".join(parts), "warm" if narrow else "text")


def _link(generation: float | None, width: float | None) -> str:
    parts = [] if generation is None else [f"gen {generation:.0f}"]
    parts += [] if width is None else [f"x{width:.0f}"]
    return " ".join(parts)


def pools(status: DeviceStatus) -> Iterator[Fact]:
    """The memories, labelled by whose they are."""
    for pool in status.pools:
        notes = [] if pool.numa_node is None else [f"NUMA node {pool.numa_node}"]
        notes += ["shared with the host"] if pool.shared else []
        note = f" ({', '.join(notes)})" if notes else ""
        yield Fact("memory", f"{pool.id}{note}: {bytes_text(pool.free_bytes)} free of {bytes_text(pool.total_bytes)}")
    if status.device.spans_pools and len(status.pools) > 1:
        yield Fact("", "one program can use all of them together", "muted")


def programs(status: DeviceStatus) -> Iterator[Fact]:
    """The programs on the device, the largest first."""
    found = status.processes
    if found is None or isinstance(found, Absent):
        return
    if not found:
        yield Fact("programs", "none", "muted")
    largest = sorted(found, key=lambda item: (-(item.memory_bytes or 0), item.pid))
    for number, item in enumerate(largest[:PROGRAMS]):
        yield Fact("programs" if number == 0 else "", _program(item))
    if len(largest) > PROGRAMS:
        yield Fact("", f"{len(largest) - PROGRAMS} more", "muted")


def _program(item: DeviceProcess) -> str:
    parts = [str(item.pid), item.user or "?", item.name or "unknown"]
    parts += [] if item.memory_bytes is None else [bytes_text(item.memory_bytes)]
    return "  ".join(parts)


def errors(status: DeviceStatus) -> Iterator[Fact]:
    """What went wrong in memory, links and the chip itself, counted by the device."""
    uncorrected, rows = status.number("ecc_uncorrected_total"), status.number("remapped_rows_total")
    corrected = status.number("ecc_corrected_total")
    parts = [] if uncorrected is None else [f"{uncorrected:,.0f} uncorrected"]
    parts += [] if corrected is None else [f"{corrected:,.0f} corrected"]
    parts += [] if rows is None else [f"{rows:,.0f} remapped row{'' if rows == 1 else 's'}"]
    if parts:
        yield Fact("ecc", ", ".join(parts), "warm" if uncorrected or rows else "text")
    replays, failures = status.number("pcie_replay_total"), status.number("errors_total")
    parts = [f"{replays:,.0f} PCIe replay{'' if replays == 1 else 's'}"] if replays else []
    parts += [f"{failures:,.0f} by the device's own count"] if failures else []
    if parts:
        yield Fact("errors", ", ".join(parts), "warm" if failures else "text")
