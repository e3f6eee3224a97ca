"""amdgpu's binary ``gpu_metrics`` table in base units. Pure.

Units after the comments of kgd_pp_interface.h and, where that has none, after rocm_smi_lib, amdgpu_top and MangoHud.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.sources.gpu_metrics_layout import LAYOUTS, RESIDENCIES, Layout

_ENERGY_J = 2.0**-16
"""One unit of the energy accumulator (15.259 µJ; kgd_pp_interface.h from 1.4 on, rocm_smi.h for older Instincts)."""

_PLAIN_WATTS_BELOW = 1000
"""A socket power of an APU below this, and below a part of itself, is in watts; all else is in milliwatts."""


class TableRefused(ValueError):
    """The bytes are not a table that can be decoded. The message says why."""


class UnknownVersion(TableRefused):
    """The table is of a revision whose layout is not known."""


@dataclass(frozen=True, slots=True)
class GpuMetrics:
    """What one table says, in base units; None is what the card has no number for.

    ``version`` is the format and the content revision. ``temperature_c`` is that of the edge of a discrete card, of
    the graphics part of an APU. ``utilization`` and ``memory_activity`` (of the memory controller) are ratios;
    ``centipercent`` is true when this table shows that the card writes them in hundredths of a percent. ``energy_j``
    is only there where the unit of the counter is documented. ``throttle_bits`` are in AMD's own numbering, the same
    for all cards; ``asic_throttle_bits`` in one that differs from chip to chip, there when the former is not.
    ``residencies`` grow, modulo 2**32, while a throttler limits the card, ``accumulation`` grows all the time.
    """

    version: tuple[int, int]
    utilization: float | None = None
    memory_activity: float | None = None
    centipercent: bool = False
    temperature_c: float | None = None
    hotspot_temperature_c: float | None = None
    memory_temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    fan_rpm: float | None = None
    voltage_v: float | None = None
    pcie_width: int | None = None
    pcie_gigatransfers: float | None = None
    pcie_replays: int | None = None
    throttle_bits: int | None = None
    asic_throttle_bits: int | None = None
    accumulation: int | None = None
    residencies: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def decode(table: bytes, *, centipercent: bool = False) -> GpuMetrics:
    """What *table* says. *centipercent*: an earlier table of the card was found to write loads in 1/100 percent.

    Raises `UnknownVersion` for a revision without a known layout, `TableRefused` for one of another size.
    """
    return _Decoder(table).metrics(centipercent)


class _Decoder:
    def __init__(self, table: bytes) -> None:
        self.version = _version(table)
        self._layout = _layout(table, self.version)
        self._table = table

    def metrics(self, centipercent: bool) -> GpuMetrics:
        # 2.4 states the unit; the others are told apart by a value that no percentage reaches.
        loads = (*self._all("gfx_activity"), *self._all("umc_activity"))
        centipercent = centipercent or self.version == (2, 4) or any(load > 100 for load in loads)
        load_unit = 1e-4 if centipercent else 1e-2
        degree = 1.0 if self.version[0] == 1 else 1e-2
        indep = self._one("indep_throttle")
        return GpuMetrics(
            version=self.version,
            utilization=self._within("gfx_activity", 0.0, 1.0, load_unit),
            memory_activity=self._within("umc_activity", 0.0, 1.0, load_unit),
            centipercent=centipercent,
            temperature_c=self._within("edge", 1.0, 150.0, degree),
            hotspot_temperature_c=self._within("hotspot", 1.0, 150.0, degree),
            memory_temperature_c=self._memory_temperature(),
            power_w=self._power(),
            energy_j=self._energy(),
            clock_hz=self._within("gfx_clock", 0.0, 1e10, 1e6),
            memory_clock_hz=self._within("memory_clock", 0.0, 1e10, 1e6),
            fan_rpm=self._within("fan_rpm", 0.0, 30_000.0),
            voltage_v=self._within("gfx_voltage", 0.001, 5.0, 1e-3),
            pcie_width=self._lanes(),
            pcie_gigatransfers=self._within("pcie_speed", 1.0, 256.0, 0.1),
            pcie_replays=self._one("pcie_replays"),
            throttle_bits=indep,
            asic_throttle_bits=self._one("throttle_status") if indep is None else None,
            accumulation=self._one("accumulation"),
            residencies=self._residencies(),
        )

    def _all(self, name: str) -> tuple[int, ...]:
        known = self._layout.fields.get(name)
        return known.read(self._table) if known is not None else ()

    def _one(self, name: str) -> int | None:
        return next(iter(self._all(name)), None)

    def _within(self, name: str, low: float, high: float, unit: float = 1.0) -> float | None:
        """The largest of the field's numbers times *unit*, or None when what is left lies outside of *low* to *high*."""
        values = [value for number in self._all(name) if low <= (value := round(number * unit, 9)) <= high]
        return max(values, default=None)

    def _memory_temperature(self) -> float | None:
        """The hottest stack where the stacks are told apart; the driver leaves 0 where there is no sensor."""
        stacks = self._within("hbm", 1.0, 150.0)
        whole = self._within("memory", 1.0, 150.0)
        return max((value for value in (stacks, whole) if value is not None), default=None)

    def _power(self) -> float | None:
        socket = self._one("socket_power")
        if socket is None:
            return None
        unit = 1.0
        if self.version[0] != 1:
            parts = self._all("part_power") if self.version != (2, 4) else ()
            in_watts = socket < _PLAIN_WATTS_BELOW and any(part > socket for part in parts)
            unit = 1.0 if in_watts else 1e-3
        watts = round(socket * unit, 9)
        return watts if watts <= 1e4 else None

    def _energy(self) -> float | None:
        """Joules. Before 1.4 only of cards that tell the temperatures of HBM stacks: Instincts."""
        units = self._one("energy")
        documented = self.version >= (1, 4) or self._within("hbm", 1.0, 150.0) is not None
        return units * _ENERGY_J if units is not None and documented else None

    def _lanes(self) -> int | None:
        lanes = self._one("pcie_width")
        return lanes if lanes in (1, 2, 4, 8, 12, 16, 32) else None

    def _residencies(self) -> Mapping[str, int]:
        found = {name: self._one(name) for name in RESIDENCIES if name in self._layout.fields}
        return MappingProxyType({name: value for name, value in found.items() if value is not None})


def _version(table: bytes) -> tuple[int, int]:
    if len(table) < 4:
        raise TableRefused(f"gpu_metrics has {len(table)} bytes, less than its header")
    return table[2], table[3]


def _layout(table: bytes, version: tuple[int, int]) -> Layout:
    layout = LAYOUTS.get(version)
    name = f"{version[0]}.{version[1]}"
    if layout is None:
        kind = " (a list of attributes)" if version[0] == 1 and version[1] >= 9 else ""
        raise UnknownVersion(f"gpu_metrics version {name}{kind} is not known")
    stated = int.from_bytes(table[:2], "little")
    if stated != layout.size or len(table) != layout.size:
        raise TableRefused(
            f"gpu_metrics {name} has {len(table)} bytes and states {stated}; that version has {layout.size}"
        )
    return layout
