"""Numbers for people: short, with their unit, absent said as such. Pure functions, shared by all faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from hwdash.core.inference import Energy
from hwdash.core.metric import METRICS, Unit
from hwdash.core.ranking import Expectation
from hwdash.core.reading import Absent, Reading, is_present

NOT_AVAILABLE = "n/a"

_ABSENT_WORDS = {
    Absent.NOT_SUPPORTED: "not supported",
    Absent.NO_PERMISSION: "no permission",
    Absent.DEVICE_LOST: "device lost",
    Absent.TIMED_OUT: "timed out",
    Absent.FIRST_SAMPLE: "next sample",
    Absent.SUSPENDED: "suspended",
    Absent.DRIVER_MISMATCH: "driver mismatch",
    Absent.BAD_VALUE: "bad value",
    Absent.ERROR: "error",
}


def bytes_text(value: float) -> str:
    """Bytes in binary units with three significant figures: ``512 B``, ``3.42 GiB``, ``140 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5 or unit == "TiB":
            break
        value /= 1024
    return f"{_three_figures(value) if unit != 'B' else f'{value:.0f}'} {unit}"


def clock_text(hertz: float) -> str:
    """A clock in MHz: ``1980 MHz``."""
    return f"{hertz / 1e6:.0f} MHz"


def cut_percent(ratio: float, digits: int) -> float:
    """A share in per cent, cut after *digits* and not rounded: 0.99999 is 99.99, and 57 of 100 are 57.

    Shares of up to a hundred thousand are told apart from what is whole; below that lies what floats add.
    """
    scale = 10.0**digits
    return math.floor(round(ratio * 100 * scale, 5)) / scale


def seconds_text(seconds: float) -> str:
    """A latency: ``840 µs``, ``42.1 ms``, ``1.24 s``, ``95 s``."""
    if abs(seconds) < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if abs(seconds) < 0.9995:
        return f"{_three_figures(seconds * 1e3)} ms"
    return f"{_three_figures(seconds)} s"


def duration_text(seconds: float) -> str:
    """A stretch of time in its two largest units: ``38 s``, ``2 min 5 s``, ``3 h 12 min``, ``4 d 2 h``."""
    whole = max(0, round(seconds))
    for size, unit, below, below_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {below_unit}" if rest else "")
    return f"{whole} s"


def rate_text(tokens_per_s: float) -> str:
    """A decode speed with three significant figures: ``42.3 tok/s``."""
    return f"{_three_figures(tokens_per_s)} tok/s"


def energy_text(joules: float) -> str:
    """An energy with three significant figures: ``12.3 J``, ``1.20 kJ``."""
    return f"{_three_figures(joules)} J" if abs(joules) < 999.5 else f"{_three_figures(joules / 1000)} kJ"


def joules_per_token_text(joules: float) -> str:
    """Energy of one token with three significant figures: ``0.19 J/token``, ``42.0 mJ/token``."""
    return f"{_three_figures(joules * 1e3)} mJ/token" if abs(joules) < 0.0995 else f"{energy_text(joules)}/token"


def energy_figures(energy: Energy) -> str:
    """The energy of a request: ``12.3 J, 0.19 J/token (37% of the device's 33.2 J; 4.10 J idle)``."""
    joules, share = energy.joules, energy.share
    each = "" if energy.joules_per_token is None else f", {joules_per_token_text(energy.joules_per_token)}"
    scope = energy.scope
    if share is not None and 0.0 < share < 0.995:
        whose = f"{scope}'" if scope.endswith("s") else f"{scope}'s"
        scope = f"{_percent(share)} of the {whose} {energy_text(joules / share)}"
    idle = "" if energy.idle_joules is None else f"; {energy_text(energy.idle_joules)} idle"
    return f"{energy_text(joules)}{each} ({scope}{idle})"


def expectation_basis(expected: Expectation | None) -> str:
    """What *expected* rests on: ``measured, 12 answers, ±8%``, or ``estimated``; empty where nothing is expected."""
    if expected is None or (expected.ttft_s is None and expected.tokens_per_s is None):
        return ""
    if not expected.measured:
        return "estimated"
    spread = "" if expected.spread is None else f", ±{expected.spread:.0%}"
    return f"measured, {expected.samples} answer{'' if expected.samples == 1 else 's'}{spread}"


def absent_text(reason: Absent) -> str:
    """Why a value is absent, in words."""
    return _ABSENT_WORDS[reason]


def reading_text(metric: str, reading: Reading | None) -> str:
    """The reading of *metric* with its unit; ``n/a`` where there is no number (`absent_text` has the reason)."""
    return _TEXTS[METRICS[metric].unit](reading) if is_present(reading) else NOT_AVAILABLE


_TEXTS: Mapping[Unit, Callable[[float], str]] = MappingProxyType(
    {
        Unit.RATIO: "{:.0%}".format,
        Unit.BYTES: bytes_text,
        Unit.CELSIUS: "{:.0f} °C".format,
        Unit.WATT: lambda value: f"{value:.0f} W" if abs(value) >= 9.95 else f"{value:.1f} W",
        Unit.JOULE: energy_text,
        Unit.HERTZ: clock_text,
        Unit.RPM: "{:.0f} rpm".format,
        Unit.BYTES_PER_SECOND: lambda value: f"{bytes_text(value)}/s",
        Unit.LOAD: "{:.2f}".format,
        Unit.COUNT: "{:.0f}".format,
        Unit.VOLT: "{:.3f} V".format,
        Unit.AMPERE: "{:.1f} A".format,
    }
)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"


def _three_figures(value: float) -> str:
    size = abs(value)
    return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.0f}"
