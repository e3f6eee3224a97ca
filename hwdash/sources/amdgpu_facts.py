"""What an AMD GPU is, and where its sensors lie: the facts that do not change from sample to sample.

Files after the kernel documents "gpu/amdgpu/thermal" and "gpu/amdgpu/driver-misc"; identification numbers and names
after libdrm's amdgpu.ids; compute properties after the kernel header include/uapi/linux/kfd_sysfs.h.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits
from hwdash.core.pci import parse_pci
from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.amdgpu_level import highest_clock_hz, highest_link
from hwdash.sources.drm import (
    DrmCard,
    driver_version,
    find_hwmon,
    is_asleep,
    pci_revision,
    read_link,
)
from hwdash.sources.drm_fleet import Facts
from hwdash.sources.hwmon_channel import celsius_limit, watts_limit
from hwdash.sources.sysfs import ReadFailure, Tree

SOURCE_NAME = "amdgpu"
DRIVER = "amdgpu"

_IDS = "usr/share/libdrm/amdgpu.ids"
_IDS_BYTES = 256 * 1024
_TOPOLOGY = "sys/class/kfd/kfd/topology/nodes"
_MAX_NODES = 256

_GRAPHICS = ("fp32", "fp16")
"""What chips from version 8 on compute in, and what is assumed of one that tells no version."""

_NATIVE: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        90006: ("fp32", "fp16", "int8"),
        90008: ("fp32", "fp16", "bf16", "int8"),
        90010: ("fp32", "fp16", "bf16", "int8"),
        90400: ("fp32", "fp16", "bf16", "fp8", "int8"),
        90401: ("fp32", "fp16", "bf16", "fp8", "int8"),
        90402: ("fp32", "fp16", "bf16", "fp8", "int8"),
        90500: ("fp32", "fp16", "bf16", "fp8", "int8"),
    }
)
"""Chips of version 9 (LLVM, "User Guide for AMDGPU Backend", dot and matrix instructions per processor)."""

_NATIVE_BY_MAJOR: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {11: ("fp32", "fp16", "bf16", "int8"), 12: ("fp32", "fp16", "bf16", "fp8", "int8")}
)
"""RDNA 3 and 4 (AMD's "Instruction Set Architecture" of each, WMMA instructions)."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """Where an awake card is read.

    ``temperatures`` are the bases of the channels (``…/temp1``) by label, ``critical_c`` their limits in °C;
    ``clocks`` the files in Hz by label. *apu*: the card shares the memory of the host.
    """

    hwmon: str | None = None
    temperatures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    critical_c: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    clocks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    apu: bool = False

    @property
    def die(self) -> str | None:
        """The label of the channel that stands for the whole chip."""
        return next((label for label in ("edge", "junction") if label in self.temperatures), None)


def describe(tree: Tree, card: DrmCard, before: Facts[Sensors] | None) -> Facts[Sensors]:
    """What *card* is. Of a sleeping one only what the kernel keeps a copy of, the rest from *before*."""
    node = _compute_node(tree, card.slot)
    if is_asleep(tree, card):
        return before or Facts(_device(tree, card, node), None)
    sensors = _find_sensors(tree, card, node)
    return Facts(_device(tree, card, node, sensors), sensors)


def _device(tree: Tree, card: DrmCard, node: Mapping[str, int], sensors: Sensors | None = None) -> Device:
    """*sensors* None: the card sleeps, none of its own files may be opened."""
    awake = sensors is not None
    unique = tree.line(card.path("unique_id")) if awake else None
    visible = _visible_as(unique)
    product = tree.line(card.path("product_name")) if awake else None
    firmware = tree.line(card.path("vbios_version")) if awake else None
    target = node.get("gfx_target_version", 0)
    simds, per_unit = node.get("simd_count", 0), node.get("simd_per_cu", 0)
    return Device(
        # The PCI address: unlike the chip's own number it can be read of a sleeping card.
        key=f"amd:{card.slot}",
        kind=DeviceKind.GPU,
        vendor="AMD",
        name=sanitise_line(product or "", 80) or _name(tree, card),
        source=SOURCE_NAME,
        driver=driver_version(tree, DRIVER),
        pci=card.slot,
        capabilities=Capabilities(
            compute_capability=_target_name(target),
            dtypes=_dtypes(target),
            compute_units=simds // per_unit if simds > 0 and per_unit > 0 else None,
            inference=visible is not None and target > 0,
        ),
        limits=_limits(tree, card, sensors) if sensors is not None else Limits(),
        visible_as=visible,
        firmware=sanitise_line(firmware, 80) if firmware else None,
        spans_pools=sensors is not None and sensors.apu,
    )


def _visible_as(unique: str | None) -> str | None:
    """The name under which ROCm's runtime knows the card (its documentation of ``ROCR_VISIBLE_DEVICES``)."""
    if unique is None or re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,16}", unique) is None:
        return None
    number = int(unique, 16)
    return f"GPU-{number:016x}" if number else None


def _name(tree: Tree, card: DrmCard) -> str:
    if card.device_id is None:
        return "AMD GPU"
    try:
        lines = tree.text(_IDS, _IDS_BYTES).splitlines()
    except ReadFailure:
        lines = []
    revision = pci_revision(tree, card)
    for line in lines if revision is not None else ():
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) == 3 and parts[0].upper() == f"{card.device_id:04X}" and parts[1].upper() == f"{revision:02X}":
            return sanitise_line(parts[2], 80) or f"AMD GPU {card.device_id:#06x}"
    return f"AMD GPU {card.device_id:#06x}"


def _compute_node(tree: Tree, slot: str) -> Mapping[str, int]:
    """What the compute driver says of the card at the PCI address *slot*; empty when it does not drive it."""
    address = parse_pci(slot)
    if address is None:
        return {}
    for name in tree.names(_TOPOLOGY)[:_MAX_NODES]:
        try:
            text = tree.text(f"{_TOPOLOGY}/{name}/properties", 8192)
        except ReadFailure:
            continue
        node = {key: int(value) for key, value in re.findall(r"^(\w{1,40}) ([0-9]{1,20})$", text, re.MULTILINE)}
        if node.get("simd_count") and (node.get("domain", 0), node.get("location_id")) == (
            address.domain,
            address.location,
        ):
            return node
    return {}


def _target_name(target: int) -> str | None:
    """``gfx942`` for 90402: two decimal digits each for minor version and stepping, which is written in hex."""
    if not 0 < target < 1_000_000:
        return None
    return f"gfx{target // 10_000}{target // 100 % 100}{target % 100:x}"


def _dtypes(target: int) -> tuple[str, ...]:
    if 0 < target < 80_000:
        return ("fp32",)
    return _NATIVE.get(target) or _NATIVE_BY_MAJOR.get(target // 10_000, _GRAPHICS)


def _find_sensors(tree: Tree, card: DrmCard, node: Mapping[str, int]) -> Sensors:
    apu = node.get("cpu_cores_count", 0) > 0
    hwmon = find_hwmon(tree, card, DRIVER)
    if hwmon is None:
        return Sensors(apu=apu)
    names = tree.names(hwmon)
    temperatures: dict[str, str] = {}
    clocks: dict[str, str] = {}
    for name in names:
        match = re.fullmatch(r"(temp|freq)([0-9]{1,3})_input", name)
        if match is None:
            continue
        base = f"{hwmon}/{match[1]}{match[2]}"
        label = tree.line(f"{base}_label")
        if match[1] == "temp":
            # Before channels had labels there was only one.
            temperatures.setdefault(label or ("edge" if match[2] == "1" else name), base)
        elif label is not None:
            clocks.setdefault(label, f"{base}_input")
    critical = {label: limit for label, base in temperatures.items() if (limit := celsius_limit(tree, f"{base}_crit"))}
    # Only an APU has a second supply, that of its north bridge.
    return Sensors(hwmon, temperatures, critical, clocks, apu or "in1_input" in names)


def _limits(tree: Tree, card: DrmCard, sensors: Sensors) -> Limits:
    power = watts_limit(tree, f"{sensors.hwmon}/power1_cap") if sensors.hwmon else None
    die = sensors.die
    # The card's own end of the link is that to a switch of its own on newer cards; only its table knows the slot.
    generation, width = highest_link(tree, card.path("pp_dpm_pcie")) or read_link(tree, card, "max")
    return Limits(
        power_w=power,
        temperature_slowdown_c=sensors.critical_c.get(die) if die is not None else None,
        temperature_shutdown_c=celsius_limit(tree, f"{sensors.temperatures[die]}_emergency")
        if die is not None
        else None,
        memory_temperature_max_c=sensors.critical_c.get("mem"),
        clock_hz=highest_clock_hz(tree, card.path("pp_dpm_sclk")),
        pcie_link_generation=None if isinstance(generation, Absent) else int(generation),
        pcie_link_width=None if isinstance(width, Absent) else int(width),
    )
