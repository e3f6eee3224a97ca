"""AMD GPUs through the files of their Linux driver amdgpu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.sample import Sample
from hwdash.sources.amdgpu_card import METRICS, AmdgpuCard
from hwdash.sources.amdgpu_facts import DRIVER, SOURCE_NAME, describe
from hwdash.sources.drm_fleet import Fleet
from hwdash.sources.sysfs import Tree


class AmdgpuSource:
    """The AMD GPUs of the machine below *sysroot*.

    A sleeping card is left alone: nothing of it is opened but what tells that it sleeps. The file ``pcie_bw`` is never
    read: the kernel sleeps for a second in it.
    """

    name = SOURCE_NAME
    per_device = True
    problem = ""

    def __init__(self, sysroot: Path = Path("/"), clock: Clock = SYSTEM_CLOCK) -> None:
        self._fleet = Fleet(Tree(sysroot), clock, {DRIVER}, describe, AmdgpuCard, METRICS)

    def discover(self) -> Sequence[Device]:
        """All cards there are; names and limits as of the newest reads, of a sleeping one what is known of it."""
        return self._fleet.discover()

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the GPU *key*; of a sleeping one all readings are suspended.

        Raises `DeviceLost` when its driver shows it no more or answers nothing but errors.
        """
        return self._fleet.read(key)

    def close(self) -> None:
        """Nothing is held open."""
