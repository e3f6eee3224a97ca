"""A prompt on its way to a device, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from hwdash.core.requirement import NO_REQUIREMENTS, Requirements

AUTO = "auto"
PROMPT, PROBE = "prompt", "probe"
"""Where a request comes from: somebody, or hwdash itself."""

MAX_PROMPT_BYTES = 2**20
"""The longest prompt, all messages together, in bytes of UTF-8."""
MAX_REQUEST_BYTES = 8 * 2**20
"""The longest request to the daemon: a prompt of `MAX_PROMPT_BYTES`, however it is escaped."""
MAX_TOKENS = 1_000_000
"""The longest answer that can be asked for."""
MAX_TEMPERATURE = 2.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What a user asks for.

    ``device`` is an id, a key or ``auto``. ``temperature`` 0 is greedy; ``seed`` None draws a fresh one.
    ``stop`` strings end the answer and are not part of it. ``template`` false sends the text of the messages to
    the model as it is, without the chat template. ``requirements`` are what the device must have, whether it is
    named or picked; the model that counts is the request's own. ``origin`` is `PROBE` for what hwdash itself asks:
    a worker that answers nothing else is as idle as before.
    """

    messages: tuple[Message, ...]
    model: str
    device: str = AUTO
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    template: bool = True
    requirements: Requirements = field(default=NO_REQUIREMENTS)
    origin: str = PROMPT


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


class Stage(StrEnum):
    """What a request waits for before its first token."""

    QUEUED = "queued"
    STARTING = "starting"
    LOADING = "loading"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class Route:
    """Which device was asked for and why this one answered, in words.

    ``fallback_from`` is the device that was tried first and failed before its first token; ``why`` tells of each.
    """

    requested: str
    why: tuple[str, ...] = ()
    fallback_from: str | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, measured in the daemon from the arrival of the request; None where there was nothing to measure.

    ``queue_s``: waiting for the worker's turn. ``cold_start_s``: starting the worker and loading the model, None when
    it was loaded. ``ttft_s``: arrival to first token. ``itl_*``: gaps between tokens. ``tokens_per_s``: decode speed,
    (tokens - 1) / (last token - first token).
    """

    queue_s: float | None = None
    cold_start_s: float | None = None
    ttft_s: float | None = None
    itl_p50_s: float | None = None
    itl_p99_s: float | None = None
    total_s: float | None = None
    tokens_per_s: float | None = None

    def after(self, delay_s: float, queued_s: float = 0.0) -> Timing:
        """The same as seen by who waited *delay_s* seconds before this began, *queued_s* of them in a queue."""
        return replace(
            self,
            queue_s=(self.queue_s or 0.0) + queued_s,
            ttft_s=None if self.ttft_s is None else self.ttft_s + delay_s,
            total_s=None if self.total_s is None else self.total_s + delay_s,
        )

    @property
    def warm_ttft_s(self) -> float | None:
        """Time to first token without queue and cold start: what the device needs once it is its turn and the model there."""
        if self.ttft_s is None:
            return None
        return max(0.0, self.ttft_s - (self.cold_start_s or 0.0) - (self.queue_s or 0.0))


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens read and made; ``prompt`` is None for a request that broke off before its engine told."""

    prompt: int | None = None
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy that the device's own counter showed for the request. ``scope`` says what was counted (``device``, ``package``).

    Where other requests ran at the same time, ``joules`` is the request's part: ``share`` of what the device took while
    it ran, by the steps that it took part in. ``share`` is None where the engine does not tell that: ``joules`` is then all
    that the device took, and ``scope`` ends with ``, shared``. ``idle_joules`` of them the device would have taken doing
    nothing; None where its idle power is not known.
    """

    joules: float
    scope: str
    joules_per_token: float | None = None
    share: float | None = None
    idle_joules: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the device went through while it answered: throttle reasons seen, hottest, slowest."""

    throttle: tuple[str, ...] = ()
    temperature_max_c: float | None = None
    clock_min_hz: float | None = None


@dataclass(frozen=True, slots=True)
class InferenceRecord:
    """Everything about one answered (or failed) prompt but its text.

    ``device`` is the short id of the day, ``device_key`` the stable key that history is stored under. ``error`` is
    the one-line message when ``finish_reason`` is ``error``. ``origin`` tells a user's prompt from a probe.
    """

    id: str
    started_at: datetime
    model: str
    device: str
    device_key: str
    route: Route
    tokens: TokenCounts
    timing: Timing
    conditions: Conditions
    finish_reason: FinishReason
    energy: Energy | None = None
    dtype: str | None = None
    error: str | None = None
    origin: str = PROMPT


@dataclass(frozen=True, slots=True)
class StageEvent:
    """The request entered *stage* on *device* (its id). ``detail`` is a sentence or empty; ``progress`` 0 to 1 or None."""

    stage: Stage
    device: str
    detail: str = ""
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A piece of the answer, safe for a terminal. ``tokens`` counts all tokens made so far, ``elapsed_s`` since arrival.

    ``text`` may be empty while a multi-byte character or a possible stop string is incomplete.
    """

    text: str
    tokens: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """The last event of a request: its record."""

    record: InferenceRecord


PromptEvent: TypeAlias = StageEvent | TokenEvent | FinishedEvent
"""What a client receives for a prompt: stages, then tokens, then one `FinishedEvent` (or an error instead of it)."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The engine's own account of a finished generation, before energy and conditions are added to it.

    ``share`` is the request's part of the device's work while it ran, None where the engine does not tell. ``digest`` is
    that of its tokens: the same tokens give the same one; empty where the engine does not tell.
    """

    finish_reason: FinishReason
    tokens: TokenCounts
    timing: Timing
    dtype: str | None = None
    share: float | None = None
    digest: str = ""


EngineEvent: TypeAlias = StageEvent | TokenEvent | Generation
"""What an engine yields for one request: stages, tokens, then exactly one `Generation`."""
