"""The events that NVIDIA's driver tells by itself: XIDs and their like, waited for on one thread."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from hwdash.core.reading import Absent
from hwdash.core.sample import Notice
from hwdash.sources.nvml_query import Query
from hwdash.sources.nvml_session import TIMEOUT
from hwdash.sources.nvml_xid import WANTED, notice_of
from hwdash.sources.source import DeviceLost

_logger = logging.getLogger(__name__)

_WAIT_MS = 1000
"""How long one wait takes at most; the end of the thread is seen in between."""
_NO_WAIT_S = 0.01
"""A wait that is over sooner without an event did not wait; it must not become a busy loop."""
_ENOUGH_S = 3.0
_MOST = 32
"""Notices kept for a device that is not read; the oldest go first."""


class EventWatch:
    """Waits for events of the GPUs of one NVML session and keeps them until they are taken.

    There is a thread only while a GPU is watched that has events to tell. It must have ended before NVML is shut down.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notices: dict[str, deque[Notice]] = defaultdict(lambda: deque(maxlen=_MOST))
        self._watched: object = None
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def follow(self, library: Any, generation: int, uuids: Mapping[str, str], handle_of: Callable[[str], Any]) -> None:
        """Watch the GPUs of *uuids*, by key, in the NVML run *generation*; nothing to do when they are watched.

        *handle_of* gives the handle of a UUID, or raises as `hwdash.sources.nvml_query.judge` does.
        """
        watched = (generation, frozenset(uuids))
        with self._lock:
            ended = self._thread is not None and not self._thread.is_alive()
            if watched == self._watched and not ended:
                return
        if not self.stop():
            return
        with self._lock:
            self._watched = watched
        handles = {}
        for key, uuid in uuids.items():
            with contextlib.suppress(DeviceLost):
                handles[key] = handle_of(uuid)
        events = _register(library, handles)
        if events is None:
            return
        end = threading.Event()
        keys = {_identity(handle): key for key, handle in handles.items()}
        thread = threading.Thread(
            target=self._wait, args=(library, events, keys, end), name="hwdash-nvml-events", daemon=True
        )
        with self._lock:
            self._end, self._thread = end, thread
        thread.start()

    def take(self, key: str) -> tuple[Notice, ...]:
        """What happened to the GPU *key* since it was last asked, oldest first."""
        if key not in self._notices:
            return ()
        with self._lock:
            return tuple(self._notices.pop(key, ()))

    def stop(self, patience_s: float = _ENOUGH_S, afterwards: Callable[[], None] | None = None) -> bool:
        """End the thread. True when it has ended; waits *patience_s* for that.

        *afterwards* is called in any case: here, or by a thread that is later than that.
        """
        with self._lock:
            thread, self._watched = self._thread, None
            self._end.set()
        if thread is not None:
            thread.join(patience_s)
            if thread.is_alive():
                if afterwards is not None:
                    threading.Thread(target=_follow_up, args=(thread, afterwards), daemon=True).start()
                return False
        with self._lock:
            if self._thread is thread:
                self._thread = None
        if afterwards is not None:
            afterwards()
        return True

    def _wait(self, library: Any, events: Any, keys: Mapping[object, str], end: threading.Event) -> None:
        try:
            while not end.is_set():
                began_s = time.monotonic()
                try:
                    self._keep(keys, library.nvmlEventSetWait_v2(events, _WAIT_MS))
                except library.NVMLError as error:
                    if error.value != TIMEOUT:
                        _logger.info("no more events from the NVIDIA driver before the next rescan: %s", error)
                        return
                    if time.monotonic() - began_s < _NO_WAIT_S:
                        end.wait(_WAIT_MS / 1000)
        finally:
            try:
                library.nvmlEventSetFree(events)
            except library.NVMLError as error:
                _logger.debug("nvmlEventSetFree: %s", error)

    def _keep(self, keys: Mapping[object, str], data: Any) -> None:
        notice = notice_of(int(data.eventType), int(data.eventData))
        key = keys.get(_identity(data.device))
        if notice is None or key is None:
            return
        _logger.warning("%s: %s", key, notice.words)
        with self._lock:
            self._notices[key].append(notice)


def _register(library: Any, handles: Mapping[str, Any]) -> Any | None:
    """An event set with all *handles* that have events; None where no thread is worth its while."""
    wanted = {}
    for key, handle in handles.items():
        kinds = _quiet(Query(library, ("nvmlDeviceGetSupportedEventTypes",), (handle,)))
        if not isinstance(kinds, Absent) and int(kinds) & WANTED:
            wanted[key] = (handle, int(kinds) & WANTED)
    if not wanted:
        return None
    events = _quiet(Query(library, ("nvmlEventSetCreate",), ()))
    if isinstance(events, Absent):
        return None
    registered = 0
    for handle, kinds in wanted.values():
        answer = _quiet(Query(library, ("nvmlDeviceRegisterEvents",), (handle, kinds, events)))
        registered += not isinstance(answer, Absent)
    if registered:
        return events
    _quiet(Query(library, ("nvmlEventSetFree",), (events,)))
    return None


def _quiet(query: Query) -> Any | Absent:
    """An answer; a GPU that is lost at this moment has none, and its reader will say so."""
    try:
        return query.ask()
    except DeviceLost:
        return Absent.DEVICE_LOST


def _identity(handle: Any) -> object:
    """What makes two handles equal: for pointers, what they point to."""
    try:
        return ctypes.cast(handle, ctypes.c_void_p).value
    except (ctypes.ArgumentError, TypeError):
        return id(handle)


def _follow_up(thread: threading.Thread, afterwards: Callable[[], None]) -> None:
    thread.join()
    afterwards()
