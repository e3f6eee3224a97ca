"""A running prompt in words and figures: pure functions over its events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwdash.core.errors import HwdashError, UnknownModel
from hwdash.core.format import energy_figures, rate_text, seconds_text
from hwdash.core.inference import FinishReason, InferenceRecord, PromptEvent, Stage, StageEvent, TokenEvent
from hwdash.core.text import sanitise_line
from hwdash.core.throttle import reason_words
from hwdash.tui.answer import Kind
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span

_STAGES = {
    Stage.QUEUED: "queued",
    Stage.STARTING: "starting worker",
    Stage.LOADING: "loading model",
    Stage.PREFILL: "reading the prompt",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a prompt is. ``first_s`` and ``last_s`` are the first and the newest token's seconds since arrival."""

    device: str
    stage: Stage | None = None
    detail: str = ""
    share: float | None = None
    tokens: int = 0
    first_s: float | None = None
    last_s: float | None = None

    def after(self, event: PromptEvent) -> Progress:
        """The progress once *event* came in."""
        if isinstance(event, StageEvent):
            device = event.device or self.device
            return replace(self, device=device, stage=event.stage, detail=event.detail, share=event.progress)
        if isinstance(event, TokenEvent):
            first = event.elapsed_s if self.first_s is None else self.first_s
            return replace(self, stage=None, tokens=event.tokens, first_s=first, last_s=event.elapsed_s)
        return self

    @property
    def tokens_per_s(self) -> float | None:
        """The decode speed so far, None before the second token."""
        if self.first_s is None or self.last_s is None or self.tokens < 2 or self.last_s <= self.first_s:
            return None
        return (self.tokens - 1) / (self.last_s - self.first_s)


def progress_line(progress: Progress, waited_s: float, glyphs: Glyphs) -> Line:
    """The live status. *waited_s* is the whole time since the prompt was sent."""
    dot = Span(f" {glyphs.dot} ", "faint")
    spans = [Span(" "), Span(sanitise_line(progress.device, 20), "strong"), dot]
    if progress.first_s is None:
        words = _STAGES[progress.stage] if progress.stage else "sending"
        if progress.share is not None:
            words += f" {progress.share:.0%}"
        spans += [Span(words, "warm"), dot, Span(f"{waited_s:.0f} s", "label")]
        if progress.detail:
            spans += [dot, Span(sanitise_line(progress.detail), "label")]
        return tuple(spans)
    spans += [Span("TTFT ", "label"), Span(seconds_text(progress.first_s)), dot]
    spans += [Span(f"{progress.tokens}"), Span(" tokens", "label")]
    if progress.tokens_per_s is not None:
        spans += [dot, Span(rate_text(progress.tokens_per_s), "ok")]
    return tuple(spans)


def record_notes(record: InferenceRecord, glyphs: Glyphs) -> list[tuple[Kind, str]]:
    """What a finished prompt leaves in the transcript: figures, throttling seen, and why that device."""
    # A figure is not torn from its unit at the end of a row.
    figures = (part.replace(" ", "\N{NO-BREAK SPACE}") for part in _figures(record))
    notes = [(Kind.NOTE, f" {glyphs.dot} ".join(figures))]
    if record.finish_reason is FinishReason.ERROR:
        notes.insert(0, (Kind.PROBLEM, record.error or "the worker failed; the daemon's log has the reason"))
    if record.conditions.throttle:
        words = ", ".join(dict.fromkeys(map(reason_words, record.conditions.throttle)))
        notes.append((Kind.PROBLEM, f"throttled while it ran: {words}"))
    route, reasons = record.route, list(record.route.why)
    if route.fallback_from:
        begins = f"{route.fallback_from} failed: "
        told = [reason.removeprefix(begins) for reason in reasons if reason.startswith(begins)]
        reasons = [reason for reason in reasons if not reason.startswith(begins)]
        words = "; ".join(told) or f"it failed; {record.device} took over"
        notes.append((Kind.PROBLEM, f"fell back from {route.fallback_from}: {words}"))
    if reasons:
        notes.append((Kind.NOTE, f"why {record.device}: {'; '.join(reasons)}"))
    return notes


def _figures(record: InferenceRecord) -> list[str]:
    timing, tokens = record.timing, record.tokens.completion
    reason = {
        FinishReason.STOP: "finished",
        FinishReason.LENGTH: "cut at the token limit",
        FinishReason.CANCELLED: "cancelled",
        FinishReason.ERROR: "failed",
    }[record.finish_reason]
    parts = [reason, f"{tokens} token{'' if tokens == 1 else 's'}"]
    if timing.ttft_s is not None:
        parts.append(f"TTFT {seconds_text(timing.ttft_s)}")
    if timing.tokens_per_s is not None:
        parts.append(rate_text(timing.tokens_per_s))
    if timing.itl_p50_s is not None:
        tail = f", p99 {seconds_text(timing.itl_p99_s)}" if timing.itl_p99_s is not None else ""
        parts.append(f"ITL p50 {seconds_text(timing.itl_p50_s)}{tail}")
    if timing.cold_start_s is not None:
        parts.append(f"cold start {seconds_text(timing.cold_start_s)}")
    if record.energy is not None:
        parts.append(energy_figures(record.energy))
    if record.dtype:
        parts.append(record.dtype)
    return parts


def error_words(error: HwdashError, model: str) -> str:
    """One line that names what is wrong and what to do."""
    words = sanitise_line(error.message, 400)
    if isinstance(error, UnknownModel) and "models pull" not in words:
        words += f"; fetch it with: hwdash models pull {sanitise_line(model)}"
    return words
