"""The report of a soak as text of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from hwdash.cli.output import table_text
from hwdash.core.format import clock_text, duration_text, energy_text
from hwdash.core.measurement import Load
from hwdash.core.soak import SoakHistory, SoakPhase, SoakReport, SoakSample
from hwdash.core.soak_report import rate_words
from hwdash.core.throttle import reason_words

_COLUMNS = 80
_CHART_COLUMNS = 50
_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"
_PLAIN = str.maketrans({"→": "->", "·": "-", "–": "-", "°": "", "±": "+-", "…": "...", "µ": "u", "×": "x"})
_UNKNOWN = "n/a"


def report_text(report: SoakReport, plain: bool) -> str:
    """Verdict, phases, reasons, curves and energy; *plain*: in ASCII."""
    parts = [
        _wrapped(_written(_title(report), plain)),
        _wrapped(_written(report.verdict, plain)),
        _phases(report),
        "\n".join(_throttling(report)),
        "\n".join(_curves(report, _ASCII if plain else _BLOCKS)),
        _wrapped("; ".join(_facts(report))),
    ]
    return _written("\n\n".join(part for part in parts if part), plain)


def history_text(history: SoakHistory, plain: bool) -> str:
    """Earlier soaks, a line or two each, oldest first."""
    if not history.reports:
        return "no soak yet; start one with: hwdash soak --device ID"
    lines = []
    for report in history.reports:
        lines.append(f"{report.started_at.astimezone():%Y-%m-%d %H:%M}  {_title(report)}")
        lines.append(_wrapped(_written(report.verdict, plain), indent="  "))
    return _written("\n".join(lines), plain)


def _written(text: str, plain: bool) -> str:
    return text.translate(_PLAIN).encode("ascii", "replace").decode() if plain else text


def _title(report: SoakReport) -> str:
    parts = [f"{report.device} {report.device_name}", report.load]
    if report.load == Load.DECODE:
        parts += [report.model, f"batch {report.batch}"]
    return " · ".join([*parts, *([report.dtype] if report.dtype else []), duration_text(report.total_s)])


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _COLUMNS, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _phases(report: SoakReport) -> str:
    onset = report.onset
    named = (
        ("start", report.start),
        ("before", None if onset is None else onset.before),
        ("after", None if onset is None else onset.after),
        ("steady", report.steady),
    )
    rows = [_row(name, phase, report.unit) for name, phase in named if phase is not None]
    if not rows:
        return ""
    return table_text(("phase", "seconds", "rate", "temp", "power", "clock"), rows, frozenset(range(1, 6)))


def _row(name: str, phase: SoakPhase, unit: str) -> tuple[str, ...]:
    return (
        name,
        f"{phase.from_s:.0f}–{phase.to_s:.0f}",
        _UNKNOWN if phase.rate is None else rate_words(phase.rate, unit),
        _UNKNOWN if phase.temperature_c is None else f"{phase.temperature_c:.0f} °C",
        _UNKNOWN if phase.power_w is None else f"{phase.power_w:.0f} W",
        _UNKNOWN if phase.clock_hz is None else clock_text(phase.clock_hz),
    )


def _throttling(report: SoakReport) -> list[str]:
    return [f"{reason_words(reason)}: {share:.0%} of the time" for reason, share in report.duty]


def _curves(report: SoakReport, levels: str) -> list[str]:
    """A line each of temperature, power, clock and rate over the time of the soak, with the least and the most."""
    readers: Sequence[tuple[str, Callable[[SoakSample], float | None], Callable[[float], str]]] = (
        ("temp", lambda sample: sample.temperature_c, "{:.0f} °C".format),
        ("power", lambda sample: sample.power_w, "{:.0f} W".format),
        ("clock", lambda sample: sample.clock_hz, clock_text),
        ("rate", lambda sample: sample.rate, lambda rate: rate_words(rate, report.unit)),
    )
    lines = []
    for name, read, words in readers:
        known = [(sample.at_s, value) for sample in report.samples if (value := read(sample)) is not None]
        if len(known) < 2:
            continue
        least, most = min(value for _, value in known), max(value for _, value in known)
        curve = _curve(known, report.samples[-1].at_s, levels)
        first, second = words(least), words(most)
        number, _, unit = first.rpartition(" ")
        spread = second if first == second else f"{number if second.endswith(' ' + unit) else first} to {second}"
        lines.append(f"{name:<5} {curve} {spread}")
    return lines


def _curve(known: Sequence[tuple[float, float]], until_s: float, levels: str) -> str:
    """*known*, times and values, as characters: each the mean over its stretch of time, blank where there is none."""
    columns = min(_CHART_COLUMNS, len(known))
    sums, counts = [0.0] * columns, [0] * columns
    for at_s, value in known:
        place = min(columns - 1, int(at_s / until_s * columns)) if until_s > 0 else 0
        sums[place] += value
        counts[place] += 1
    means = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    present = [mean for mean in means if mean is not None]
    least, span = min(present), max(present) - min(present)
    top = len(levels) - 1
    return "".join(
        " " if mean is None else levels[round((mean - least) / span * top) if span > 0 else top // 2] for mean in means
    )


def _facts(report: SoakReport) -> list[str]:
    facts = []
    if report.joules is not None:
        facts.append(f"energy {energy_text(report.joules)}")
    limit = report.max_temperature_c
    facts.append("no temperature limit is known" if limit is None else f"temperature limit {limit:.0f} °C")
    return facts
