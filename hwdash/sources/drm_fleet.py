"""The cards of one vendor over time: found, asleep, awake, gone. What is read of them is the vendor's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Sample
from hwdash.sources.drm import DrmCard, find_cards, is_asleep, is_there
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Facts(Generic[S]):
    """A device, and where it is read; ``sensors`` None while the card sleeps and was not awake before."""

    device: Device
    sensors: S | None


class CardReader(Protocol[S_contra]):
    """What reads one awake card and remembers what must be remembered between two samples."""

    def read(self, key: str, sensors: S_contra, monotonic_s: float, taken_at: datetime) -> Sample:
        """One sample; the times are those of this moment. What cannot be read is absent."""
        ...


@dataclass(slots=True)
class _Known(Generic[S]):
    """A card found once. ``names`` are the metrics it had when it was last awake; ``outdated`` asks for new facts."""

    card: DrmCard
    facts: Facts[S]
    reader: CardReader[S]
    names: tuple[str, ...]
    outdated: bool = False


class Fleet(Generic[S]):
    """The cards in *tree* that one of *drivers* drives, by key.

    *describe* gives the facts of a card, given those of before; *make_reader* its reader; *metrics* are the names of
    what is asked of a card whose own are not known yet. Nothing of a sleeping card is opened but what tells that it
    sleeps, provided that *describe* keeps to that. Discovery and reads may run on threads of their own.
    """

    def __init__(
        self,
        tree: Tree,
        clock: Clock,
        drivers: Collection[str],
        describe: Callable[[Tree, DrmCard, Facts[S] | None], Facts[S]],
        make_reader: Callable[[Tree, DrmCard], CardReader[S]],
        metrics: tuple[str, ...],
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._drivers = drivers
        self._describe = describe
        self._make_reader = make_reader
        self._metrics = metrics
        self._lock = threading.Lock()
        self._known: dict[str, _Known[S]] = {}

    def discover(self) -> Sequence[Device]:
        """All cards there are, with their facts as of the last read after the discovery before.

        A card that was read is not touched: should its driver hang, only its own reader hangs with it.
        """
        with self._lock:
            before = {known.card: known for known in self._known.values()}
        found: dict[str, _Known[S]] = {}
        for card in find_cards(self._tree, self._drivers):
            known = before.get(card)
            if known is None:
                facts = self._describe(self._tree, card, None)
                known = _Known(card, facts, self._make_reader(self._tree, card), self._metrics)
            elif known.facts.sensors is None:
                known.facts = self._describe(self._tree, card, known.facts)
            else:
                known.outdated = True
            found[known.facts.device.key] = known
        with self._lock:
            self._known = found
        return [known.facts.device for known in found.values()]

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the card *key*; of a sleeping one all readings are suspended.

        Raises `DeviceLost` when its driver shows it no more or answers nothing but errors.
        """
        with self._lock:
            known = self._known.get(key)
        if known is None:
            raise DeviceLost(f"no GPU {key}")
        if not is_there(self._tree, known.card):
            raise DeviceLost(_gone(known.card))
        monotonic_s, taken_at = self._clock.monotonic(), self._clock.now()
        asleep = is_asleep(self._tree, known.card)
        if not asleep and (known.outdated or known.facts.sensors is None):
            known.outdated = False
            known.facts = self._describe(self._tree, known.card, known.facts)
        if asleep or (sensors := known.facts.sensors) is None:
            # Counters say nothing about time in which the card was off.
            known.reader = self._make_reader(self._tree, known.card)
            return Sample(key, monotonic_s, taken_at, dict.fromkeys(known.names, Absent.SUSPENDED))
        sample = known.reader.read(key, sensors, monotonic_s, taken_at)
        self._require_answer(known.card, sample)
        known.names = tuple(sample.readings)
        return sample

    def _require_answer(self, card: DrmCard, sample: Sample) -> None:
        readings = sample.readings.values()
        if any(is_present(reading) for reading in readings):
            return
        if not is_there(self._tree, card):
            raise DeviceLost(_gone(card))
        if Absent.ERROR in readings:
            raise DeviceLost(f"{card.driver} answers with errors only for the GPU at {card.slot}; see dmesg")


def told(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """*readings* without those that the card does not have at all."""
    return {name: reading for name, reading in readings.items() if reading is not Absent.NOT_SUPPORTED}


def _gone(card: DrmCard) -> str:
    return f"{card.driver} no longer shows the GPU at {card.slot}"
