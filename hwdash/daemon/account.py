"""The account of one request: what was seen of it on the way becomes its record."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.inference import (
    Conditions,
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
from hwdash.daemon.group_bracket import GroupBracket


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a request came to the daemon: the time of day, and the seconds of the monotonic clock."""

    at: datetime
    monotonic_s: float


class Account:
    """Follows the events of one request on *device* and turns them into an `InferenceRecord`.

    Times count from the request's *arrival* at the daemon, however late it came to this device. *served*: an external
    server computes it.
    """

    def __init__(
        self,
        request: PromptRequest,
        device: Device,
        route: Route,
        bracket: Bracket | GroupBracket,
        clock: Clock,
        arrival: Arrival,
        *,
        served: bool = False,
    ) -> None:
        self.device = device
        self._request = request
        self._route = route
        self._bracket = bracket
        self._clock = clock
        self._arrival = arrival
        self._served = served
        self._delay_s = 0.0
        self._queued_s = 0.0
        self._waited = False
        self._computed = False
        self._tokens = 0
        self._ttft_s: float | None = None

    def begin(self, queued_s: float) -> None:
        """The engine gets the request now, whose times count from here; *queued_s* it waited for its turn before."""
        self._delay_s = self._clock.monotonic() - self._arrival.monotonic_s
        self._queued_s = queued_s
        self._waited = False
        self._bracket.open()

    def follow(self, event: StageEvent | TokenEvent) -> StageEvent | TokenEvent:
        """Take note of *event*; gives it as the client sees it.

        What lies before the prefill (queue, loading) is left out of energy and conditions.
        """
        if isinstance(event, TokenEvent) or event.stage is Stage.PREFILL:
            self._computed = True
        if isinstance(event, TokenEvent):
            event = TokenEvent(event.text, event.tokens, event.elapsed_s + self._delay_s)
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
        return event

    def abandon(self) -> None:
        """End without a record: it never came to the device, whose energy the others share without it."""
        self._bracket.abandon()

    async def close(self, outcome: Generation | FinishReason, error: str | None = None) -> InferenceRecord:
        """The record: of the engine's own *outcome*, or of what was seen when it broke off before there was one.

        A request that the device never began with has used no energy and seen no conditions.
        """
        # What broke off has not told its part of the worker's steps, but took part in all of them; a server's are its own.
        told = outcome.share is not None if isinstance(outcome, Generation) else not self._served
        if isinstance(outcome, Generation):
            timing = outcome.timing.after(self._delay_s, self._queued_s)
        else:
            total_s = self._clock.monotonic() - self._arrival.monotonic_s
            timing = Timing(ttft_s=self._ttft_s, total_s=total_s)
            outcome = Generation(outcome, TokenCounts(completion=self._tokens), timing)
        energy, conditions = None, Conditions()
        if self._computed:
            energy, conditions = await self._bracket.close(outcome.tokens.completion, outcome.share, told=told)
        else:
            self._bracket.abandon()
        return InferenceRecord(
            id=uuid.uuid4().hex,
            started_at=self._arrival.at,
            model=self._request.model,
            device=self.device.id,
            device_key=self.device.key,
            route=self._route,
            tokens=outcome.tokens,
            timing=timing,
            energy=energy,
            conditions=conditions,
            finish_reason=outcome.finish_reason,
            dtype=outcome.dtype,
            error=error,
        )
