"""Files that take long are read on a thread of their own, so that a tick never waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from hwdash.core.clock import Clock
from hwdash.core.reading import Absent, Reading

_log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""A round that takes longer than this many seconds is not waited for any more: what it reads has timed out."""


class SlowReader:
    """The slow metrics of one device. At most one thread, which sleeps between rounds; it starts with the first one."""

    def __init__(self, work: Callable[[], Mapping[str, Reading]], clock: Clock, name: str) -> None:
        self._work = work
        self._clock = clock
        self._name = name
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._closed = False
        self._begun_s: float | None = None
        self._latest: Mapping[str, Reading] | None = None

    def latest(self) -> Mapping[str, Reading] | None:
        """What the newest finished round read, None before the first; a new round begins unless one is under way.

        Empty while a round takes longer than `PATIENCE_S`.
        """
        with self._wake:
            if self._begun_s is not None:
                return {} if self._clock.monotonic() - self._begun_s > PATIENCE_S else self._latest
            if self._closed:
                return self._latest
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._wanted = True
            self._begun_s = self._clock.monotonic()
            self._wake.notify_all()
            return self._latest

    def close(self) -> None:
        """Let the thread end after the round it is in. Does not wait for it."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                self._wanted = False
            latest: Mapping[str, Reading]
            try:
                latest = self._work()
            except Exception:  # noqa: BLE001 - a boundary: nobody waits for this thread
                _log.exception("%s failed", self._name)
                latest = {}
            with self._wake:
                self._latest = latest
                self._begun_s = None


def missing(latest: Mapping[str, Reading] | None) -> Absent:
    """Why a metric is not in what a `SlowReader` gave."""
    return Absent.FIRST_SAMPLE if latest is None else Absent.TIMED_OUT
