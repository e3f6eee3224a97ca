"""What widgets tell the screens and the app above them."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message


@dataclass
class DeviceSelected(Message):
    """The cursor of the device table moved to another device; ``key`` is the device's stable key."""

    key: str


@dataclass
class PromptRequested(Message):
    """The user wants to prompt a device; ``device`` is its id. The app opens the prompt screen on it."""

    device: str


@dataclass
class SortChanged(Message):
    """The user asked for another order of the device table; the table has it in ``order``."""
