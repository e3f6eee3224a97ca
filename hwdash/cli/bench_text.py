"""The report of a bench as text of at most 80 columns. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from hwdash.cli.output import table_text
from hwdash.core.bench import BenchComparison, BenchHistory, BenchReport, DecodeFigure, DtypeFigures
from hwdash.core.format import bytes_text, clock_text, energy_text, seconds_text
from hwdash.core.inference import Conditions
from hwdash.core.measurement import LoadedModel
from hwdash.core.throttle import reason_words

_LABEL = 13
_INDENT = 2
_MODEL = 22
_NONE = "-"
_WHOSE = {"package": "whole package's", "devices": "devices' whole"}
"""Whose energy it is, by its scope."""


def report_text(report: BenchReport, width: int = 80) -> str:
    """Everything that a person wants to know of *report*."""
    started = report.started_at.astimezone()
    head = f"{report.device} {report.device_name}, {report.model}"
    lines = [
        *textwrap.wrap(head, width),
        f"{started:%Y-%m-%d %H:%M}, took {seconds_text(report.total_s)}",
        *textwrap.wrap(", ".join(f"{name} {version}" for name, version in report.versions), width),
    ]
    if report.copy_bytes_per_s is not None:
        words = f"memory copied at {_rate(report.copy_bytes_per_s)}, read and written together"
        lines += textwrap.wrap(words, width)
    for figures in report.dtypes:
        lines += ["", *_dtype_lines(figures, report, width)]
    return "\n".join([*lines, "", *_comparison_lines(report.comparisons, width)])


def history_text(history: BenchHistory) -> str:
    """One line for each precision of each report."""
    if not history.reports:
        return "no earlier bench; run one with: hwdash bench"
    header = ("WHEN", "DEVICE", "MODEL", "DTYPE", "ITL P50", "TOK/S", "AT MOST")
    rows = [
        (f"{report.started_at.astimezone():%m-%d %H:%M}", report.device, _short(report.model), *_summary(figures))
        for report in history.reports
        for figures in report.dtypes
    ]
    return table_text(header, rows, right=frozenset((4, 5, 6)))


def _short(model: str) -> str:
    return model if len(model) <= _MODEL else f"…{model[1 - _MODEL :]}"


def _summary(figures: DtypeFigures) -> tuple[str, ...]:
    """Of the smallest batch, and of the one that made the most tokens a second."""
    if not figures.decode:
        return figures.dtype, _NONE if figures.prefill else "failed", _NONE, _NONE
    one, most = figures.decode[0], max(figures.decode, key=lambda item: item.tokens_per_s)
    return (
        figures.dtype,
        seconds_text(one.itl_p50_s),
        _speed(one.tokens_per_s),
        f"{_speed(most.tokens_per_s)} (x{most.batch})",
    )


def _dtype_lines(figures: DtypeFigures, report: BenchReport, width: int) -> Iterator[str]:
    loaded = figures.loaded
    yield from textwrap.wrap(figures.dtype if loaded is None else _loaded_line(loaded), width)
    if loaded is not None:
        yield from _entry("cold start", _cold_start(loaded), width)
        yield from _entry("decoder", _decoder(loaded), width)
    yield from _indented(_prefill_table(figures))
    yield from _indented(_decode_table(figures.decode))
    if report.energy_scope is not None and any(item.joules_per_token is not None for item in figures.decode):
        whose = _WHOSE.get(report.energy_scope, "whole device's")
        idle = any(item.idle_joules_per_token is not None for item in figures.decode)
        yield from _entry("energy", f"the {whose}, by its own counter" + ("; net: without idle" if idle else ""), width)
    if seen := _conditions(figures.conditions):
        yield from _entry("seen", seen, width)
    if figures.problem:
        yield from _entry("problem", figures.problem, width)


def _loaded_line(loaded: LoadedModel) -> str:
    parameters = f"{loaded.parameters / 1e9:.2f} G" if loaded.parameters >= 1e9 else f"{loaded.parameters / 1e6:.0f} M"
    context = "" if loaded.context_length is None else f", context {loaded.context_length}"
    return f"{loaded.dtype}: {parameters} parameters, {bytes_text(loaded.memory_bytes)}{context}"


def _cold_start(loaded: LoadedModel) -> str:
    """Its steps, and their sum where all of them are known."""
    steps = {
        "process": loaded.start_s,
        "imports": loaded.import_s,
        "load": loaded.load_s,
        "first token": loaded.first_token_s,
    }
    known = {name: seconds for name, seconds in steps.items() if seconds is not None}
    if not known:
        return "not told"
    words = ", ".join(f"{name} {seconds_text(seconds)}" for name, seconds in known.items())
    return f"{words}: {seconds_text(sum(known.values()))}" if len(known) == len(steps) else words


def _decoder(loaded: LoadedModel) -> str:
    captured = "" if loaded.capture_s is None else f", captured in {seconds_text(loaded.capture_s)}"
    why = f": {'; '.join(loaded.choices)}" if loaded.choices else ""
    return f"{loaded.decoder or 'not told'}{captured}{why}"


def _prefill_table(figures: DtypeFigures) -> str:
    if not figures.prefill:
        return ""
    return table_text(
        ("PROMPT", "TTFT", "READ"),
        [
            (f"{item.prompt_tokens} tok", seconds_text(item.ttft_s), f"{_speed(item.tokens_per_s)} tok/s")
            for item in figures.prefill
        ],
        right=frozenset((0, 1, 2)),
    )


def _decode_table(figures: Sequence[DecodeFigure]) -> str:
    """A column is left out where no batch has a value for it."""
    if not figures:
        return ""
    columns: list[tuple[str, list[str]]] = [
        ("BATCH", [str(item.batch) for item in figures]),
        ("ITL P50", [seconds_text(item.itl_p50_s) for item in figures]),
        ("P99", [seconds_text(item.itl_p99_s) for item in figures]),
        ("TOK/S", [_speed(item.tokens_per_s) for item in figures]),
        ("BANDWIDTH", [_share(item.bandwidth_ratio) for item in figures]),
        ("PER TOKEN", [_joules(item.joules_per_token) for item in figures]),
        ("NET", [_joules(_net(item)) for item in figures]),
    ]
    shown = [column for column in columns if any(cell != _NONE for cell in column[1])]
    rows = zip(*(cells for _, cells in shown), strict=True)
    return table_text([name for name, _ in shown], list(rows), right=frozenset(range(len(shown))))


def _net(item: DecodeFigure) -> float | None:
    if item.joules_per_token is None or item.idle_joules_per_token is None:
        return None
    return item.joules_per_token - item.idle_joules_per_token


def _joules(joules: float | None) -> str:
    if joules is None:
        return _NONE
    return f"{joules * 1e3:.3g} mJ" if abs(joules) < 0.0995 else energy_text(joules)


def _share(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{ratio:.0%}"


def _speed(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.1f}" if tokens_per_s < 99.95 else f"{tokens_per_s:.0f}"


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_text(bytes_per_s)}/s"


def _conditions(seen: Conditions) -> str:
    parts = []
    if seen.throttle:
        parts.append(f"throttled by {', '.join(map(reason_words, seen.throttle))}")
    if seen.temperature_max_c is not None:
        parts.append(f"{seen.temperature_max_c:.0f} °C at most")
    if seen.clock_min_hz is not None:
        parts.append(f"slowest clock {clock_text(seen.clock_min_hz)}")
    return ", ".join(parts)


def _comparison_lines(comparisons: Sequence[BenchComparison], width: int) -> Iterator[str]:
    if not comparisons:
        yield from textwrap.wrap("Nothing to compare with: no run of this kind in the last 30 days.", width)
        return
    told = [item for item in comparisons if item.words]
    if not told:
        runs = max(item.runs for item in comparisons)
        counted = f"{runs} {'run' if runs == 1 else 'runs'}"
        yield from textwrap.wrap(f"As before: no figure is off its baseline ({counted}).", width)
    for item in told:
        yield from textwrap.wrap(item.words, width, subsequent_indent=" " * _INDENT)


def _entry(label: str, words: str, width: int) -> Iterable[str]:
    """*words* behind *label*, wrapped under themselves."""
    first = " " * _INDENT + label.ljust(_LABEL)
    return textwrap.wrap(words, width, initial_indent=first, subsequent_indent=" " * len(first))


def _indented(text: str) -> Iterable[str]:
    return [" " * _INDENT + line for line in text.splitlines()]
