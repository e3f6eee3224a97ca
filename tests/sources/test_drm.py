"""Which graphics cards there are, told apart by driver and PCI address, and small parsers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.reading import Absent
from hwdash.sources.drm import (
    DrmCard,
    driver_version,
    find_cards,
    find_hwmon,
    is_asleep,
    is_there,
    link_generation,
    link_width,
    pci_revision,
    read_link,
)
from hwdash.sources.sysfs import Tree


def add_card(root: Path, name: str, slot: str, driver: str = "amdgpu", uevent: str | None = None) -> Path:
    device = root / "sys/devices/pci0000:00" / slot
    (device / "drm" / name).mkdir(parents=True)
    (device / "uevent").write_text(f"PCI_ID=1002:744C\nPCI_SLOT_NAME={slot}\n" if uevent is None else uevent)
    (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    (device / "drm" / name / "device").symlink_to(f"../../../{slot}")
    cards = root / "sys/class/drm"
    cards.mkdir(parents=True, exist_ok=True)
    (cards / name).symlink_to(f"../../devices/pci0000:00/{slot}/drm/{name}")
    return device


def test_cards_of_a_driver_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    add_card(tmp_path, "card10", "0000:0a:00.0")
    add_card(tmp_path, "card9", "0000:09:00.0", uevent="")
    add_card(tmp_path, "card2", "0000:02:00.0", driver="nouveau")
    add_card(tmp_path, "card2-DP-1", "0000:0b:00.0")
    add_card(tmp_path, "renderD128", "0000:0c:00.0")
    add_card(tmp_path, "card3", "not a slot")
    (tmp_path / "sys/class/drm/card11").symlink_to("card10")
    (tmp_path / "sys/class/drm/card12").symlink_to("card12")
    (tmp_path / "sys/class/drm/card13").write_text("a file")
    tree = Tree(tmp_path)
    cards = find_cards(tree, {"amdgpu"})
    assert cards == [
        DrmCard("sys/class/drm/card9", "amdgpu", "0000:09:00.0"),
        DrmCard("sys/class/drm/card10", "amdgpu", "0000:0a:00.0", 0x744C),
    ]
    assert all(is_there(tree, card) for card in cards)
    assert not is_there(tree, DrmCard("sys/class/drm/card10", "amdgpu", "0000:09:00.0"))
    assert find_cards(tree, {"i915", "xe"}) == []


@pytest.mark.parametrize(
    ("status", "state", "asleep"),
    [
        ("active", "D0", False),
        ("active", "unknown", False),
        ("unsupported", None, False),
        (None, None, False),
        ("\x00\xff", "D9", False),
        ("suspended", "D0", True),
        ("suspending", None, True),
        ("resuming", "D0", True),
        ("active", "D3cold", True),
        (None, "D3hot", True),
        ("active", "D1", True),
    ],
)
def test_sleep(tmp_path: Path, status: str | None, state: str | None, asleep: bool) -> None:
    device = add_card(tmp_path, "card0", "0000:02:00.0")
    (device / "power").mkdir()
    for path, content in (("power/runtime_status", status), ("power_state", state)):
        if content is not None:
            (device / path).write_text(f"{content}\n")
    tree = Tree(tmp_path)
    assert is_asleep(tree, find_cards(tree, {"amdgpu"})[0]) is asleep


def test_sensors_are_found_by_name(tmp_path: Path) -> None:
    device = add_card(tmp_path, "card0", "0000:02:00.0")
    tree = Tree(tmp_path)
    (card,) = find_cards(tree, {"amdgpu"})
    assert find_hwmon(tree, card, "amdgpu") is None
    for number in (3, 12):
        (device / f"hwmon/hwmon{number}").mkdir(parents=True)
    assert find_hwmon(tree, card, "amdgpu") == card.path("hwmon/hwmon3")
    (device / "hwmon/hwmon3/name").write_text("other\n")
    assert find_hwmon(tree, card, "amdgpu") == card.path("hwmon/hwmon12")
    (device / "hwmon/hwmon12/name").write_text("amdgpu\n")
    assert find_hwmon(tree, card, "amdgpu") == card.path("hwmon/hwmon12")
    (device / "hwmon/hwmon12/name").write_text("another\n")
    assert find_hwmon(tree, card, "amdgpu") is None


def test_versions_and_links(tmp_path: Path) -> None:
    device = add_card(tmp_path, "card0", "0000:02:00.0")
    tree = Tree(tmp_path)
    (card,) = find_cards(tree, {"amdgpu"})
    assert driver_version(tree, "amdgpu") is None
    assert pci_revision(tree, card) is None
    assert read_link(tree, card, "current") == (Absent.NOT_SUPPORTED, Absent.NOT_SUPPORTED)
    for path, content in (("revision", "0xc8"), ("current_link_speed", "Unknown"), ("current_link_width", "8")):
        (device / path).write_text(content)
    assert pci_revision(tree, card) == 0xC8
    assert read_link(tree, card, "current") == (Absent.BAD_VALUE, 8.0)


@pytest.mark.parametrize(
    ("text", "generation"), [("2.5 GT/s PCIe", 1), ("16.0GT/s", 4), ("64.0 GT/s", 6), ("3.0 GT/s", None)]
)
def test_generations(text: str, generation: int | None) -> None:
    assert link_generation(text) == generation


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    assert link_generation(text) in (None, 1, 2, 3, 4, 5, 6)
    assert link_width(text) in (None, 1, 2, 4, 8, 12, 16, 32)
