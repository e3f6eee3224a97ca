"""NVIDIA GPUs through NVML, the management library of their driver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_card import METRICS, Card
from hwdash.sources.nvml_facts import SOURCE_NAME, Facts, text_of
from hwdash.sources.nvml_query import judge
from hwdash.sources.nvml_session import GPU_NOT_FOUND, NOT_FOUND, NvmlDown, NvmlSession, SessionLost
from hwdash.sources.source import DeviceLost, SourceUnavailable

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """A GPU found once. ``card`` belongs to the NVML run ``generation`` and is None until it is read (again)."""

    device: Device
    uuid: str
    pool_id: str
    card: Card | None = None
    generation: int = 0


class NvmlSource:
    """The NVIDIA GPUs of this machine.

    *library* is the ``pynvml`` module or a stand-in with its functions; None imports pynvml at the first discovery.
    *sysroot* is where ``/proc`` and ``/dev`` are looked at, to tell a missing library from a missing driver.
    NVML may be called from all readers at once; a call that hangs holds up no other device.
    """

    name = SOURCE_NAME
    per_device = True

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        library: Any | None = None,
        sysroot: Path = Path("/"),
    ) -> None:
        self._clock = clock
        self._session = NvmlSession(library, self._clock, sysroot)
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._failures: list[str] = []

    @property
    def problem(self) -> str:
        """The GPUs that the newest `discover` left out, and the driver's words for each."""
        return "; ".join(self._failures)

    def discover(self) -> Sequence[Device]:
        """All GPUs that answer, in the driver's order. Their facts are asked for once; the power limit every time.

        A GPU that does not answer is left out and named by `problem`. Raises `SourceUnavailable` with what to do when there is none.
        """
        while True:
            generation = self._session.start()
            try:
                return self._enumerate()
            except SessionLost as lost:
                if not self._session.restart(generation):
                    raise self._session.over(lost.reason) from None

    def read(self, key: str) -> Sample:
        """One sample of the GPU *key*. Starts NVML again when the driver was reloaded under it.

        Raises `DeviceLost` when the GPU is not known, has fallen off the bus, or its driver is gone.
        """
        with self._lock:
            known = self._known.get(key)
        if known is None:
            raise DeviceLost(f"no NVIDIA GPU {key}")
        while True:
            try:
                generation = self._session.start()
            except NvmlDown as down:
                if down.reason is Absent.ERROR:
                    raise DeviceLost(str(down) or "the NVIDIA driver is gone") from down
                return self._absent(key, down.reason)
            try:
                return self._read(known, generation)
            except SessionLost as lost:
                if not self._session.restart(generation):
                    return self._absent(key, lost.reason)
            except DeviceLost:
                known.card = None
                raise

    def close(self) -> None:
        """Shut NVML down."""
        self._session.close()
        with self._lock:
            self._known.clear()

    def _read(self, known: _Known, generation: int) -> Sample:
        if known.card is None or known.generation != generation:
            known.card = Card(self._session.library, self._handle(known.uuid), known.pool_id)
            known.generation = generation
        return known.card.read(known.device.key, self._clock.monotonic(), self._clock.now())

    def _absent(self, key: str, reason: Absent) -> Sample:
        return Sample(key, self._clock.monotonic(), self._clock.now(), dict.fromkeys(METRICS, reason))

    def _handle(self, uuid: str) -> Any:
        library = self._session.library
        try:
            return library.nvmlDeviceGetHandleByUUID(uuid)
        except library.NVMLError as error:
            if error.value in (NOT_FOUND, GPU_NOT_FOUND):
                raise DeviceLost("the NVIDIA driver no longer lists the GPU") from error
            judge(error.value)
            raise DeviceLost(f"the NVIDIA driver does not give the GPU out: {sanitise_line(str(error))}") from error

    def _enumerate(self) -> list[Device]:
        library = self._session.library
        try:
            count = library.nvmlDeviceGetCount()
        except library.NVMLError as error:
            judge(error.value)
            raise SourceUnavailable(f"the NVIDIA driver lists no GPUs: {sanitise_line(str(error))}") from error
        if not count:
            raise self._session.no_devices()
        driver = self._driver_version()
        found: list[Device] = []
        failures: list[str] = []
        for index in range(count):
            try:
                found.append(self._identify(index, driver))
            except DeviceLost as lost:
                failures.append(f"GPU {index}: {lost}")
            except library.NVMLError as error:
                failures.append(f"GPU {index}: {sanitise_line(str(error))}")
        if failures != self._failures:
            _logger.warning("NVIDIA GPUs that do not answer: %s", "; ".join(failures) or "none any more")
            self._failures = failures
        if not found:
            raise SourceUnavailable(f"no NVIDIA GPU answers ({'; '.join(failures)})")
        return found

    def _identify(self, index: int, driver: str | None) -> Device:
        """The GPU with the driver's *index*, an order that means nothing: UUID and PCI address identify it."""
        library = self._session.library
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            uuid = text_of(library.nvmlDeviceGetUUID(handle))
        except library.NVMLError as error:
            judge(error.value)
            raise
        facts = Facts(library, handle)
        with self._lock:
            known = self._known.get(f"nvidia:{uuid}")
        if known is None or known.device.driver != driver:
            device = facts.device(uuid, driver)
            known = _Known(device, uuid, facts.pool_id())
        known.device = replace(known.device, limits=replace(known.device.limits, power_w=facts.power_limit_w()))
        with self._lock:
            self._known[known.device.key] = known
        return known.device

    def _driver_version(self) -> str | None:
        library = self._session.library
        try:
            return text_of(library.nvmlSystemGetDriverVersion()) or None
        except library.NVMLError as error:
            judge(error.value)
            return None
