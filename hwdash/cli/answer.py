"""A finished prompt in words: its figures, and why that device answered."""

from __future__ import annotations

from hwdash.core.format import energy_figures, rate_text, seconds_text
from hwdash.core.inference import InferenceRecord
from hwdash.core.throttle import reason_words


def figures_text(record: InferenceRecord) -> str:
    """The figures of a finished prompt in one line."""
    timing, parts = record.timing, [record.device, record.model, f"{record.tokens.completion} tokens"]
    if timing.cold_start_s is not None:
        parts.append(f"cold start {seconds_text(timing.cold_start_s)}")
    if timing.ttft_s is not None:
        parts.append(f"TTFT {seconds_text(timing.ttft_s)}")
    if timing.tokens_per_s is not None:
        parts.append(rate_text(timing.tokens_per_s))
    if timing.itl_p50_s is not None and timing.itl_p99_s is not None:
        parts.append(f"ITL {seconds_text(timing.itl_p50_s)} p50, {seconds_text(timing.itl_p99_s)} p99")
    if record.energy is not None:
        parts.append(energy_figures(record.energy))
    if record.conditions.throttle:
        parts.append("throttled: " + ", ".join(map(reason_words, record.conditions.throttle)))
    return " · ".join([*parts, str(record.finish_reason)])


def route_lines(record: InferenceRecord) -> list[str]:
    """Why that device answered, one line each: what it took over from, and the reasons."""
    route, lines = record.route, []
    if route.fallback_from is not None:
        lines.append(f"fell back from {route.fallback_from}, answered by {record.device}")
    if route.why:
        lines.append(f"why {record.device}: {'; '.join(route.why)}")
    return lines
