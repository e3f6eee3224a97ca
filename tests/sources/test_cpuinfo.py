"""Processors by their own description."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.sources.cpuinfo import parse_cpuinfo

GRACE = """processor	: 0
BogoMIPS	: 2000.00
Features	: fp asimd fphp asimdhp sve i8mm bf16
CPU implementer	: 0x41
CPU architecture: 8
CPU part	: 0xd4f
"""
EPYC = """processor	: 0
vendor_id	: AuthenticAMD
model name	: AMD EPYC 9654 96-Core Processor
cpu MHz		: 2400.000
flags		: fpu avx2 avx512_vnni avx512_bf16

processor	: 1
vendor_id	: AuthenticAMD
model name	: AMD EPYC 9654 96-Core Processor
cpu MHz		: 3600.000
flags		: fpu avx2 avx512_vnni avx512_bf16
"""
CORE = """vendor_id	: GenuineIntel
model name	: 12th Gen Intel(R) Core(TM) i7-1260P CPU @ 2.10GHz
flags		: fpu avx2 avx_vnni
"""
RASPBERRY = """processor	: 0
Features	: half thumb fastmult vfp
CPU implementer	: 0x41
CPU part	: 0xfff

Hardware	: BCM2835
"""
POWER = """processor	: 0
cpu		: POWER9, altivec supported
clock		: 3800.000000MHz
"""


@pytest.mark.parametrize(
    ("text", "vendor", "name", "dtypes"),
    [
        (GRACE, "Arm", "Arm Neoverse-V2", ("fp32", "fp16", "bf16", "int8")),
        (EPYC, "AMD", "AMD EPYC 9654", ("fp32", "bf16", "int8")),
        (CORE, "Intel", "12th Gen Intel Core i7-1260P", ("fp32", "int8")),
        (RASPBERRY, "Arm", "Arm CPU", ("fp32",)),
        (POWER, "unknown", "POWER9, altivec supported", ("fp32",)),
        (
            "vendor_id : \x1b[31mEvil\n",
            "\N{REPLACEMENT CHARACTER}[31mEvil",
            "\N{REPLACEMENT CHARACTER}[31mEvil CPU",
            ("fp32",),
        ),
        ("", "unknown", "CPU", ("fp32",)),
    ],
)
def test_samples(text: str, vendor: str, name: str, dtypes: tuple[str, ...]) -> None:
    info = parse_cpuinfo(text)
    assert (info.vendor, info.name, info.dtypes) == (vendor, name, dtypes)


def test_the_stated_clock_is_the_mean() -> None:
    assert parse_cpuinfo(EPYC).clock_hz == 3e9
    assert parse_cpuinfo(GRACE).clock_hz is None
    assert parse_cpuinfo("cpu MHz : 1e99\n").clock_hz is None


@given(st.sampled_from([GRACE, EPYC, CORE, POWER]), st.integers(0, 500), st.text(max_size=50))
def test_any_cut_and_any_text_gives_a_name(text: str, cut: int, junk: str) -> None:
    info = parse_cpuinfo(text[:cut] + junk)
    assert info.name
    assert info.dtypes[0] == "fp32"
    assert len(info.name) <= 250
