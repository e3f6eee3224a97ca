"""Intel GPUs through the files of their Linux drivers i915 and xe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.sample import Sample
from hwdash.sources.drm_fleet import Fleet
from hwdash.sources.intel_card import METRICS, IntelCard
from hwdash.sources.intel_facts import I915, SOURCE_NAME, XE, describe
from hwdash.sources.sysfs import Tree


class IntelGpuSource:
    """The Intel GPUs of the machine below *sysroot*. A sleeping one is left alone."""

    name = SOURCE_NAME
    per_device = True
    problem = ""

    def __init__(self, sysroot: Path = Path("/"), clock: Clock = SYSTEM_CLOCK) -> None:
        self._fleet = Fleet(Tree(sysroot), clock, {I915, XE}, describe, IntelCard, METRICS)

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
