"""Graphics cards as Linux's DRM class lists them: which there are, whether they sleep, where their sensors are.

Paths after the kernel documents "gpu/amdgpu/thermal", "power/runtime_pm" and "ABI/testing/sysfs-bus-pci".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from hwdash.core.pci import parse_pci
from hwdash.core.reading import Absent, Reading
from hwdash.core.text import sanitise_line
from hwdash.sources.sysfs import ReadFailure, Tree

_CLASS = "sys/class/drm"
_ASLEEP = frozenset({"suspended", "suspending", "resuming"})
_GENERATIONS = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}
"""PCI Express by its transfers per second and lane, in GT/s."""


@dataclass(frozen=True, slots=True)
class DrmCard:
    """One card: its folder in the DRM class, its driver, its PCI address, and its PCI device id (None: not told)."""

    folder: str
    driver: str
    slot: str
    device_id: int | None = None

    def path(self, name: str) -> str:
        """The path of one of the device's own files."""
        return f"{self.folder}/device/{name}"


def find_cards(tree: Tree, drivers: Collection[str]) -> list[DrmCard]:
    """The cards that one of *drivers* drives, each PCI address once, in the order of their numbers.

    Reads nothing that a driver would have to wake its device for.
    """
    found: dict[str, DrmCard] = {}
    for name in tree.names(_CLASS):
        folder = f"{_CLASS}/{name}"
        if re.fullmatch(r"card[0-9]{1,6}", name) is None:
            continue
        driver = tree.link(f"{folder}/device/driver")
        if driver in drivers and driver is not None and (slot := _slot(tree, folder)) is not None:
            match = re.fullmatch(r"[0-9A-F]{4}:([0-9A-F]{4})", _uevent(tree, folder).get("PCI_ID", ""))
            found.setdefault(slot, DrmCard(folder, driver, slot, int(match[1], 16) if match else None))
    return list(found.values())


def is_there(tree: Tree, card: DrmCard) -> bool:
    """True while the folder of *card* shows the same device: numbers are given out anew after a rebind."""
    return _slot(tree, card.folder) == card.slot


def is_asleep(tree: Tree, card: DrmCard) -> bool:
    """True while reading the card's sensors would wake it. Asking this does not."""
    if tree.line(card.path("power/runtime_status")) in _ASLEEP:
        return True
    return re.fullmatch(r"D[123](hot|cold)?", tree.line(card.path("power_state")) or "") is not None


def find_hwmon(tree: Tree, card: DrmCard, name: str) -> str | None:
    """The folder of the card's sensors that its driver calls *name*; the first one where none says its name."""
    folders = [card.path(f"hwmon/{entry}") for entry in tree.names(card.path("hwmon")) if entry.startswith("hwmon")]
    names = {folder: tree.line(f"{folder}/name") for folder in folders[:64]}
    named = [folder for folder, its_name in names.items() if its_name == name]
    nameless = [folder for folder, its_name in names.items() if its_name is None]
    return next(iter(named or nameless), None)


def driver_version(tree: Tree, driver: str) -> str | None:
    """The version of a driver that was built apart from the kernel, else the kernel's own."""
    version = tree.line(f"sys/module/{driver}/version")
    if version is None and (release := tree.line("proc/sys/kernel/osrelease")):
        version = f"Linux {release}"
    return sanitise_line(version, 80) if version else None


def pci_revision(tree: Tree, card: DrmCard) -> int | None:
    """The revision in the card's PCI header, which the kernel keeps a copy of."""
    match = re.fullmatch(r"0x([0-9a-fA-F]{1,2})", tree.line(card.path("revision")) or "")
    return int(match[1], 16) if match else None


def link_generation(text: str) -> int | None:
    """The PCI Express generation in a text such as ``16.0 GT/s PCIe``."""
    match = re.match(r"\s*([0-9]{1,3}(?:\.[0-9])?)\s*GT/s", text, re.IGNORECASE)
    return _GENERATIONS.get(float(match[1])) if match else None


def link_width(text: str) -> int | None:
    """The lanes in a text such as ``x16`` or ``16``."""
    match = re.fullmatch(r"x?([0-9]{1,2})", text.strip())
    lanes = int(match[1]) if match else 0
    return lanes if lanes in (1, 2, 4, 8, 12, 16, 32) else None


def read_link(tree: Tree, card: DrmCard, which: str) -> tuple[Reading, Reading]:
    """Generation and lanes of the card's own end of the link, *which* is ``current`` or ``max``."""
    return (
        _parsed(tree, card.path(f"{which}_link_speed"), link_generation),
        _parsed(tree, card.path(f"{which}_link_width"), link_width),
    )


def _parsed(tree: Tree, path: str, parse: Callable[[str], int | None]) -> Reading:
    try:
        value = parse(tree.text(path, 4096).strip())
    except ReadFailure as failure:
        return failure.reason
    return Absent.BAD_VALUE if value is None else float(value)


def _slot(tree: Tree, folder: str) -> str | None:
    address = parse_pci(_uevent(tree, folder).get("PCI_SLOT_NAME") or tree.link(f"{folder}/device") or "")
    return None if address is None else str(address)


def _uevent(tree: Tree, folder: str) -> Mapping[str, str]:
    try:
        lines = tree.text(f"{folder}/device/uevent", 4096).splitlines()
    except ReadFailure:
        return {}
    return {key: value.strip() for key, _, value in (line.partition("=") for line in lines)}
