"""One place on the bus has one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.pci import PciAddress, normalised_pci, parse_pci, pci_in_path


@pytest.mark.parametrize("text", ["0000:c1:1f.7", "00000000:C1:1F.7", "c1:1f.7", " 0000:C1:1f.7\n", "0:c1:1f.7"])
def test_spellings_of_one_address(text: str) -> None:
    assert parse_pci(text) == PciAddress(0, 0xC1, 0x1F, 7)
    assert normalised_pci(text) == "0000:c1:1f.7"


@pytest.mark.parametrize(
    "text", ["", "0000", "c1:1f", "c1:1f.8", "c1:20.0", "g1:00.0", "0000:c1:00.0.1", "٠٠:00.0", "123456789:00:00.0"]
)
def test_what_is_no_address(text: str) -> None:
    assert parse_pci(text) is None
    assert normalised_pci(text) == text


def test_no_text_is_an_empty_text() -> None:
    assert normalised_pci(None) == ""
    assert normalised_pci(" Platform:X ") == "platform:x"


def test_the_last_address_of_a_path_is_that_of_the_device() -> None:
    path = "sys/devices/pci0000:00/0000:00:01.1/10000:c1:00.0/hwmon/hwmon3"
    assert pci_in_path(path) == PciAddress(0x10000, 0xC1, 0, 0)
    assert pci_in_path("sys/devices/platform/npu") is None


@given(st.builds(PciAddress, st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7)))
def test_text_and_back(address: PciAddress) -> None:
    assert parse_pci(str(address)) == address
    assert address.location == address.bus * 256 + address.device * 8 + address.function
