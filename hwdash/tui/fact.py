"""What the detail pane says about a device, in words, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from hwdash.core.format import absent_text, bytes_text, clock_text, rate_text, seconds_text
from hwdash.core.health import HealthState
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, wrapped
from hwdash.tui.row import Row, state_words


class Fact(NamedTuple):
    """One labelled statement; ``style`` is that of the words."""

    label: str
    words: str
    style: str = "text"


_LABEL_WIDTH = 9


def facts(row: Row) -> Iterator[Fact]:
    """Everything there is to say about the device of *row*, in order."""
    status, device = row.status, row.status.device
    state = status.health.state
    yield Fact("state", state_words(row), "muted" if state is HealthState.OK and row.excluded else state.value)
    for reason in status.health.reasons:
        yield Fact("", reason)
    yield from _throttle(row)
    if row.rank is not None:
        yield Fact("rank", f"{row.rank}, score {row.score:.2f}: {', '.join(row.why)}")
    elif row.excluded:
        yield Fact("excluded", ", ".join(row.why), "warm")
    if (last := status.last_request) is not None:
        parts = [last.model]
        parts += [] if last.tokens_per_s is None else [rate_text(last.tokens_per_s)]
        parts += [] if last.ttft_s is None else [f"first token {seconds_text(last.ttft_s)}"]
        yield Fact("last", ", ".join(parts))
    for pool in status.pools:
        free, total = bytes_text(pool.free_bytes), bytes_text(pool.total_bytes)
        yield Fact("memory", f"{pool.id}: {free} free of {total}")
    yield from _limits(row)
    yield Fact("device", f"{device.name} ({device.vendor})")
    yield from _identity(row)
    yield from _absent(row)


def _throttle(row: Row) -> Iterator[Fact]:
    for item in row.status.limiting:
        duty = "" if item.duty is None else f", {item.duty:.0%} of the time"
        detail = f" ({item.detail})" if item.detail else ""
        now = "now" if item.active else "not now"
        yield Fact("throttle", f"{item.reason.words}{detail}: {now}{duty}", "throttled" if item.active else "text")


def _limits(row: Row) -> Iterator[Fact]:
    limits = row.status.device.limits
    parts = []
    if limits.power_w is not None:
        parts.append(f"{limits.power_w:.0f} W")
    if limits.clock_hz is not None:
        parts.append(clock_text(limits.clock_hz))
    if limits.temperature_slowdown_c is not None:
        parts.append(f"slows down at {limits.temperature_slowdown_c:.0f} °C")
    if limits.temperature_shutdown_c is not None:
        parts.append(f"shuts down at {limits.temperature_shutdown_c:.0f} °C")
    if parts:
        yield Fact("limits", ", ".join(parts))


def _identity(row: Row) -> Iterator[Fact]:
    device = row.status.device
    able = device.capabilities
    if able.dtypes:
        yield Fact("computes", ", ".join(able.dtypes))
    parts = []
    if able.compute_capability:
        parts.append(f"compute capability {able.compute_capability}")
    if able.compute_units:
        parts.append(f"{able.compute_units} units")
    if parts:
        yield Fact("", ", ".join(parts))
    if not able.inference:
        yield Fact("", "cannot run the built-in engine")
    if device.driver:
        yield Fact("driver", f"{device.driver}, read by {device.source}")
    if device.pci:
        yield Fact("pci", device.pci)
    yield Fact("key", device.key, "muted")


def _absent(row: Row) -> Iterator[Fact]:
    by_reason: dict[Absent, list[str]] = {}
    for name, reading in row.status.readings.items():
        if isinstance(reading, Absent):
            by_reason.setdefault(reading, []).append(METRICS[name].title if name in METRICS else name)
    for reason, names in by_reason.items():
        yield Fact("n/a", f"{', '.join(names)}: {absent_text(reason)}", "muted")


def fact_lines(row: Row, width: int, glyphs: Glyphs) -> list[Line]:
    """The facts as lines of at most *width* cells, wrapped at blanks."""
    return laid_out(facts(row), width, glyphs)


def laid_out(found: Iterable[Fact], width: int, glyphs: Glyphs) -> list[Line]:
    """Facts as lines of at most *width* cells: a column of labels, the words wrapped at blanks."""
    room = max(8, width - _LABEL_WIDTH - 1)
    return [line for fact in found for line in _lines(fact, room, glyphs)]


@lru_cache(maxsize=512)
def _lines(fact: Fact, room: int, glyphs: Glyphs) -> tuple[Line, ...]:
    """One fact. Most facts stand still from tick to tick."""
    label, words, style = fact
    return tuple(
        (Span(f"{fit(label if number == 0 else '', _LABEL_WIDTH, right=True)} ", "label"), Span(part, style))
        for number, part in enumerate(wrapped(glyphs.text(words.replace("°C", glyphs.degrees)), room))
    )
