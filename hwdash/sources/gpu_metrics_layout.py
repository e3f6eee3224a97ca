"""Where the fields of amdgpu's ``gpu_metrics`` tables lie.

Versions, names and order after the Linux header drivers/gpu/drm/amd/include/kgd_pp_interface.h, little-endian and
naturally aligned, as the kernel writes them. Only fields that hwdash uses are listed. The revisions of 1.4 and later
move fields, so each has a layout of its own. 1.0 and 2.0 are not naturally aligned and used by early drivers only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Field:
    """*count* unsigned numbers of *width* bytes from *offset* on."""

    offset: int
    width: int
    count: int = 1

    def read(self, table: bytes) -> tuple[int, ...]:
        """The numbers, without those of which all bits are set: the driver has none for them."""
        code = {2: "H", 4: "I", 8: "Q"}[self.width]
        unset = (1 << 8 * self.width) - 1
        values: tuple[int, ...] = struct.unpack_from(f"<{self.count}{code}", table, self.offset)
        return tuple(value for value in values if value != unset)


@dataclass(frozen=True, slots=True)
class Layout:
    """One revision: the size of its table in bytes, and its fields by name."""

    size: int
    fields: Mapping[str, Field]


def _u16(offset: int, count: int = 1) -> Field:
    return Field(offset, 2, count)


def _u32(offset: int) -> Field:
    return Field(offset, 4)


def _u64(offset: int) -> Field:
    return Field(offset, 8)


def _layout(size: int, *parts: Mapping[str, Field], **fields: Field) -> Layout:
    together: dict[str, Field] = {}
    for part in (*parts, fields):
        together |= part
    return Layout(size, MappingProxyType(together))


def _residencies(offset: int) -> dict[str, Field]:
    """The block of throttle counters of 1.6 and later, behind the counter of accumulation cycles at *offset*."""
    names = ("accumulation", "prochot", "ppt", "socket_thm", "vr_thm", "hbm_thm")
    return {name: _u32(offset + 4 * index) for index, name in enumerate(names)}


_V1_1 = {
    "edge": _u16(4), "hotspot": _u16(6), "memory": _u16(8), "gfx_activity": _u16(16), "umc_activity": _u16(18),
    "socket_power": _u16(22), "energy": _u64(24), "gfx_clock": _u16(54), "memory_clock": _u16(58),
    "throttle_status": _u32(68), "fan_rpm": _u16(72), "pcie_width": _u16(74), "pcie_speed": _u16(76),
    "hbm": _u16(88, 4),
}  # fmt: skip

_V1_4 = {
    "hotspot": _u16(4), "memory": _u16(6), "socket_power": _u16(10), "gfx_activity": _u16(12), "umc_activity": _u16(14),
}  # fmt: skip

_V1_7 = _V1_4 | _residencies(40) | {
    "energy": _u64(24), "pcie_width": _u16(68), "pcie_speed": _u16(70), "pcie_replays": _u64(112),
    "gfx_clock": _u16(296, 8), "memory_clock": _u16(336),
}  # fmt: skip

_V2_1 = {
    "edge": _u16(4), "gfx_activity": _u16(28), "socket_power": _u16(40), "part_power": _u16(42, 3),
    "gfx_clock": _u16(76), "memory_clock": _u16(80), "throttle_status": _u32(108),
}  # fmt: skip

_V2_2 = _V2_1 | {"indep_throttle": _u64(120)}

LAYOUTS: Mapping[tuple[int, int], Layout] = MappingProxyType(
    {
        (1, 1): _layout(96, _V1_1),
        (1, 2): _layout(104, _V1_1),
        (1, 3): _layout(120, _V1_1, gfx_voltage=_u16(106), indep_throttle=_u64(112)),
        (1, 4): _layout(
            288,
            _V1_4,
            energy=_u64(24),
            throttle_status=_u32(40),
            pcie_width=_u16(48),
            pcie_speed=_u16(50),
            pcie_replays=_u64(88),
            gfx_clock=_u16(240, 8),
            memory_clock=_u16(280),
        ),
        (1, 5): _layout(
            360,
            _V1_4,
            energy=_u64(88),
            throttle_status=_u32(104),
            pcie_width=_u16(112),
            pcie_speed=_u16(114),
            pcie_replays=_u64(152),
            gfx_clock=_u16(312, 8),
            memory_clock=_u16(352),
        ),
        (1, 6): _layout(
            1664,
            _V1_4,
            _residencies(32),
            energy=_u64(16),
            pcie_width=_u16(60),
            pcie_speed=_u16(62),
            pcie_replays=_u64(104),
            gfx_clock=_u16(264, 8),
            memory_clock=_u16(304),
        ),
        (1, 7): _layout(2208, _V1_7),
        (1, 8): _layout(3360, _V1_7),
        (2, 1): _layout(120, _V2_1),
        (2, 2): _layout(128, _V2_2),
        (2, 3): _layout(152, _V2_2),
        (2, 4): _layout(168, _V2_2, gfx_voltage=_u16(156)),
        (3, 0): _layout(
            264,
            edge=_u16(4),
            gfx_activity=_u16(42),
            socket_power=_u32(112),
            gfx_clock=_u16(174),
            memory_clock=_u16(186),
            prochot=_u32(228),
            spl=_u32(232),
            fppt=_u32(236),
            sppt=_u32(240),
            thm_core=_u32(244),
            thm_gfx=_u32(248),
            thm_soc=_u32(252),
        ),
    }
)
"""All revisions that can be decoded, by format and content revision."""

RESIDENCIES = (
    "prochot", "ppt", "socket_thm", "vr_thm", "hbm_thm", "spl", "fppt", "sppt", "thm_core", "thm_gfx", "thm_soc",
)  # fmt: skip
"""Names of the counters that grow while a throttler limits the device."""
