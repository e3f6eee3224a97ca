"""Where a prompt goes and how it is sampled: the choices, and their words. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwdash.core.format import bytes_text, seconds_text
from hwdash.core.inference import AUTO, PromptRequest
from hwdash.core.model import ModelInfo
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.text import sanitise_line
from hwdash.tui.choice import Entry
from hwdash.tui.cycle import after
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, line_width

_LIMITS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
_FRESH = PromptRequest((), "")


@dataclass(frozen=True, slots=True)
class Sampling:
    """The settings of the next prompt."""

    max_tokens: int = _FRESH.max_tokens
    temperature: float = _FRESH.temperature

    def with_next_limit(self) -> Sampling:
        """The next token limit, around the end."""
        return replace(self, max_tokens=after(_LIMITS, self.max_tokens))

    def with_next_temperature(self) -> Sampling:
        """The next temperature, around the end."""
        return replace(self, temperature=after(_TEMPERATURES, self.temperature))


def best_device(snapshot: Snapshot | None) -> str | None:
    """The id of the device that automatic choice would take now, None when unknown."""
    ranking = snapshot.ranking if snapshot else None
    return ranking.ranked[0].device if ranking and ranking.ranked else None


def setting_line(
    snapshot: Snapshot | None, device: str, model: str, sampling: Sampling, glyphs: Glyphs, width: int
) -> Line:
    """Device with its state and free memory, model, limit and temperature; on narrow screens only the first of them."""
    named = best_device(snapshot) if device == AUTO else device
    spans = [Span(" to ", "label"), Span(device, "strong")]
    if device == AUTO:
        spans += [Span(f" {glyphs.flow} {named}" if named else " (no suitable device now)", "label")]
    if (status := _find(snapshot, named)) is not None:
        state = status.health.state
        spans += [Span(" "), Span(state.value, state.value), Span(f" {_free(status)}", "label")]
    rest = [
        [Span("  model ", "label"), Span(sanitise_line(model, 60))],
        [Span("  max ", "label"), Span(str(sampling.max_tokens))],
        [Span("  temp ", "label"), Span(f"{sampling.temperature:g}")],
    ]
    for part in rest:
        if line_width((*spans, *part)) <= width:
            spans += part
    return tuple(spans)


def device_entries(snapshot: Snapshot | None, glyphs: Glyphs) -> list[Entry]:
    """Automatic choice, then every device that can run a model: state, free memory, last time to first token, name."""
    best = best_device(snapshot)
    words = f"the best by ranking, now {best}" if best else "the best by ranking; none is suitable now"
    entries = [Entry(AUTO, (Span(fit(AUTO, 7), "strong"), Span(words, "label")))]
    for status in snapshot.devices if snapshot else ():
        if not status.device.capabilities.inference:
            continue
        device, state = status.device, status.health.state
        last = status.last_request
        ttft = f"TTFT {seconds_text(last.ttft_s)}" if last and last.ttft_s is not None else ""
        spans = (
            Span(fit(device.id, 7, ellipsis=glyphs.ellipsis), "strong"),
            Span(fit(state.value, 10), state.value),
            Span(fit(_free(status), 15), "text"),
            Span(fit(ttft, 14), "label"),
            Span(device.name, "label"),
        )
        entries.append(Entry(device.id, spans))
    return entries


def model_entries(models: Sequence[ModelInfo], current: str) -> list[Entry]:
    """Every model of the store, *current* also when it is not in there."""
    entries = [
        Entry(
            model.name,
            (
                Span(fit(sanitise_line(model.name), 40), "strong"),
                Span(fit(bytes_text(model.size_bytes), 10, right=True), "text"),
                Span("" if model.ready else "  not complete: pull it again", "warm"),
            ),
        )
        for model in models
    ]
    if all(entry.value != current for entry in entries):
        name = sanitise_line(current)
        words = f"  not pulled: hwdash models pull {name}"
        entries.insert(0, Entry(current, (Span(name, "strong"), Span(words, "warm"))))
    return entries


def _find(snapshot: Snapshot | None, name: str | None) -> DeviceStatus | None:
    devices = snapshot.devices if snapshot else ()
    return next((status for status in devices if name in (status.device.id, status.device.key)), None)


def _free(status: DeviceStatus) -> str:
    pool = status.largest_pool
    return f"{bytes_text(pool.free_bytes)} free" if pool is not None else "memory unknown"
