"""One device that the NVIDIA driver lists, and the life of its reader from NVML run to NVML run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hwdash.core.device import Device
from hwdash.sources.nvml_card import Card
from hwdash.sources.nvml_mig import Instance
from hwdash.sources.nvml_throttle import Throttle
from hwdash.sources.pace import Pace
from hwdash.sources.source import DeviceLost

NOT_LISTED = "the NVIDIA driver no longer lists the GPU"

_SETTINGS_S = 30.0
"""How often what only an operator changes is looked at: the power limit, and whether MIG is on."""


class ListedDevice:
    """A GPU or MIG instance found once: what is known of it, and its reader.

    ``mig`` is true for a partitioned GPU, None for one that cannot be; ``number`` is the instance's, where it is one.
    The reader belongs to one NVML run and is made by the first read in it. A reader that is dropped while a read uses
    it is closed when that read is over.
    """

    def __init__(self, device: Device, uuid: str, pool_id: str, mig: bool | None, number: int | None = None) -> None:
        self.device = device
        self.uuid = uuid
        self.pool_id = pool_id
        self.mig = mig
        self.number = number
        self.settings = Pace(_SETTINGS_S)
        self._lock = threading.Lock()
        self._reader: Card | Instance | None = None
        self._generation = 0
        self._reads = 0
        self._dropped: list[Card | Instance] = []
        self._gone = False

    def drop(self, *, gone: bool = False) -> None:
        """Forget the reader: the next read makes another; none any more when the device is *gone*."""
        with self._lock:
            self._gone |= gone
            if self._reader is not None:
                self._dropped.append(self._reader)
            self._reader = None
            unused = self._unused()
        for reader in unused:
            reader.close()

    def begin(self, generation: int, make: Callable[[ListedDevice], Card | Instance]) -> Card | Instance:
        """The reader of the NVML run *generation*, by *make* where there is none; to be followed by `end`.

        Raises `DeviceLost` when the device is gone, and what *make* raises.
        """
        with self._lock:
            if self._gone:
                raise DeviceLost(NOT_LISTED)
            reader = self._reader if self._generation == generation else None
            if reader is not None:
                self._reads += 1
                return reader
        self.drop()
        reader = make(self)
        with self._lock:
            if self._gone:
                raise DeviceLost(NOT_LISTED)
            if self._reader is not None:
                self._dropped.append(self._reader)
            self._reader, self._generation = reader, generation
            self._reads += 1
        return reader

    def end(self) -> None:
        """A read is over."""
        with self._lock:
            self._reads -= 1
            unused = self._unused() if self._dropped else ()
        for reader in unused:
            reader.close()

    def throttle(self) -> Throttle:
        """What the newest read of a GPU said of its clocks."""
        reader = self._reader
        return reader.throttle if isinstance(reader, Card) else Throttle()

    def _unused(self) -> list[Card | Instance]:
        unused, self._dropped = ([], self._dropped) if self._reads else (self._dropped, [])
        return unused
