"""The account of one request: what was seen of it on the way becomes its record."""

from __future__ import annotations

import uuid

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.inference import (
    FinishReason,
    Generation,
    InferenceRecord,
    PromptRequest,
    Route,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.daemon.bracket import Bracket


class Account:
    """Follows the events of one request on *device* and turns them into an `InferenceRecord`."""

    def __init__(self, request: PromptRequest, device: Device, route: Route, bracket: Bracket, clock: Clock) -> None:
        self.device = device
        self._request = request
        self._route = route
        self._bracket = bracket
        self._clock = clock
        self._started_at = clock.now()
        self._started = clock.monotonic()
        self._waited = False
        self._tokens = 0
        self._ttft_s: float | None = None
        self._bracket.open()

    def follow(self, event: StageEvent | TokenEvent) -> None:
        """Take note of *event*. What lies before the prefill (queue, loading) is left out of energy and conditions."""
        if isinstance(event, TokenEvent):
            if self._ttft_s is None:
                self._ttft_s = event.elapsed_s
                self._bracket.run()
                self._bracket.decode()
            self._tokens = event.tokens
        elif event.stage is not Stage.PREFILL:
            self._waited = True
        else:
            if self._waited:
                self._bracket.open()
            self._bracket.run()

    async def close(self, outcome: Generation | FinishReason, error: str | None = None) -> InferenceRecord:
        """The record: of the engine's own *outcome*, or of what was seen when it broke off before there was one."""
        if not isinstance(outcome, Generation):
            timing = Timing(ttft_s=self._ttft_s, total_s=self._clock.monotonic() - self._started)
            outcome = Generation(outcome, TokenCounts(completion=self._tokens), timing)
        energy, conditions = await self._bracket.close(outcome.tokens.completion)
        return InferenceRecord(
            id=uuid.uuid4().hex,
            started_at=self._started_at,
            model=self._request.model,
            device=self.device.id,
            device_key=self.device.key,
            route=self._route,
            tokens=outcome.tokens,
            timing=outcome.timing,
            energy=energy,
            conditions=conditions,
            finish_reason=outcome.finish_reason,
            dtype=outcome.dtype,
            error=error,
        )
