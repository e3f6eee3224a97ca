"""The cells of the device table: one pure function a column, from a row to spans of a given width."""

from __future__ import annotations

from rich.cells import cell_len

from hwdash.core.format import NOT_AVAILABLE, seconds_text
from hwdash.core.health import HOT_MARGIN_C, WARM_MARGIN_C, HealthState
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit
from hwdash.tui.row import Row, state_words

_GIB = 1024.0**3


def bar(share: float | None, width: int, style: str, glyphs: Glyphs) -> Line:
    """A bar of *width* cells filled to *share* (0 to 1), in steps coarse enough to stand still; blank when None."""
    if share is None:
        return (Span(" " * width),)
    steps = len(glyphs.partial_bars) + 1
    units = round(min(max(share, 0.0), 1.0) * width * steps)
    if share > 0 and units == 0:
        units = 1
    full, part = divmod(units, steps)
    filled = glyphs.bar_full * full + (glyphs.partial_bars[part - 1] if part else "")
    return (Span(filled, style), Span(glyphs.bar_empty * (width - len(filled)), "bar-back"))


def _number(text: str | None, width: int, style: str = "text") -> Line:
    if text is None:
        return (Span(fit(NOT_AVAILABLE, width, right=True), "faint"),)
    return (Span(fit(text, width, right=True), style),)


def rank(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The place in the ranking; a dash for a device that is excluded."""
    return _number("-" if row.rank is None else str(row.rank), width, "label")


def identity(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The short id; that of a partition hangs below the one of its device."""
    words = f"{glyphs.branch}{row.status.device.id}" if row.parent else row.status.device.id
    return (Span(fit(words, width, ellipsis=glyphs.ellipsis), "strong"),)


def name(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The product name, without the vendor in front where both fit no more."""
    device = row.status.device
    text = device.name
    if cell_len(text) > width:
        text = text.removeprefix(f"{device.vendor} ")
    return (Span(fit(text, width, ellipsis=glyphs.ellipsis), "muted"),)


def utilisation(row: Row, width: int, glyphs: Glyphs) -> Line:
    """A bar where there is room, and the percentage."""
    share = row.status.number("utilization")
    figure = _number(None if share is None else f"{share:.0%}", 4)
    return figure if width < 8 else (*bar(share, width - 5, "bar", glyphs), Span(" "), *figure)


def bandwidth(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The share of its memory's bandwidth that the device uses."""
    return _share(row, "memory_bandwidth_utilization", width)


def tensor(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The share of time in which its tensor cores worked."""
    return _share(row, "tensor_utilization", width)


def _share(row: Row, metric: str, width: int) -> Line:
    if metric not in row.status.readings:
        return (Span(" " * width),)
    share = row.status.number(metric)
    return _number(None if share is None else f"{share:.0%}", width)


def memory(row: Row, width: int, glyphs: Glyphs) -> Line:
    """A bar where there is room, and used of total in GiB."""
    used, total = row.memory
    figure = _number(None if used is None else _gib_of(used, total), 9)
    return figure if width < 13 else (*bar(row.memory_share, width - 10, "memory", glyphs), Span(" "), *figure)


def _gib_of(used: float, total: float | None) -> str:
    return _gib(used) if total is None else f"{_gib(used)}/{_gib(total)}"


def _gib(value: float) -> str:
    gib = value / _GIB
    return f"{gib:.1f}" if gib < 99.95 else f"{gib:.0f}"


def temperature(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Whole degrees Celsius."""
    value = row.status.number("temperature_c")
    return _number(None if value is None else f"{value:.0f}", width, _heat(row))


def margin(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Degrees left to the slowdown threshold."""
    value = row.status.number("temperature_margin_c")
    return _number(None if value is None else f"{value:.0f}", width, _heat(row))


def _heat(row: Row) -> str:
    left = row.status.number("temperature_margin_c")
    if left is None or left > WARM_MARGIN_C:
        return "text"
    return "throttled" if left <= HOT_MARGIN_C else "warm"


def power(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Watts of the limit."""
    value, limit = row.status.number("power_w"), row.status.device.limits.power_w
    if value is None:
        return _number(None, width)
    return _number(f"{value:.0f}" if limit is None else f"{value:.0f}/{limit:.0f}", width)


def clock(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The clock: MHz of the maximum, or where that is too wide its share of the maximum."""
    value, limit = row.status.number("clock_hz"), row.status.device.limits.clock_hz
    if value is None:
        return _number(None, width)
    if width >= 9:
        return _number(f"{value / 1e6:.0f}" if limit is None else f"{value / 1e6:.0f}/{limit / 1e6:.0f}", width)
    return _number(f"{value / 1e9:.1f}G" if not limit else f"{value / limit:.0%}", width)


def state(row: Row, width: int, glyphs: Glyphs) -> Line:
    """The health badge in words."""
    health = row.status.health.state
    style = "muted" if health is HealthState.OK and (row.excluded or row.status.asleep) else health.value
    words = state_words(row).replace("°C", glyphs.degrees)
    if cell_len(words) > width and health is HealthState.THROTTLED:
        words = state_words(row, short=True)
    words = fit(words, min(width, cell_len(words)), ellipsis=glyphs.ellipsis)
    return (Span(words, style),)


def speed(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Tokens per second of the last request; blank when there was none."""
    last = row.status.last_request
    if last is None:
        return (Span(" " * width),)
    value = last.tokens_per_s
    return _number(None if value is None else f"{value:.0f}" if value >= 99.95 else f"{value:.1f}", width)


def first_token(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Time to first token of the last request; blank when there was none."""
    last = row.status.last_request
    if last is None:
        return (Span(" " * width),)
    return _number(None if last.ttft_s is None else seconds_text(last.ttft_s), width)


def why(row: Row, width: int, glyphs: Glyphs) -> Line:
    """Why the device stands where it does."""
    return (Span(fit(", ".join(row.why), width, ellipsis=glyphs.ellipsis), "muted"),)
