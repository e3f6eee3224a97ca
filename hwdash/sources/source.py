"""The seam between hardware and monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwdash.core.device import Device
from hwdash.core.sample import Sample


class SourceUnavailable(Exception):
    """The source has nothing to read on this machine. Raised by `Source.discover`.

    ``words`` say what is missing, ``fix`` what to do about it; as text they are one sentence. Both are empty where
    nothing is wrong (no such hardware, no such driver).
    """

    def __init__(self, words: str = "", fix: str = "") -> None:
        super().__init__(f"{words}: {fix}" if fix else words)
        self.words = words
        self.fix = fix


class DeviceLost(Exception):
    """The device answered that it is gone. Raised by `Source.read`; the monitor goes on asking, slowly."""


class Source(Protocol):
    """One way to find and read devices. All calls block, may hang, and come from one thread at a time per device.

    ``name`` stands in ``Device.source``. ``per_device`` tells the monitor to give each device a reader thread of its
    own, for drivers in which a call on one device can hang; else one thread reads all devices of the source.
    """

    name: str
    per_device: bool

    @property
    def problem(self) -> str:
        """What the newest `discover` left out, a sentence with what to do; empty when it found everything."""
        ...

    def discover(self) -> Sequence[Device]:
        """All devices there are now, with their fixed facts, ``id`` left empty. Called again on a rescan.

        Raises `SourceUnavailable` when there is nothing to read; any other exception is reported as a problem.
        """
        ...

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the device *key*. A single metric that fails is absent with its reason, never an exception.

        What costs the driver much and moves slowly may be a few seconds old, unless *fresh* asks for all of it as of now.

        Raises `DeviceLost` when the device is gone as a whole.
        """
        ...

    def close(self) -> None:
        """Let go of the driver. Not called while a read hangs."""
        ...
