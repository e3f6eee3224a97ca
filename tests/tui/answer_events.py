"""Prompt events for the dashboard's tests and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.core.inference import (
    Conditions,
    Energy,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    Route,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from tests.tui.past import MODEL
from tests.tui.sample import START, gpu

WAITING: tuple[PromptEvent, ...] = (
    StageEvent(Stage.QUEUED, "gpu1"),
    StageEvent(Stage.STARTING, "gpu1"),
    StageEvent(Stage.LOADING, "gpu1", progress=0.4),
    StageEvent(Stage.PREFILL, "gpu1"),
)


def tokens(texts: Sequence[str], first_s: float = 0.041, gap_s: float = 0.012) -> list[PromptEvent]:
    return [TokenEvent(text, number, first_s + (number - 1) * gap_s) for number, text in enumerate(texts, start=1)]


def finished(
    count: int, reason: FinishReason = FinishReason.STOP, throttle: tuple[str, ...] = (), error: str | None = None
) -> FinishedEvent:
    return FinishedEvent(
        InferenceRecord(
            id="r1",
            started_at=START,
            model=MODEL,
            device="gpu1",
            device_key=gpu(1).key,
            route=Route("auto", ("140 GiB free", "no latency measured yet")),
            tokens=TokenCounts(12, count),
            timing=Timing(0.001, 3.2, 0.041, 0.0118, 0.0131, 1.2, 84.2),
            energy=Energy(12.3, "device", 0.19),
            conditions=Conditions(throttle, 54.0, 1395e6),
            finish_reason=reason,
            dtype="bf16",
            error=error,
        )
    )


TEXT = (
    "Throttling means that a device runs slower than it could, to stay within a limit of temperature or power.\n\n"
    "1. **Thermal**: the die reached the slowdown temperature.\n2. **Power**: the board reached its cap, "
    "and the clock falls until the power fits.\n\n冷却が足りないと、クロックが下がります。"
)


def answer(throttle: tuple[str, ...] = ("power_cap",)) -> list[PromptEvent]:
    words = [word + " " for word in TEXT.split(" ")]
    return [*WAITING, *tokens(words), finished(len(words), throttle=throttle)]
