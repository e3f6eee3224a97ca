"""What a processor is, from the text of ``/proc/cpuinfo``. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hwdash.core.text import sanitise_line

_VENDORS = {
    "GenuineIntel": "Intel",
    "AuthenticAMD": "AMD",
    "HygonGenuine": "Hygon",
    "CentaurHauls": "Zhaoxin",
    "  Shanghai  ": "Zhaoxin",
    "IBM/S390": "IBM",
}
"""x86 vendor strings (CPUID leaf 0)."""

_IMPLEMENTERS = {
    0x41: "Arm", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x50: "APM",
    0x51: "Qualcomm", 0x53: "Samsung", 0x56: "Marvell", 0x61: "Apple", 0x6D: "Microsoft", 0xC0: "Ampere",
}  # fmt: skip
"""Implementer codes of MIDR_EL1 (Linux, arch/arm64/include/asm/cputype.h)."""

_ARM_PARTS = {
    0xD03: "Cortex-A53", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1", 0xD42: "Cortex-A78AE",
    0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2", 0xD83: "Neoverse-V3AE", 0xD84: "Neoverse-V3", 0xD8E: "Neoverse-N3",
}  # fmt: skip
"""Part numbers of Arm's own cores (the same file)."""

_DTYPES = (
    ("fp16", {"avx512_fp16", "amx_fp16", "asimdhp", "fphp"}),
    ("bf16", {"avx512_bf16", "amx_bf16", "bf16"}),
    ("int8", {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"}),
)
"""Flags of which each gives instructions that compute in the precision, as Linux names them."""

_NOISE = re.compile(r"\((?:R|TM|r|tm)\)|\b(?:[0-9]{1,4}-Core )?Processor\b|\bCPU\b|@.*$")


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """Vendor and name for people, the flags as the kernel writes them, and the clock it states (Hz, mean), if any."""

    vendor: str
    name: str
    flags: frozenset[str]
    clock_hz: float | None

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The precisions that the processor's instructions compute in."""
        return ("fp32", *(name for name, flags in _DTYPES if flags & self.flags))


def parse_cpuinfo(text: str) -> CpuInfo:
    """The processor described by *text*, which may be cut off anywhere. The first core speaks for all."""
    first: dict[str, str] = {}
    clocks: list[float] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            continue
        key = key.strip()
        first.setdefault(key, value[1:] if value.startswith(" ") else value)
        if key == "cpu MHz" and (megahertz := _megahertz(value)) is not None:
            clocks.append(megahertz)
    facts = MappingProxyType(first)
    vendor = _vendor(facts)
    return CpuInfo(
        vendor=vendor,
        name=_name(facts, vendor),
        flags=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
        clock_hz=sum(clocks) / len(clocks) * 1e6 if clocks else None,
    )


def _vendor(facts: Mapping[str, str]) -> str:
    raw = facts.get("vendor_id")
    if raw:
        return _VENDORS.get(raw) or _VENDORS.get(raw.strip()) or sanitise_line(raw, 40) or "unknown"
    implementer = _hexadecimal(facts.get("CPU implementer"))
    return _IMPLEMENTERS.get(implementer, "unknown") if implementer is not None else "unknown"


def _name(facts: Mapping[str, str], vendor: str) -> str:
    for key in ("model name", "Processor", "cpu model", "cpu", "uarch"):
        name = re.sub(r"\s+", " ", _NOISE.sub(" ", sanitise_line(facts.get(key, "")))).strip()
        if name:
            return name
    known = "" if vendor == "unknown" else vendor
    part = _hexadecimal(facts.get("CPU part"))
    core = _ARM_PARTS.get(part) if part is not None and vendor == "Arm" else None
    return " ".join(filter(None, (known, core or "CPU")))


def _hexadecimal(text: str | None) -> int | None:
    match = re.fullmatch(r"0x([0-9a-fA-F]{1,8})", (text or "").strip())
    return int(match[1], 16) if match else None


def _megahertz(text: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)(?:MHz)?", text.strip())
    value = float(match[1]) if match else 0.0
    return value if 1.0 <= value <= 1e5 else None
