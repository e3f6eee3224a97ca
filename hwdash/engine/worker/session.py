"""One worker's life: load, then answer requests and run tasks until the socket is closed."""

from __future__ import annotations

import importlib
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Sequence

from hwdash.engine.frame import FrameError, encode, worker_decoder
from hwdash.engine.message import FromWorker, Load, Loading, Prepare, Prepared, ToWorker
from hwdash.engine.worker.lifeline import write_to

_RECEIVE_BYTES = 256 * 1024
_BROKEN = 70  # EX_SOFTWARE of sysexits.h: the device or the protocol cannot be used any more
_log = logging.getLogger(__name__)


class Session:
    """The worker's end of the socket. The main thread computes; a second thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()

    def run(self) -> None:
        """Serve until the process ends; never returns unless loading failed."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        first = self._inbox.get()
        if isinstance(first, Prepare):
            _import_all()
            self._send([Prepared()])
            first = self._inbox.get()
        if not isinstance(first, Load):
            raise FrameError("the first message must be a load")
        self._load(first)

    def _load(self, load: Load) -> None:
        os.environ.update(load.environment)
        if load.log:
            write_to(load.log)
        self._send([Loading("starting PyTorch")])
        started = time.monotonic()
        _import_all()
        from hwdash.engine.worker.failure import failure_of
        from hwdash.engine.worker.loop import Loop
        from hwdash.engine.worker.start import start

        import_s = time.monotonic() - started
        try:
            model, decoder, ready = start(load, import_s, lambda detail, share: self._send([Loading(detail, share)]))
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise must reach the supervisor
            _log.exception("loading failed")
            self._send([failure_of(error, None, None, load.architecture)])
            return
        self._send([ready])
        Loop(model, decoder, self._inbox, self._send, load.architecture).run()
        os._exit(_BROKEN)

    def _receive(self) -> None:
        decoder = worker_decoder()
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                for message in decoder.feed(data):
                    self._inbox.put(message)
        except (OSError, FrameError):
            _log.exception("the connection broke")
            os._exit(_BROKEN)
        os._exit(0)  # whatever the main thread is doing: nobody waits for it any more

    def _send(self, messages: Sequence[FromWorker]) -> None:
        """Send all *messages* with one call: each costs the daemon a wake-up."""
        data = b"".join(map(encode, messages))
        with self._sending:
            self._socket.sendall(data)


def _import_all() -> None:
    """Import torch and what loads and computes; only now that the thread that ends the worker is listening.

    No device is touched by that: which one is there may still be told.
    """
    for name in ("failure", "loop", "start"):
        importlib.import_module(f"hwdash.engine.worker.{name}")
