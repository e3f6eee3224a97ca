"""One worker's life: load, then answer one request after another until the socket is closed."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

from hwdash.core.measurement import LoadedModel
from hwdash.engine.frame import FrameError, encode, worker_decoder
from hwdash.engine.message import Cancel, Done, Failed, FromWorker, Generate, Load, Loading, Ready, ToWorker

if TYPE_CHECKING:  # torch comes in only after the thread that ends the worker is listening
    from hwdash.engine.worker.loading import ReadyModel

_RECEIVE_BYTES = 256 * 1024
_BROKEN = 70  # EX_SOFTWARE of sysexits.h: the device or the protocol cannot be used any more
_log = logging.getLogger(__name__)


class Session:
    """The worker's end of the socket. The main thread computes; a second thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._cancelled = 0

    def run(self) -> None:
        """Serve until the process ends; never returns unless loading failed."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        load = self._inbox.get()
        if not isinstance(load, Load):
            raise FrameError("the first message must be a load")
        self._send(Loading("starting PyTorch"))
        started = time.monotonic()
        from hwdash.engine.worker.failure import failure_of
        from hwdash.engine.worker.loading import load_model

        try:
            model = load_model(load, lambda detail, progress: self._send(Loading(detail, progress)))
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise must reach the supervisor
            _log.exception("loading failed")
            self._send(failure_of(error, None, None, load.architecture))
            return
        self._send(
            Ready(
                LoadedModel(
                    model.dtype,
                    model.parameters,
                    model.memory_bytes,
                    model.context_length,
                    load_s=time.monotonic() - started,
                ),
                model.has_template,
            )
        )
        while True:
            request = self._inbox.get()
            if isinstance(request, Generate):
                self._serve(model, request, load.architecture)

    def _receive(self) -> None:
        decoder = worker_decoder()
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                for message in decoder.feed(data):
                    if isinstance(message, Cancel):
                        self._cancelled = message.id
                    else:
                        self._inbox.put(message)
        except (OSError, FrameError):
            _log.exception("the connection broke")
            os._exit(_BROKEN)
        os._exit(0)  # whatever the main thread is doing: nobody waits for it any more

    def _send(self, message: FromWorker) -> None:
        data = encode(message)
        with self._sending:
            self._socket.sendall(data)

    def _serve(self, model: ReadyModel, request: Generate, architecture: str) -> None:
        from hwdash.engine.worker.failure import failure_of, is_beyond_repair
        from hwdash.engine.worker.generation import answer
        from hwdash.engine.worker.memory import release_memory

        broken = False
        outcome: Done | Failed
        try:
            outcome = answer(model, request, lambda: self._cancelled == request.id, self._send)
        except Exception as error:  # noqa: BLE001 - likewise
            _log.exception("request %d failed", request.id)
            outcome = failure_of(error, model.device, request.id, architecture)
            broken = is_beyond_repair(error)
        if isinstance(outcome, Failed) and not broken:
            release_memory()
        self._send(outcome)
        if broken:
            os._exit(_BROKEN)
