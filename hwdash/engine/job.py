"""One request on its way through a worker: its events, its times, its end."""

from __future__ import annotations

import asyncio
import time

from hwdash.core.errors import HwdashError, error_from_wire
from hwdash.core.inference import (
    EngineEvent,
    Generation,
    PromptRequest,
    Stage,
    StageEvent,
    TokenCounts,
    TokenEvent,
)
from hwdash.engine.message import Done, Generate, Token
from hwdash.engine.timing import timing_of


class Job:
    """A request in the queue of a worker or on it. All times are seconds of ``CLOCK_MONOTONIC``.

    ``events`` holds what the caller has not taken yet; the last one is a `Generation` or an error. ``finished`` is
    set when the worker is free of this job, which after a cancel can be later than the caller's leaving. ``withdrawn``:
    the caller has left.
    """

    def __init__(self, number: int, request: PromptRequest, arrived: float) -> None:
        self.number = number
        self.request = request
        self.arrived = arrived
        self.events: asyncio.Queue[EngineEvent | HwdashError] = asyncio.Queue()
        self.finished = asyncio.Event()
        self.withdrawn = False
        self._sent_at = self._queue_s = 0.0
        self._cold_start_s: float | None = None
        self._stamps: list[float] = []

    def as_message(self) -> Generate:
        """The request in the worker's words."""
        request = self.request
        return Generate(
            self.number,
            request.messages,
            request.max_tokens,
            request.temperature,
            request.top_p,
            request.seed,
            request.stop,
            request.template,
        )

    def turn_came(self, cold_from: float, ready_at: float) -> None:
        """It goes to the worker, which was loaded from *cold_from* to *ready_at*, maybe while the job waited."""
        self._sent_at = time.monotonic()
        if ready_at > self.arrived:
            self._cold_start_s = ready_at - max(self.arrived, cold_from)
        self._queue_s = max(0.0, self._sent_at - self.arrived - (self._cold_start_s or 0.0))

    @property
    def ran_s(self) -> float:
        """Seconds since it went to the worker."""
        return time.monotonic() - self._sent_at

    def stage(self, event: StageEvent) -> None:
        """Tell the caller what it waits for."""
        self.events.put_nowait(event)

    def token(self, message: Token) -> None:
        """Hand a piece of the answer on."""
        if message.count > len(self._stamps):
            self._stamps.append(message.made_at)
        self.events.put_nowait(TokenEvent(message.text, message.count, message.made_at - self.arrived))

    def done(self, message: Done, dtype: str | None) -> None:
        """The worker has finished with this job."""
        counts = TokenCounts(message.prompt_tokens, message.completion_tokens)
        timing = timing_of(self._stamps, self.arrived, queue_s=self._queue_s, cold_start_s=self._cold_start_s)
        share = min(1.0, message.device_s / message.active_s) if message.active_s > 0 else None
        self.events.put_nowait(Generation(message.finish_reason, counts, timing, dtype, share, message.digest))
        self.finished.set()

    def fail(self, error: HwdashError) -> None:
        """The job came to nothing. Each job gets an error object of its own, since each is raised elsewhere."""
        self.events.put_nowait(error_from_wire(error.code, error.message, error.param))
        self.finished.set()


def queued_stage(device: str, before: int) -> StageEvent:
    """The stage of a job with *before* others in front of it."""
    return StageEvent(Stage.QUEUED, device, f"{before} {'request' if before == 1 else 'requests'} before this one")
