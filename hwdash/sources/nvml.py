"""NVIDIA GPUs through NVML, the management library of their driver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_card import METRICS, Card
from hwdash.sources.nvml_event import EventWatch
from hwdash.sources.nvml_facts import SOURCE_NAME, Facts, text_of
from hwdash.sources.nvml_listed import NOT_LISTED, ListedDevice
from hwdash.sources.nvml_mig import INSTANCE_METRICS, Instance, Slice, slices_of
from hwdash.sources.nvml_query import judge
from hwdash.sources.nvml_session import (
    GPU_NOT_FOUND,
    NO_PERMISSION,
    NOT_FOUND,
    SEE_DMESG,
    NvmlDown,
    NvmlSession,
    SessionLost,
    denied,
)
from hwdash.sources.source import DeviceLost, SourceUnavailable
from hwdash.sources.sysfs import Tree

_logger = logging.getLogger(__name__)

_CLOSE_PATIENCE_S = 0.05
"""How long a closing source waits for the thread of the events; a longer wait ends behind its back."""


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
        self._known: dict[str, ListedDevice] = {}
        self._order: tuple[str, ...] = ()
        self._losses = 0
        self._driver: str | None = None
        self._failures: dict[str, str] = {}
        self._tree = Tree(sysroot)
        self._watch = EventWatch()

    @property
    def problem(self) -> str:
        """The GPUs that the newest `discover` left out, and the driver's words for each."""
        return _together(self._failures)

    def discover(self) -> Sequence[Device]:
        """All GPUs that answer, in the driver's order, each followed by its MIG instances.

        Their facts are asked for once, what an operator can change every 30 s, MIG instances every time. A GPU that does not answer is
        left out and named by `problem`. Raises `SourceUnavailable` with what to do when there is none.
        """
        while True:
            generation = self._session.start()
            try:
                return self._enumerate(generation)
            except SessionLost as lost:
                if not self._session.restart(generation, self._watch.stop):
                    raise self._session.over(lost.reason) from None

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the GPU *key*. Starts NVML again when the driver was reloaded under it.

        Raises `DeviceLost` when the GPU is not known, has fallen off the bus, or its driver is gone.
        """
        with self._lock:
            known = self._known.get(key)
        if known is None:
            raise DeviceLost(NOT_LISTED)
        while True:
            try:
                generation = self._session.start()
            except NvmlDown as down:
                if down.reason is Absent.ERROR:
                    raise DeviceLost(str(down) or "the NVIDIA driver is gone") from down
                return self._absent(known, down.reason)
            try:
                return self._read(known, generation, fresh)
            except SessionLost as lost:
                if not self._session.restart(generation, self._watch.stop):
                    return self._absent(known, lost.reason)
            except DeviceLost as lost:
                known.drop()
                with self._lock:
                    self._order, self._losses = (), self._losses + 1
                words = "; ".join((str(lost), *(notice.words for notice in self._watch.take(key))))
                raise DeviceLost(words) from lost

    def close(self) -> None:
        """Shut NVML down, once nobody waits for its events any more."""
        with self._lock:
            known = list(self._known.values())
            self._known.clear()
        for each in known:
            each.drop(gone=True)
        self._watch.close(self._session.generation, _CLOSE_PATIENCE_S, self._session.close)

    def _read(self, known: ListedDevice, generation: int, fresh: bool) -> Sample:
        reader = known.begin(generation, self._reader)
        try:
            sample = reader.read(known.device.key, self._clock.monotonic(), self._clock.now(), fresh)
        finally:
            known.end()
        notices = self._watch.take(known.device.key)
        return replace(sample, notices=notices) if notices else sample

    def _reader(self, known: ListedDevice) -> Card | Instance:
        library, phase = self._session.library, (crc32(known.uuid.encode()) + 1) / 2**32
        handle = self._handle(known.uuid)
        with self._lock:
            parent = self._known.get(known.device.parent or "")
        if parent is None:
            return Card(library, handle, known.pool_id, self._tree, phase)

        handles = handle, self._handle(parent.uuid)
        return Instance(library, handles, known.number, known.pool_id, self._tree, phase, parent.throttle)

    def _absent(self, known: ListedDevice, reason: Absent) -> Sample:
        names = METRICS if known.device.parent is None else INSTANCE_METRICS
        return Sample(known.device.key, self._clock.monotonic(), self._clock.now(), dict.fromkeys(names, reason))

    def _handle(self, uuid: str) -> Any:
        library = self._session.library
        try:
            return library.nvmlDeviceGetHandleByUUID(uuid)
        except library.NVMLError as error:
            if error.value in (NOT_FOUND, GPU_NOT_FOUND):
                raise DeviceLost(NOT_LISTED) from error
            raise DeviceLost(_words_of(error, "the NVIDIA driver does not give the GPU out: ")) from error

    def _enumerate(self, generation: int) -> list[Device]:
        library = self._session.library
        try:
            count = library.nvmlDeviceGetCount()
        except library.NVMLError as error:
            judge(error.value)
            if error.value == NO_PERMISSION:
                raise denied() from error
            words = f"the NVIDIA driver lists no GPUs ({sanitise_line(str(error))})"
            raise SourceUnavailable(words, SEE_DMESG) from error
        if not count:
            raise self._session.no_devices()
        driver = self._driver_version()
        failures: dict[str, str] = {}
        with self._lock:
            uuids, losses = self._order, self._losses
        if len(uuids) != count or driver != self._driver:
            uuids, failures = self._list(count)
        found: list[Device] = []
        watched: dict[str, str] = {}
        for uuid in uuids:
            try:
                devices = self._identify(uuid, driver)
            except DeviceLost as lost:
                failures[sanitise_line(uuid)] = str(lost)
                continue
            watched[devices[0].key] = uuid
            found += devices
        # As long as there are as many GPUs as before and none was lost, they are the same.
        with self._lock:
            same = len(watched) == count and losses == self._losses
            self._order, self._driver = (uuids, driver) if same else ((), None)
        if failures != self._failures:
            _logger.warning("NVIDIA GPUs that do not answer: %s", _together(failures) or "none any more")
            self._failures = failures
        if not found:
            if set(failures.values()) == {str(denied())}:
                raise denied()
            raise SourceUnavailable(f"no NVIDIA GPU answers ({_together(failures)})", SEE_DMESG)
        self._watch.follow(library, generation, watched, self._handle)
        return found

    def _list(self, count: int) -> tuple[tuple[str, ...], dict[str, str]]:
        """The UUIDs of all GPUs that answer, and what the others say; by the driver's index, which means nothing."""
        library = self._session.library
        uuids: list[str] = []
        failures: dict[str, str] = {}
        for index in range(count):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                uuids.append(text_of(library.nvmlDeviceGetUUID(handle)))
            except library.NVMLError as error:
                try:
                    failures[f"GPU {index}"] = _words_of(error)
                except DeviceLost as lost:
                    failures[f"GPU {index}"] = str(lost)
        return tuple(uuids), failures

    def _identify(self, uuid: str, driver: str | None) -> list[Device]:
        """The GPU with its facts, and its MIG instances."""
        with self._lock:
            known = self._known.get(f"nvidia:{uuid}")
        fresh = known is not None and known.device.driver == driver
        if known is not None and fresh and not known.mig and not known.settings.is_due(self._clock.monotonic()):
            return [known.device]
        library, handle = self._session.library, self._handle(uuid)
        facts = Facts(library, handle)
        if known is None:
            known = ListedDevice(facts.device(uuid, driver), uuid, facts.pool_id(), False)
        elif not fresh:
            known.device, known.pool_id, known.mig = facts.device(uuid, driver), facts.pool_id(), False
            known.settings.hasten()
            known.drop()
        if known.settings.due(self._clock.monotonic()):
            self._look_at_settings(known, facts)
        pieces = slices_of(library, handle, known.device) if known.mig else []
        self._keep(known, pieces)
        return [known.device, *(piece.device for piece in pieces)]

    def _keep(self, known: ListedDevice, pieces: Sequence[Slice]) -> None:
        """Know the GPU and its MIG instances *pieces*, and none of it that is not among them."""
        with self._lock:
            key = known.device.key
            before = {member.device.key: member for member in self._known.values() if member.device.parent == key}
            self._known[key] = known
            for piece in pieces:
                member = before.get(piece.device.key)
                if member is not None and member.number == piece.number:
                    member.device = piece.device
                    del before[piece.device.key]
                else:
                    made = ListedDevice(piece.device, piece.uuid, known.pool_id, None, piece.number)
                    self._known[piece.device.key] = made
            for old in before.values():
                if self._known[old.device.key] is old:
                    del self._known[old.device.key]
        for old in before.values():
            old.drop(gone=True)

    def _look_at_settings(self, known: ListedDevice, facts: Facts) -> None:
        mig = None if known.mig is None else facts.is_partitioned()
        if mig != known.mig:
            # What a partitioned GPU does not tell is told again when the partitions are gone, and the other way round.
            known.mig = mig
            known.drop()
        known.device = replace(
            known.device,
            limits=replace(known.device.limits, power_w=facts.power_limit_w()),
            capabilities=replace(known.device.capabilities, inference=not mig),
        )

    def _driver_version(self) -> str | None:
        library = self._session.library
        try:
            return text_of(library.nvmlSystemGetDriverVersion()) or None
        except library.NVMLError as error:
            judge(error.value)
            return None


def _words_of(error: Any, before: str = "") -> str:
    """What the NVML *error* of one GPU means, with *before* where only the driver's own words tell. Raises as `judge`."""
    judge(error.value)
    return str(denied()) if error.value == NO_PERMISSION else before + sanitise_line(str(error))


def _together(failures: Mapping[str, str]) -> str:
    """What is wrong with which GPUs; the same words are said once."""
    names: dict[str, list[str]] = {}
    for name, words in failures.items():
        names.setdefault(words, []).append(name)
    return "; ".join(f"{', '.join(named)}: {words}" for words, named in names.items())
