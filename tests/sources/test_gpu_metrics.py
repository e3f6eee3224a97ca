"""The decoder of amdgpu's binary tables: layouts, units, sentinels, refusals, and arbitrary bytes."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.sources.gpu_metrics import GpuMetrics, TableRefused, UnknownVersion, decode
from hwdash.sources.gpu_metrics_layout import LAYOUTS, RESIDENCIES
from tests.sources.gpu_metrics_table import table

VERSIONS = tuple(LAYOUTS)


def written(version: tuple[int, int], size: int, **numbers: tuple[int, int, int]) -> bytes:
    """A table built from offsets that are stated here (offset, width, value), apart from the decoder's own."""
    content = bytearray(b"\xff" * size)
    content[:4] = size.to_bytes(2, "little") + bytes(version)
    for offset, width, value in numbers.values():
        content[offset : offset + width] = value.to_bytes(width, "little")
    return bytes(content)


def test_a_discrete_card_at_the_offsets_of_the_kernel_header() -> None:
    metrics = decode(
        written(
            (1, 3),
            120,
            edge=(4, 2, 61),
            hotspot=(6, 2, 78),
            memory=(8, 2, 70),
            gfx=(16, 2, 97),
            umc=(18, 2, 43),
            power=(22, 2, 303),
            energy=(24, 8, 1 << 20),
            gfxclk=(54, 2, 2480),
            uclk=(58, 2, 1249),
            throttle_status=(68, 4, 7),
            fan=(72, 2, 1613),
            lanes=(74, 2, 16),
            speed=(76, 2, 160),
            voltage=(106, 2, 945),
            indep=(112, 8, 1 << 36),
        )
    )
    assert metrics == GpuMetrics(
        version=(1, 3),
        utilization=0.97,
        memory_activity=0.43,
        temperature_c=61.0,
        hotspot_temperature_c=78.0,
        memory_temperature_c=70.0,
        power_w=303.0,
        clock_hz=2.48e9,
        memory_clock_hz=1.249e9,
        fan_rpm=1613.0,
        voltage_v=0.945,
        pcie_width=16,
        pcie_gigatransfers=16.0,
        throttle_bits=1 << 36,
    )


@pytest.mark.parametrize(
    ("version", "size", "energy", "clocks", "memory_clock", "replays", "lanes"),
    [
        ((1, 4), 288, 24, 240, 280, 88, 48),
        ((1, 5), 360, 88, 312, 352, 152, 112),
        ((1, 6), 1664, 16, 264, 304, 104, 60),
        ((1, 7), 2208, 24, 296, 336, 112, 68),
        ((1, 8), 3360, 24, 296, 336, 112, 68),
    ],
)
def test_instincts_move_their_fields(
    version: tuple[int, int], size: int, energy: int, clocks: int, memory_clock: int, replays: int, lanes: int
) -> None:
    metrics = decode(
        written(
            version,
            size,
            hotspot=(4, 2, 48),
            memory=(6, 2, 39),
            power=(10, 2, 745),
            gfx=(12, 2, 100),
            energy=(energy, 8, 5 << 16),
            first_die=(clocks, 2, 132),
            last_die=(clocks + 14, 2, 2100),
            uclk=(memory_clock, 2, 1300),
            replays=(replays, 8, 3),
            lanes=(lanes, 2, 16),
            speed=(lanes + 2, 2, 320),
        )
    )
    assert (metrics.hotspot_temperature_c, metrics.memory_temperature_c, metrics.temperature_c) == (48.0, 39.0, None)
    assert (metrics.power_w, metrics.utilization, metrics.energy_j) == (745.0, 1.0, 5.0)
    assert (metrics.clock_hz, metrics.memory_clock_hz) == (2.1e9, 1.3e9)
    assert (metrics.pcie_replays, metrics.pcie_width, metrics.pcie_gigatransfers) == (3, 16, 32.0)


@pytest.mark.parametrize(("version", "size", "start"), [((1, 6), 1664, 32), ((1, 7), 2208, 40), ((1, 8), 3360, 40)])
def test_throttle_counters_of_instincts(version: tuple[int, int], size: int, start: int) -> None:
    numbers = {str(index): (start + 4 * index, 4, 100 + index) for index in range(6)}
    metrics = decode(written(version, size, **numbers))
    assert metrics.accumulation == 100
    assert metrics.residencies == {"prochot": 101, "ppt": 102, "socket_thm": 103, "vr_thm": 104, "hbm_thm": 105}
    assert metrics.throttle_bits is metrics.asic_throttle_bits is None


@pytest.mark.parametrize(("version", "size"), [((2, 1), 120), ((2, 2), 128), ((2, 3), 152), ((2, 4), 168)])
def test_an_apu(version: tuple[int, int], size: int) -> None:
    numbers = {
        "gfx_temperature": (4, 2, 5712),
        "gfx": (28, 2, 9150),
        "socket": (40, 2, 18_844),
        "cpu": (42, 2, 9235),
        "gfx_power": (46, 2, 6161),
        "gfxclk": (76, 2, 1600),
        "uclk": (80, 2, 800),
        "status": (108, 4, 4),
    }
    if size > 120:
        numbers["indep"] = (120, 8, 1 << 5)
    metrics = decode(written(version, size, **numbers))
    assert metrics.temperature_c == 57.12
    assert metrics.utilization == 0.915
    assert metrics.centipercent
    assert metrics.power_w == 18.844
    assert (metrics.clock_hz, metrics.memory_clock_hz) == (1.6e9, 8e8)
    assert metrics.throttle_bits == (1 << 5 if size > 120 else None)
    assert metrics.asic_throttle_bits == (4 if size == 120 else None)


def test_the_newest_apus() -> None:
    numbers = {str(index): (228 + 4 * index, 4, index) for index in range(7)}
    metrics = decode(
        written(
            (3, 0),
            264,
            temperature=(4, 2, 6100),
            gfx=(42, 2, 55),
            power=(112, 4, 120_500),
            gfxclk=(174, 2, 2900),
            uclk=(186, 2, 1000),
            **numbers,
        )
    )
    assert (metrics.temperature_c, metrics.utilization) == (61.0, 0.55)
    assert (metrics.power_w, metrics.clock_hz, metrics.memory_clock_hz) == (120.5, 2.9e9, 1e9)
    assert tuple(metrics.residencies.values()) == tuple(range(7))
    assert metrics.accumulation is None


def test_what_the_driver_has_no_number_for_is_absent() -> None:
    for version in VERSIONS:
        assert decode(table(version)) == GpuMetrics(version, centipercent=version == (2, 4)), version


def test_loads_in_hundredths_of_a_percent_are_known_from_the_first_that_is_above_100() -> None:
    assert decode(table((1, 3), gfx_activity=100)).utilization == 1.0
    shown = decode(table((1, 3), gfx_activity=57, umc_activity=4200))
    assert shown.centipercent
    assert (shown.utilization, shown.memory_activity) == (0.0057, 0.42)
    later = decode(table((1, 3), gfx_activity=100), centipercent=True)
    assert later.utilization == 0.01
    assert decode(table((1, 3), gfx_activity=10_001)).utilization is None
    assert decode(table((2, 4), gfx_activity=57)).utilization == 0.0057


@pytest.mark.parametrize(
    ("version", "socket", "parts", "watts"),
    [
        ((2, 2), 18_844, (9235, 500, 6161), 18.844),
        ((2, 2), 27, (65_535, 12_846, 4803), 27.0),
        ((2, 2), 900, (300, 200, 100), 0.9),
        ((2, 4), 900, (300, 200, 1000), 0.9),
        ((2, 2), 65_535, (300, 200, 100), None),
    ],
)
def test_the_power_of_an_apu_is_in_watts_or_milliwatts(
    version: tuple[int, int], socket: int, parts: tuple[int, ...], watts: float | None
) -> None:
    assert decode(table(version, socket_power=socket, part_power=parts)).power_w == pytest.approx(watts)


def test_energy_only_where_its_unit_is_documented() -> None:
    assert decode(table((1, 3), energy=1 << 16)).energy_j is None
    assert decode(table((1, 3), energy=1 << 16, hbm=(40, 41, 42, 43))).energy_j == 1.0
    assert decode(table((1, 3), hbm=(40, 44, 42, 0), memory=43)).memory_temperature_c == 44.0


def test_absurd_numbers_are_absent() -> None:
    metrics = decode(
        table((1, 3), edge=0, hotspot=4000, memory=65_000, socket_power=60_000, gfx_clock=60_000, fan_rpm=65_000,
              pcie_width=5, pcie_speed=4, gfx_voltage=0)
    )  # fmt: skip
    assert metrics == GpuMetrics((1, 3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"\x78\x00\x01", "3 bytes"),
        (b"\x78\x00\x01\x00" + bytes(76), "version 1.0 is not known"),
        (b"\x78\x00\x02\x00" + bytes(76), "version 2.0 is not known"),
        (b"\x00\x10\x01\x09" + bytes(96), r"version 1.9 \(a list of attributes\) is not known"),
        (b"\x00\x10\x07\x02" + bytes(96), "version 7.2 is not known"),
        (table((1, 3))[:-1], "1.3 has 119 bytes and states 120; that version has 120"),
        (table((1, 3)) + b"\0", "1.3 has 121 bytes"),
        (b"\x60\x00" + table((1, 3))[2:], "states 96"),
    ],
)
def test_refusals_say_why(content: bytes, words: str) -> None:
    with pytest.raises(TableRefused, match=words):
        decode(content)


def test_an_unknown_version_has_its_own_name() -> None:
    with pytest.raises(UnknownVersion):
        decode(bytes((8, 0, 9, 9, 0, 0, 0, 0)))


def sane(metrics: GpuMetrics) -> bool:
    numbers = [getattr(metrics, item.name) for item in fields(metrics)]
    floats = [number for number in numbers if isinstance(number, float)]
    return all(math.isfinite(number) and number >= 0 for number in floats) and set(metrics.residencies) <= set(
        RESIDENCIES
    )


@given(st.binary(max_size=400), st.booleans())
def test_random_bytes(content: bytes, centipercent: bool) -> None:
    try:
        assert sane(decode(content, centipercent=centipercent))
    except TableRefused as refusal:
        assert str(refusal)


@given(st.sampled_from(VERSIONS), st.binary(min_size=512, max_size=512), st.booleans())
def test_random_content_of_every_version(version: tuple[int, int], noise: bytes, centipercent: bool) -> None:
    layout = LAYOUTS[version]
    content = (layout.size.to_bytes(2, "little") + bytes(version) + noise * 8)[: layout.size]
    metrics = decode(content, centipercent=centipercent)
    assert sane(metrics)
    for ratio in (metrics.utilization, metrics.memory_activity):
        assert ratio is None or 0.0 <= ratio <= 1.0


@given(
    st.sampled_from(VERSIONS),
    st.lists(st.tuples(st.integers(0, 3400), st.integers(0, 255)), max_size=8),
    st.integers(-9, 9),
)
def test_mutated_tables(version: tuple[int, int], changes: list[tuple[int, int]], longer: int) -> None:
    content = bytearray(table(version, gfx_activity=50, socket_power=200, gfx_clock=1000))
    for offset, value in changes:
        content[offset % len(content)] = value
    content = content[:longer] if longer < 0 else content + bytes(longer)
    try:
        assert sane(decode(bytes(content)))
    except TableRefused as refusal:
        assert "gpu_metrics" in str(refusal)
