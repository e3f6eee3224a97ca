"""An NVML source over scripted cards, with a clock of its own."""

from __future__ import annotations

from pathlib import Path

from hwdash.core.clock import ManualClock
from hwdash.core.sample import Sample
from hwdash.sources.nvml import NvmlSource
from tests.sources.nvml_stand_in import FakeCard, NvmlStandIn

KEY = "nvidia:GPU-0"


class Rig:
    """A source over one or more scripted cards, already discovered."""

    def __init__(self, *cards: FakeCard, sysroot: Path = Path("/")) -> None:
        self.cards = cards or (FakeCard(),)
        self.card = self.cards[0]
        self.driver = NvmlStandIn(*self.cards)
        self.clock = ManualClock()
        self.source = NvmlSource(self.clock, self.driver, sysroot)
        self.devices = self.source.discover()

    def read(self, key: str = KEY, after_s: float = 1.0, *, fresh: bool = False) -> Sample:
        """A sample, *after_s* seconds later."""
        self.clock.advance(after_s)
        return self.source.read(key, fresh)
