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
from hwdash.sources.nvml_session import TIMEOUT, SessionLost
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
        self._over = 0

    def follow(self, library: Any, generation: int, uuids: Mapping[str, str], handle_of: Callable[[str], Any]) -> None:
        """Watch the GPUs of *uuids*, by key, in the NVML run *generation*; nothing to do when they are watched.

        *handle_of* gives the handle of a UUID, or raises as `hwdash.sources.nvml_query.judge` does.
        """
        watched = (generation, frozenset(uuids))
        with self._lock:
            ended = self._thread is not None and not self._thread.is_alive()
            if generation <= self._over or (watched == self._watched and not ended):
                return
        if not self._end_thread(_ENOUGH_S):
            return
        handles = {}
        for key, uuid in uuids.items():
            with contextlib.suppress(DeviceLost):
                handles[key] = handle_of(uuid)
        events = _register(library, handles)
        keys = {_identity(handle): key for key, handle in handles.items()}
        with self._lock:
            # Whoever ends the run from here on finds the thread and waits for it.
            if generation > self._over and self._thread is None:
                self._watched = watched
                if events is not None:
                    self._begin(library, events, keys)
                return
        if events is not None:
            with contextlib.suppress(SessionLost):
                _quiet(Query(library, ("nvmlEventSetFree",), (events,)))

    def _begin(self, library: Any, events: Any, keys: Mapping[object, str]) -> None:
        self._end = end = threading.Event()
        self._thread = threading.Thread(
            target=self._wait, args=(library, events, keys, end), name="hwdash-nvml-events", daemon=True
        )
        self._thread.start()

    def take(self, key: str) -> tuple[Notice, ...]:
        """What happened to the GPU *key* since it was last asked, oldest first."""
        if key not in self._notices:
            return ()
        with self._lock:
            return tuple(self._notices.pop(key, ()))

    def stop(self, generation: int) -> bool:
        """End the thread, for good in the NVML run *generation*. True when it has ended; waits 3 s for that."""
        return self._end_thread(_ENOUGH_S, generation)

    def close(self, generation: int, patience_s: float, afterwards: Callable[[], None]) -> None:
        """As `stop`, with *afterwards* called in the end: here, or on another thread where that takes *patience_s*."""
        if self._end_thread(patience_s, generation):
            afterwards()
            return
        with self._lock:
            thread = self._thread
        threading.Thread(target=_follow_up, args=(thread, afterwards), daemon=True).start()

    def _end_thread(self, patience_s: float, over: int = 0) -> bool:
        with self._lock:
            self._over = max(self._over, over)
            thread, self._watched = self._thread, None
            self._end.set()
        if thread is not None:
            thread.join(patience_s)
            if thread.is_alive():
                return False
        with self._lock:
            if self._thread is thread:
                self._thread = None
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


def _follow_up(thread: threading.Thread | None, afterwards: Callable[[], None]) -> None:
    if thread is not None:
        thread.join()
    afterwards()
