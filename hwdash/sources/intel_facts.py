"""What an Intel GPU is, and where its sensors lie.

Files after the kernel's ABI documents "sysfs-driver-intel-i915-hwmon" and "sysfs-driver-intel-xe-hwmon" and its sources
i915/gt/intel_gt_sysfs_pm.c, xe/xe_gt_freq.c and xe/xe_gt_idle.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits
from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.text import sanitise_line
from hwdash.sources.drm import DrmCard, driver_version, find_hwmon, is_asleep
from hwdash.sources.drm_fleet import Facts
from hwdash.sources.hwmon_channel import celsius_limit, watts_limit
from hwdash.sources.intel_throttle import ReasonFolder, find_reasons
from hwdash.sources.sysfs import ReadFailure, Tree

SOURCE_NAME = "intel"
I915, XE = "i915", "xe"

_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")
_PCI_IDS_BYTES = 4 * 1024 * 1024
_HERTZ_FROM = 100_000.0
"""Early builds of xe write clocks in Hz; no GPU has this many MHz."""

_DTYPES = {XE: ("fp32", "fp16"), I915: ("fp32",)}
"""What every chip of each driver computes in: xe begins with generation 12, i915 with chips that cannot compute."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The files of a card's first graphics unit, and the throttle reasons of all.

    ``ceiling`` is the clock that a user set, ``peak`` that of the hardware. ``idle`` counts the milliseconds in which
    the unit was powered down, None where it never is.
    """

    achieved: str
    requested: str
    ceiling: str
    peak: str
    idle: str | None
    reasons: tuple[ReasonFolder, ...]


@dataclass(frozen=True, slots=True)
class Sensors:
    """Where an awake card is read; None for what it does not have.

    ``temperature`` and ``memory_temperature`` are bases of hwmon channels (``…/temp2``). *discrete*: it has memory of
    its own.
    """

    hwmon: str | None
    energy: str | None
    temperature: str | None
    memory_temperature: str | None
    voltage: str | None
    fans: tuple[str, ...]
    unit: Unit
    discrete: bool


def read_clock(tree: Tree, path: str) -> Reading:
    """The clock in a file of MHz, or of Hz, in Hz."""
    value = tree.number(path, 0.0, 1e10)
    if not is_present(value) or value > _HERTZ_FROM:
        return value
    return value * 1e6 if value <= 1e4 else Absent.BAD_VALUE


def describe(tree: Tree, card: DrmCard, before: Facts[Sensors] | None) -> Facts[Sensors]:
    """What *card* is. Of a sleeping one only what the kernel keeps a copy of, the rest from *before*."""
    if is_asleep(tree, card):
        return before or Facts(_device(tree, card, before, Limits()), None)
    sensors = _find_sensors(tree, card)
    limits = Limits(
        power_w=_power_limit(tree, sensors),
        temperature_slowdown_c=_limit_of(tree, sensors.temperature, "crit"),
        temperature_shutdown_c=_limit_of(tree, sensors.temperature, "emergency"),
        memory_temperature_max_c=_limit_of(tree, sensors.memory_temperature, "crit"),
        clock_hz=present(read_clock(tree, sensors.unit.peak))
        or present(read_clock(tree, sensors.unit.ceiling))
        or None,
    )
    return Facts(_device(tree, card, before, limits), sensors)


def _device(tree: Tree, card: DrmCard, before: Facts[Sensors] | None, limits: Limits) -> Device:
    return Device(
        key=f"intel:{card.slot}",
        kind=DeviceKind.GPU,
        vendor="Intel",
        name=before.device.name if before is not None else _name(tree, card),
        source=SOURCE_NAME,
        driver=driver_version(tree, card.driver),
        pci=card.slot,
        # torch's XPU devices can be hidden by their number only, which says nothing about which device it is.
        capabilities=Capabilities(dtypes=_DTYPES[card.driver], inference=False),
        limits=limits,
    )


def is_discrete(card: DrmCard) -> bool:
    """Intel's integrated graphics is the device 2 of the first bus in all its processors."""
    return not card.slot.endswith(":00:02.0")


def _name(tree: Tree, card: DrmCard) -> str:
    """The name in the list of PCI ids: ``DG2 [Arc A770]`` is an Intel Arc A770."""
    if card.device_id is None:
        return "Intel GPU"
    for path in _PCI_IDS:
        try:
            text = tree.text(path, _PCI_IDS_BYTES)
        except ReadFailure:
            continue
        _, _, own = text.partition("\n8086  ")
        own = re.split(r"\n[0-9a-f]{4}  ", own, maxsplit=1)[0]
        if match := re.search(rf"\n\t{card.device_id:04x}  ([^\n]{{1,200}})", own):
            inner = re.search(r"\[([^\]]{1,100})\]", match[1])
            name = sanitise_line(inner[1] if inner else match[1], 80)
            return name if name.startswith("Intel") else f"Intel {name}".rstrip()
    return f"Intel GPU {card.device_id:#06x}"


def _find_sensors(tree: Tree, card: DrmCard) -> Sensors:
    hwmon = find_hwmon(tree, card, card.driver)
    names = tree.names(hwmon) if hwmon is not None else []
    energies = [f"{hwmon}/energy{number}_input" for number in (1, 2) if f"energy{number}_input" in names]
    voltage = "in0_input" if card.driver == I915 else "in1_input"
    die, memory = _temperature_channels(tree, card, hwmon, names)
    return Sensors(
        hwmon=hwmon,
        energy=next(iter(energies), None),
        temperature=die,
        memory_temperature=memory,
        voltage=f"{hwmon}/{voltage}" if voltage in names else None,
        fans=tuple(f"{hwmon}/{name}" for name in names if re.fullmatch(r"fan[0-9]_input", name)),
        unit=_i915_unit(tree, card) if card.driver == I915 else _xe_unit(tree, card),
        discrete=is_discrete(card),
    )


def _temperature_channels(
    tree: Tree, card: DrmCard, hwmon: str | None, names: list[str]
) -> tuple[str | None, str | None]:
    """The channels of package and memory, by their labels, else by the numbers that the driver gives them."""
    channels = [match[1] for name in names if (match := re.fullmatch(r"(temp[0-9]{1,2})_input", name))]
    labels = {tree.line(f"{hwmon}/{channel}_label"): channel for channel in channels}
    usual = ("temp1", None) if card.driver == I915 else ("temp2", "temp3")
    found = [labels.get(label) or number for label, number in zip(("pkg", "vram"), usual, strict=True)]
    die, memory = (f"{hwmon}/{channel}" if channel in channels else None for channel in found)
    return die, memory


def _i915_unit(tree: Tree, card: DrmCard) -> Unit:
    units = f"{card.folder}/gt"
    first = f"{units}/gt0"
    # Before kernel 5.18 only the card as a whole had clocks.
    clocks = f"{first}/rps" if tree.line(f"{first}/rps_act_freq_mhz") is not None else f"{card.folder}/gt"
    idle = next(
        (
            f"{folder}/rc6_residency_ms"
            for folder in (first, f"{card.folder}/power")
            if tree.line(f"{folder}/rc6_residency_ms") is not None and tree.line(f"{folder}/rc6_enable") != "0"
        ),
        None,
    )
    return Unit(
        achieved=f"{clocks}_act_freq_mhz",
        requested=f"{clocks}_cur_freq_mhz",
        ceiling=f"{clocks}_max_freq_mhz",
        peak=f"{clocks}_RP0_freq_mhz",
        idle=idle,
        reasons=_reasons(tree, [f"{units}/{name}" for name in _numbered(tree, units, "gt")]),
    )


def _xe_unit(tree: Tree, card: DrmCard) -> Unit:
    first = card.path("tile0/gt0")
    idle = f"{first}/gtidle/idle_residency_ms"
    tiles = [card.path(name) for name in _numbered(tree, f"{card.folder}/device", "tile")]
    folders = [f"{tile}/{name}/freq0/throttle" for tile in tiles for name in _numbered(tree, tile, "gt")]
    return Unit(
        achieved=f"{first}/freq0/act_freq",
        requested=f"{first}/freq0/cur_freq",
        ceiling=f"{first}/freq0/max_freq",
        peak=f"{first}/freq0/rp0_freq",
        idle=idle if tree.line(idle) is not None else None,
        reasons=_reasons(tree, folders),
    )


def _numbered(tree: Tree, folder: str, stem: str) -> list[str]:
    return [name for name in tree.names(folder) if re.fullmatch(rf"{stem}[0-9]{{1,2}}", name)]


def _reasons(tree: Tree, folders: list[str]) -> tuple[ReasonFolder, ...]:
    found = (find_reasons(tree, folder) for folder in folders)
    return tuple(reasons for reasons in found if reasons is not None)


def _power_limit(tree: Tree, sensors: Sensors) -> float | None:
    """The sustained limit (PL1), else the critical one, else what the card is rated for; 0 is a limit that is off.

    The channel is that of the energy counter first: 1 is the card, 2 the package.
    """
    if sensors.hwmon is None:
        return None
    channels = (2, 1) if sensors.energy is not None and sensors.energy.endswith("/energy2_input") else (1, 2)
    files = [f"{sensors.hwmon}/power{channel}_{kind}" for kind in ("max", "crit", "rated_max") for channel in channels]
    limits = (watts_limit(tree, path) for path in files)
    return next((limit for limit in limits if limit is not None), None)


def _limit_of(tree: Tree, base: str | None, kind: str) -> float | None:
    return celsius_limit(tree, f"{base}_{kind}") if base is not None else None
