"""The offsets of the decoder against the order of members in kgd_pp_interface.h, aligned as a C compiler does."""

from __future__ import annotations

import pytest

from hwdash.sources.gpu_metrics_layout import LAYOUTS, Field

# Members as ``name:type count``; the types are those of Python's struct module. Names that the decoder does not read are short.
HEADER = "size:H f:B c:B "
V1_1 = (
    HEADER + "edge:H hotspot:H memory:H vr:H3 gfx_activity:H umc_activity:H mm:H socket_power:H energy:Q t:Q avg:H7 "
    "gfx_clock:H soc:H memory_clock:H vd:H4 throttle_status:I fan_rpm:H pcie_width:H pcie_speed:H pad:H acc:I2 hbm:H4"
)
V1_2 = V1_1 + " ft:Q"
V1_4 = HEADER + "hotspot:H memory:H vr:H socket_power:H gfx_activity:H umc_activity:H "
STATUS = "throttle_status:I "
RESIDENCIES = "accumulation:I prochot:I ppt:I socket_thm:I vr_thm:I hbm_thm:I "
LINK = "lock:I pcie_width:H pcie_speed:H xgmi:H2 acc:I2 bw:Q2 l0:Q pcie_replays:Q rover:Q "
NAKS = "nak:I2 "
XGMI = "xgmi_data:Q16 "
CLOCKS = "ft:Q gfx_clock:H8 soc:H4 v:H4 d:H4 memory_clock:H n:H "
V1_7 = (
    V1_4
    + "bandwidth:Q energy:Q t:Q "
    + RESIDENCIES
    + LINK
    + NAKS
    + XGMI
    + "status:H8 pad:H "
    + CLOCKS
    + "xcp:Q{} end:I"
)
V2_1 = (
    HEADER + "edge:H soc:H core:H8 l3:H2 gfx_activity:H mm:H t:Q socket_power:H part_power:H3 core_power:H8 avg:H6 "
    "gfx_clock:H socclk:H memory_clock:H fvd:H3 core_clock:H8 l3_clock:H2 throttle_status:I pwm:H pad:H3"
)
V2_2 = V2_1 + " indep_throttle:Q"
V2_3 = V2_2 + " avg_temperature:H12"

MEMBERS = {
    (1, 1): V1_1,
    (1, 2): V1_2,
    (1, 3): V1_2 + " soc_voltage:H gfx_voltage:H mem_voltage:H pad1:H indep_throttle:Q",
    (1, 4): V1_4 + "vcn:H4 energy:Q t:Q " + STATUS + LINK + XGMI + CLOCKS,
    (1, 5): V1_4 + "vcn:H4 jpeg:H32 energy:Q t:Q " + STATUS + LINK + NAKS + XGMI + CLOCKS,
    (1, 6): V1_4 + "energy:Q t:Q " + RESIDENCIES + LINK + NAKS + XGMI + CLOCKS + "xcp:Q168 end:I",
    (1, 7): V1_7.format(8 * 232 // 8),
    (1, 8): V1_7.format(8 * 376 // 8),
    (2, 1): V2_1,
    (2, 2): V2_2,
    (2, 3): V2_3,
    (2, 4): V2_3 + " cpu_voltage:H soc_voltage:H gfx_voltage:H current:H3",
    (3, 0): HEADER + "edge:H soc:H core:H16 skin:H gfx_activity:H vcn:H ipu:H8 c0:H16 dram:H4 t:Q socket_power:I ipu_power:H "
    "apu_power:I gfx_power:I dgpu_power:I cores_power:I core_power:H16 sys_power:H stapm:H2 gfx_clock:H socclk:H vpe:H "
    "ipuclk:H fclk:H vclk:H memory_clock:H mp:H core_clock:H16 limit:H2 prochot:I spl:I fppt:I sppt:I thm_core:I thm_gfx:I "
    "thm_soc:I alpha:I",
}  # fmt: skip

WIDTHS = {"B": 1, "H": 2, "I": 4, "Q": 8}


def aligned(members: str) -> tuple[dict[str, Field], int]:
    """Where each member lies, and the size of the whole."""
    offset, largest, fields = 0, 1, {}
    for member in members.split():
        name, _, kind = member.partition(":")
        width, count = WIDTHS[kind[0]], int(kind[1:] or 1)
        offset = -(-offset // width) * width
        fields[name] = Field(offset, width, count)
        offset += width * count
        largest = max(largest, width)
    return fields, -(-offset // largest) * largest


@pytest.mark.parametrize("version", LAYOUTS)
def test_the_fields_lie_where_a_compiler_puts_them(version: tuple[int, int]) -> None:
    fields, size = aligned(MEMBERS[version])
    layout = LAYOUTS[version]
    assert layout.size == size
    assert dict(layout.fields) == {name: fields[name] for name in layout.fields}
