"""Addresses on the PCI bus, of which drivers and libraries have several spellings."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """Where a device is. As text it is written as Linux writes it: ``0000:c1:00.0``."""

    domain: int
    bus: int
    device: int
    function: int

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def location(self) -> int:
        """Bus, device and function as one number of 16 bits, as the PCI specification packs them."""
        return self.bus << 8 | self.device << 3 | self.function


def parse_pci(text: str) -> PciAddress | None:
    """The address that *text* is: ``00000000:C1:00.0``, ``0000:c1:00.0`` or ``c1:00.0``; None when it is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    return PciAddress(int(match[1] or "0", 16), int(match[2], 16), int(match[3], 16), int(match[4]))


def normalised_pci(text: str | None) -> str:
    """The one spelling of the address *text*; of what is none, the text in lower case, empty for None."""
    address = parse_pci(text or "")
    return str(address) if address is not None else (text or "").strip().lower()


def pci_in_path(path: str) -> PciAddress | None:
    """The last part of *path* that is an address: that of a device, below those of the bridges before it."""
    found = (parse_pci(part) for part in reversed(path.split("/")))
    return next((address for address in found if address is not None), None)
