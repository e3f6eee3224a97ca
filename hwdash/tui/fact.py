"""What the detail pane says about a device, in words, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from hwdash.core.device import Device, Runtime
from hwdash.core.format import absent_text, clock_text, rate_text, seconds_text
from hwdash.core.health import HealthState
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent
from hwdash.core.sample import FaultLevel
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.trial import dtype_words
from hwdash.tui.gauge import Fact, errors, gauges, pools, programs
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, wrapped
from hwdash.tui.row import Row, state_words

_LABEL_WIDTH = 9
_FAULT_STYLES = {FaultLevel.WARNING: "warm", FaultLevel.STALLED: "stale", FaultLevel.FAILED: "lost"}


def facts(row: Row, probes: Iterable[Fact] = ()) -> Iterator[Fact]:
    """Everything there is to say about the device of *row*, in order; *probes* is what they told."""
    status, device = row.status, row.status.device
    yield from _state(row)
    yield from _throttle(status)
    if row.rank is not None:
        yield Fact("rank", f"{row.rank}, score {row.score:.2f}: {', '.join(row.why)}")
    elif row.excluded:
        yield Fact("excluded", ", ".join(row.why), "warm")
    if (last := status.last_request) is not None:
        parts = [last.model]
        parts += [] if last.tokens_per_s is None else [rate_text(last.tokens_per_s)]
        parts += [] if last.ttft_s is None else [f"first token {seconds_text(last.ttft_s)}"]
        yield Fact("last", ", ".join(parts))
    yield from probes
    yield from pools(status)
    yield from programs(status)
    yield from gauges(status)
    yield from errors(status)
    yield from _limits(device)
    yield Fact("device", f"{device.name} ({device.vendor})")
    yield from _family(row)
    yield from _identity(device)
    yield from _absent(status)


def _state(row: Row) -> Iterator[Fact]:
    status = row.status
    state = status.health.state
    calm = state is HealthState.OK and (row.excluded or status.asleep)
    words = state_words(row)
    yield Fact("state", words, "muted" if calm else state.value)
    for fault in status.faults:
        yield Fact("fault", fault.words, _FAULT_STYLES[fault.level])
    told = tuple(fault.words for fault in status.faults)
    for reason in status.health.reasons:
        if not (told and reason.endswith(told)) and reason != words:
            yield Fact("", reason)
    if status.health.suspected:
        yield Fact("", "suspected: no flag of the driver says so", "muted")


def _throttle(status: DeviceStatus) -> Iterator[Fact]:
    for item in status.limiting:
        duty = "" if item.duty is None else f", {item.duty:.0%} of the time"
        now = "now" if item.active else "not now"
        yield Fact("throttle", f"{item.words}: {now}{duty}", "throttled" if item.active else "text")
    counted = [
        f"{item.reason.words} {item.seconds:,.0f} s" for item in status.throttle if item.seconds and item.seconds >= 0.5
    ]
    if counted:
        yield Fact("so far", f"{', '.join(counted)} since driver start", "muted")


def _family(row: Row) -> Iterator[Fact]:
    if row.parent:
        yield Fact("part of", row.parent)
    if row.partitions:
        yield Fact("parts", ", ".join(row.partitions))


def _runtime(runtime: Runtime) -> str:
    if runtime.url:
        return f"the server at {runtime.url}"
    module = f", registered by {runtime.module}" if runtime.module else ""
    pinned = f", pinned by {runtime.visible_variable}" if runtime.visible_variable else ""
    return f"torch device {runtime.torch_device}{module}{pinned}"


def _limits(device: Device) -> Iterator[Fact]:
    limits = device.limits
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


def _identity(device: Device) -> Iterator[Fact]:
    able = device.capabilities
    if able.dtypes:
        yield Fact("computes", dtype_words(able.dtypes, able.tried))
    parts = []
    if able.compute_capability:
        parts.append(f"compute capability {able.compute_capability}")
    if able.compute_units:
        parts.append(f"{able.compute_units} units")
    if parts:
        yield Fact("", ", ".join(parts))
    if device.runtime is not None:
        yield Fact("runtime", _runtime(device.runtime))
    if not able.inference:
        yield Fact("", "cannot run the built-in engine")
    if device.driver:
        yield Fact("driver", f"{device.driver}, read by {device.source}")
    if device.firmware:
        yield Fact("firmware", device.firmware)
    if device.pci:
        yield Fact("address", device.pci)
    yield Fact("key", device.key, "muted")


def _absent(status: DeviceStatus) -> Iterator[Fact]:
    by_reason: dict[Absent, list[str]] = {}
    for name, reading in status.readings.items():
        if isinstance(reading, Absent):
            by_reason.setdefault(reading, []).append(METRICS[name].title if name in METRICS else name)
    if isinstance(status.processes, Absent):
        by_reason.setdefault(status.processes, []).append("programs")
    for reason, names in by_reason.items():
        yield Fact("n/a", f"{', '.join(names)}: {absent_text(reason)}", "muted")


def fact_lines(row: Row, width: int, glyphs: Glyphs, probes: Iterable[Fact] = ()) -> list[Line]:
    """The facts as lines of at most *width* cells, wrapped at blanks."""
    return laid_out(facts(row, probes), width, glyphs)


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
