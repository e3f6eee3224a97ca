"""AMD GPUs through the files of their Linux driver amdgpu."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.sources.amdgpu_card import METRICS, AmdgpuCard
from hwdash.sources.amdgpu_facts import DRIVER, SOURCE_NAME, Facts, describe, device_key
from hwdash.sources.drm import DrmCard, find_cards, is_asleep, is_there, require_answer
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree


@dataclass(slots=True)
class _Known:
    """A card found once. ``facts`` is written by both readers, as a whole; ``names`` are the metrics it last had."""

    card: DrmCard
    facts: Facts
    reader: AmdgpuCard
    names: tuple[str, ...] = METRICS


class AmdgpuSource:
    """The AMD GPUs of the machine below *sysroot*.

    A sleeping card is left alone: nothing of it is opened but what tells that it sleeps. The file ``pcie_bw`` is never
    read: the kernel sleeps for a second in it.
    """

    name = SOURCE_NAME
    per_device = True
    problem = ""

    def __init__(self, sysroot: Path = Path("/"), clock: Clock = SYSTEM_CLOCK) -> None:
        self._tree = Tree(sysroot)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def discover(self) -> Sequence[Device]:
        """All cards there are; of those awake limits and names anew, of a sleeping one what is known of it."""
        found: dict[str, _Known] = {}
        for card in find_cards(self._tree, {DRIVER}):
            known = self._get(device_key(card))
            if known is not None and known.card == card:
                known.facts = describe(self._tree, card, known.facts)
            else:
                known = _Known(card, describe(self._tree, card), AmdgpuCard(self._tree, card))
            found[known.facts.device.key] = known
        with self._lock:
            self._known = found
        return [known.facts.device for known in found.values()]

    def read(self, key: str) -> Sample:
        """One sample of the GPU *key*; of a sleeping one all readings are suspended.

        Raises `DeviceLost` when its driver shows it no more or answers nothing but errors.
        """
        known = self._get(key)
        if known is None or not is_there(self._tree, known.card):
            raise DeviceLost(f"amdgpu shows no GPU at {key.removeprefix('amd:')}")
        monotonic_s, taken_at = self._clock.monotonic(), self._clock.now()
        if is_asleep(self._tree, known.card):
            return Sample(key, monotonic_s, taken_at, dict.fromkeys(known.names, Absent.SUSPENDED))
        if known.facts.sensors is None:
            known.facts = describe(self._tree, known.card)
        if (sensors := known.facts.sensors) is None:
            return Sample(key, monotonic_s, taken_at, dict.fromkeys(known.names, Absent.SUSPENDED))
        sample = known.reader.read(key, sensors, monotonic_s, taken_at)
        require_answer(self._tree, known.card, sample.readings)
        known.names = tuple(sample.readings)
        return sample

    def close(self) -> None:
        """Nothing is held open."""

    def _get(self, key: str) -> _Known | None:
        with self._lock:
            return self._known.get(key)
