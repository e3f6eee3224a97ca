"""From what tasks came to, to the figures of a bench. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.core.bench import DecodeFigure, PrefillFigure
from hwdash.core.measurement import Measured, Task
from hwdash.core.percentile import nearest_rank


def whole(parts: Sequence[Measured]) -> Measured:
    """All reports of one task as one: from its beginning to its end. There is one at least."""
    return Measured(
        parts[0].began_s,
        parts[-1].ended_s,
        tuple(step for part in parts for step in part.steps_s),
        sum(part.tokens for part in parts),
        sum(part.bytes for part in parts),
        sum(part.flops for part in parts),
        last=parts[-1].last,
        problem=next((part.problem for part in parts if part.problem), ""),
    )


def copy_rate(measured: Measured) -> float | None:
    """Bytes per second, read and written together, of the median copy; None where nothing was copied."""
    count = len(measured.steps_s)
    if not count or not measured.bytes:
        return None
    median_s = nearest_rank(sorted(measured.steps_s), 50)
    return measured.bytes / count / median_s if median_s > 0 else None


def prefill_figure(task: Task, measured: Measured) -> PrefillFigure | None:
    """The median time to the first token; None where no prompt was read."""
    if not measured.steps_s:
        return None
    ttft_s = nearest_rank(sorted(measured.steps_s), 50)
    return PrefillFigure(task.prompt_tokens, ttft_s, task.prompt_tokens / ttft_s) if ttft_s > 0 else None


def decode_figure(
    task: Task,
    measured: Measured,
    copy_bytes_per_s: float | None = None,
    joules_per_token: float | None = None,
    idle_joules_per_token: float | None = None,
) -> DecodeFigure | None:
    """Gaps between tokens, speed, and the share of *copy_bytes_per_s*; None where no token was counted."""
    steps = sorted(measured.steps_s)
    seconds = sum(steps)
    if not steps or seconds <= 0 or not measured.tokens:
        return None
    ratio = measured.bytes / seconds / copy_bytes_per_s if measured.bytes and copy_bytes_per_s else None
    return DecodeFigure(
        task.batch,
        nearest_rank(steps, 50),
        nearest_rank(steps, 99),
        measured.tokens / seconds,
        ratio,
        joules_per_token,
        idle_joules_per_token,
        task.new_tokens,
        task.prompt_tokens,
    )
