"""A bench beside earlier ones of the same device: slower, faster, or as ever. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from hwdash.core.bench import BenchComparison, BenchReport, DtypeFigures
from hwdash.core.format import joules_per_token_text, rate_text, seconds_text

MOST_RUNS = 10
"""A baseline is the median of so many of the newest runs …"""
WITHIN = timedelta(days=30)
"""… that are not older than this."""
MOST_EARLIER = 200
"""So many earlier reports are looked through for them."""
DIFFERS_FROM = 0.05
"""A figure that differs by less than this share needs no words …"""
FEW_RUNS, FEW_DIFFER_FROM = 3, 0.10
"""… nor one that differs by less than this where fewer runs than that do not tell how much they vary by themselves."""


class _Kind(StrEnum):
    """What a figure is, and with that how it is said."""

    TIME = "time"
    RATE = "rate"
    ENERGY = "energy"


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    kind: _Kind
    value: float
    lengths: tuple[int | None, int | None] = (None, None)
    """New tokens and those of the prompt, as far as the figure depends on them and its name does not tell them."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One precision of a report."""

    report: BenchReport
    figures: dict[str, _Figure]


def compare(report: BenchReport, earlier: Sequence[BenchReport]) -> tuple[BenchComparison, ...]:
    """Each figure of *report* beside the median of those among *earlier* that it may be compared with.

    That is: of the same device, model, precision, way of decoding and lengths of prompt and answer, the newest `MOST_RUNS` within the 30 days before
    it. ``words`` is empty where the figure differs by no more than 5 %, or no more than the earlier ones among themselves.
    """
    found: list[BenchComparison] = []
    for now in report.dtypes:
        runs = _runs(report, now, earlier)
        told: set[str] = set()
        for figure in _figures(now):
            if (comparison := _compared(report, now.dtype, figure, runs)) is None:
                continue
            # Fewer tokens a second are the same news as longer gaps between them.
            twin = figure.name.replace("tokens/s", "ITL p50")
            if figure.kind is _Kind.RATE and twin in told:
                comparison = replace(comparison, words="")
            if comparison.words:
                told.add(figure.name)
            found.append(comparison)
    return tuple(found)


def _runs(report: BenchReport, now: DtypeFigures, earlier: Sequence[BenchReport]) -> list[_Run]:
    """The runs to compare with, oldest first."""
    oldest = report.started_at - WITHIN
    return [
        _Run(other, {figure.name: figure for figure in _figures(before)})
        for other in sorted(earlier, key=lambda item: item.started_at)
        if other.id != report.id and oldest <= other.started_at <= report.started_at
        if (other.device_key, other.model) == (report.device_key, report.model)
        for before in other.dtypes
        if before.dtype == now.dtype and _decoder(before) == _decoder(now) and _decoder(now)
    ]


def _compared(report: BenchReport, dtype: str, figure: _Figure, runs: Sequence[_Run]) -> BenchComparison | None:
    same = [run for run in runs if (other := run.figures.get(figure.name)) and other.lengths == figure.lengths]
    using = same[-MOST_RUNS:]
    if not using:
        return None
    values = [run.figures[figure.name].value for run in using]
    baseline = median(values)
    ratio = figure.value / baseline
    spread = max(abs(value / baseline - 1.0) for value in values)
    least = DIFFERS_FROM if len(values) >= FEW_RUNS else FEW_DIFFER_FROM
    since = using[0].report.started_at
    words = ""
    if abs(ratio - 1.0) > max(least, spread):
        how = _how(figure.kind, ratio)
        of = _span(since, report.started_at)
        others = _others(report, using)
        runs_words = f"{len(values)} {'run' if len(values) == 1 else 'runs'}{others}"
        now, then = _text(figure.kind, figure.value), _text(figure.kind, baseline)
        words = f"{dtype}, {figure.name}: {how} than its baseline of {of} ({runs_words}): {now}, was {then}"
    return BenchComparison(dtype, figure.name, figure.value, baseline, ratio, len(values), since, words)


def _figures(figures: DtypeFigures) -> Iterator[_Figure]:
    """All figures that can be compared, each under its name."""
    loaded = figures.loaded
    if loaded is not None and loaded.load_s:
        yield _Figure("load", _Kind.TIME, loaded.load_s)
    for prefill in figures.prefill:
        yield _Figure(f"TTFT of {prefill.prompt_tokens} tokens", _Kind.TIME, prefill.ttft_s)
    for decode in figures.decode:
        lengths = decode.new_tokens, decode.prompt_tokens
        yield _Figure(f"ITL p50 at batch {decode.batch}", _Kind.TIME, decode.itl_p50_s, lengths)
        yield _Figure(f"tokens/s at batch {decode.batch}", _Kind.RATE, decode.tokens_per_s, lengths)
        if decode.joules_per_token:
            yield _Figure(f"energy at batch {decode.batch}", _Kind.ENERGY, decode.joules_per_token, lengths)


def _decoder(figures: DtypeFigures) -> str:
    return figures.loaded.decoder if figures.loaded is not None else ""


def _how(kind: _Kind, ratio: float) -> str:
    share = f"{abs(ratio - 1.0):.0%}"
    if kind is _Kind.ENERGY:
        return f"{share} {'more' if ratio > 1.0 else 'less'}"
    return f"{share} {'slower' if (ratio > 1.0) is (kind is _Kind.TIME) else 'faster'}"


def _span(since: datetime, until: datetime) -> str:
    age = until - since
    if age <= timedelta(days=1):
        return "the last day"
    return "the last week" if age <= timedelta(days=7) else "the last month"


def _others(report: BenchReport, runs: Sequence[_Run]) -> str:
    """Other versions that the baseline was measured with."""
    now = dict(report.versions)
    found = []
    for name in ("driver", "torch"):
        versions = [dict(run.report.versions).get(name) for run in runs]
        if others := sorted({item for item in versions if item is not None and item != now.get(name)}):
            found.append(f"{'some ' if now.get(name) in versions else ''}with {name} {', '.join(others)}")
    return "".join(f", {item}" for item in found)


def _text(kind: _Kind, value: float) -> str:
    match kind:
        case _Kind.TIME:
            return seconds_text(value)
        case _Kind.RATE:
            return rate_text(value)
        case _Kind.ENERGY:
            return joules_per_token_text(value)
