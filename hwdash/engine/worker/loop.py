"""What a worker does with its messages: requests together, tasks alone, a look into the inbox between two steps."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed_version

from hwdash.core.inference import FinishReason
from hwdash.core.measurement import Measured
from hwdash.core.trial import DtypeTrial
from hwdash.engine.message import (
    Cancel,
    Done,
    FromWorker,
    Generate,
    Measure,
    Ping,
    Pong,
    Report,
    ToWorker,
    Tried,
    Try,
)
from hwdash.engine.worker.batch import Batch
from hwdash.engine.worker.decoder import Decoder
from hwdash.engine.worker.failure import is_beyond_repair
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.memory import release_memory
from hwdash.engine.worker.task import run_task
from hwdash.engine.worker.trial import try_dtypes

_log = logging.getLogger(__name__)


class Loop:
    """Serves *inbox* with *decoder*. *send* is given the messages that leave together.

    A task waits until the requests before it are answered, and requests that come after it wait until it ends. Precisions
    are tried when nothing else is to do, and given up when something is.
    """

    def __init__(
        self,
        model: ReadyModel,
        decoder: Decoder,
        inbox: queue.SimpleQueue[ToWorker],
        send: Callable[[Sequence[FromWorker]], None],
        architecture: str = "",
    ) -> None:
        self._model = model
        self._decoder = decoder
        self._inbox = inbox
        self._send = send
        self._batch = Batch(model, decoder, architecture)
        self._later: deque[Generate | Measure] = deque()
        self._task: int | None = None
        self._try: Try | None = None
        self._is_stopped = False
        self._is_broken = False

    def run(self) -> None:
        """Serve until the device cannot be used any more; every request has failed then."""
        while not self._is_broken:
            if self._is_free:
                self._try_or_wait()
            self._drain()
            self._hand_over()
            if messages := self._batch.step():
                self._send(messages)
            self._is_broken = self._is_broken or self._batch.broken

    @property
    def _is_free(self) -> bool:
        return not self._batch.busy and not self._later

    def _try_or_wait(self) -> None:
        self._drain()
        if not self._is_free:
            return
        if self._try is None:
            self._wait()
            return
        wish, trials = self._try, tuple[DtypeTrial, ...]()
        try:
            trials = try_dtypes(self._model.device, wish.dtypes, stopped=self._has_no_time)
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise, no trial came of it
            _log.exception("trying precisions failed")
            self._is_broken = is_beyond_repair(error)
        release_memory()
        self._try = None if self._try is wish else self._try
        self._send([Tried(wish.id, trials, installed_version("torch"))])

    def _has_no_time(self) -> bool:
        """Whether something came that goes before a trial, or it is not wanted any more; looks into the inbox."""
        self._drain()
        return self._try is None or not self._is_free

    def _wait(self) -> None:
        """Block until a message comes; what the decoder put off is done first."""
        if self._inbox.empty():
            try:
                while self._decoder.idle() and self._inbox.empty():
                    pass
            except Exception as error:  # nobody's request: the next one shows whether the decoder still works
                _log.exception("work between requests failed")
                if is_beyond_repair(error):
                    raise
        self._take(self._inbox.get())

    def _drain(self) -> None:
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, message: ToWorker) -> None:
        match message:
            case Ping():
                self._send([Pong(message.id)])
            case Cancel():
                self._cancel(message.id)
            case Measure():
                self._later.append(message)
            case Try():
                self._try = message
            case Generate() if self._task is not None or self._later:
                self._later.append(message)
            case Generate():
                self._batch.add(message)

    def _cancel(self, number: int) -> None:
        if number == self._task:
            self._is_stopped = True
            return
        if self._try is not None and number == self._try.id:
            self._try = None
            return
        self._batch.cancel(number)
        for message in [message for message in self._later if message.id == number]:
            self._later.remove(message)
            now = time.monotonic()
            if isinstance(message, Generate):
                self._send([Done(number, FinishReason.CANCELLED, 0, 0)])
            else:
                self._send([Report(number, Measured(now, now, last=True))])

    def _hand_over(self) -> None:
        """Begin what waits for its turn, in order."""
        while self._later and not self._is_broken:
            if isinstance(self._later[0], Measure) and self._batch.busy:
                return
            message = self._later.popleft()
            if isinstance(message, Measure):
                self._measure(message)
            else:
                self._batch.add(message)

    def _measure(self, message: Measure) -> None:
        self._task, self._is_stopped = message.id, False
        try:
            for measured in run_task(self._decoder, self._model, message.task, self._stopped):
                self._send([Report(message.id, measured)])
        except Exception:  # noqa: BLE001 - whatever the libraries raise, the last report told of it
            _log.exception("the device failed during task %d", message.id)
            self._is_broken = True
        finally:
            self._task = None

    def _stopped(self) -> bool:
        """Whether the task was cancelled; looks into the inbox."""
        self._drain()
        return self._is_stopped
