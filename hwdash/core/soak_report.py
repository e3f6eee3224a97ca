"""From what was seen of a soak to its report. Pure: whoever has the samples can make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, median

from hwdash.core.format import clock_text, duration_text, rate_text
from hwdash.core.soak import SoakEnd, SoakPhase, SoakReport, SoakSample, SoakStarted, ThrottleOnset
from hwdash.core.throttle import HARMLESS, reason_words

START_S = 10.0
"""The start of a soak is its first so many seconds."""
BEFORE_S = 10.0
"""Before the onset means: so many seconds before it at most."""
SETTLE_S = 3.0
"""After the onset means: from so many seconds after it, when clock and rate have followed."""
STEADY_SHARE = 0.25
"""The last part of a soak that is looked at for a steady state …"""
STEADY_C, STEADY_RATE = 2.0, 0.03
"""… which it is in when temperature and rate differ by less than that in it: °C, and a share of the mean."""
MOST_SAMPLES = 3600
"""A report keeps so many samples at most."""
_STEADY_SAMPLES = 3
_UNWATCHED_S, _UNWATCHED_STEPS = 5.0, 5.0
"""Nobody watched where no sample came for more than so many seconds, and so many times the usual gap between two."""
_EQUAL_RATE = 0.05
"""A rate that changed by less than this share between start and end was held."""
_HARMLESS = frozenset(reason.value for reason in HARMLESS)


def report_of(
    started: SoakStarted,
    samples: Sequence[SoakSample],
    end: SoakEnd,
    total_s: float,
    joules: float | None = None,
    problem: str = "",
) -> SoakReport:
    """The report of a soak that lasted *total_s* seconds and took *joules*; *samples* in the order of time.

    Everything is found with all *samples*; the report itself keeps `MOST_SAMPLES` of them at most, see `thinned`.
    """
    report = SoakReport(
        id=started.id,
        started_at=started.started_at,
        device=started.device,
        device_key=started.device_key,
        device_name=started.device_name,
        model=started.model,
        load=started.load,
        unit=started.unit,
        total_s=total_s,
        end=end,
        samples=thinned(samples),
        duty=_duty(samples),
        onset=onset_of(samples),
        start=_phase(samples, 0.0, START_S),
        steady=_steady(samples, total_s),
        joules=joules,
        problem=problem,
        dtype=started.dtype,
        batch=started.batch,
        max_temperature_c=started.max_temperature_c,
        tells_throttle=started.tells_throttle,
    )
    return replace(report, verdict=_verdict(report, samples))


def thinned(samples: Sequence[SoakSample], most: int = MOST_SAMPLES) -> tuple[SoakSample, ...]:
    """*most* of *samples* (5 at least), spread evenly over them; all of them where they are no more than that.

    The first, the last, that of the onset of throttling, the coldest and the hottest one are always among them.
    """
    count = len(samples)
    if count <= most:
        return tuple(samples)
    kept = {0, count - 1}
    if (onset := next((number for number, sample in enumerate(samples) if throttles(sample)), None)) is not None:
        kept.add(onset)
    known = [
        (sample.temperature_c, number) for number, sample in enumerate(samples) if sample.temperature_c is not None
    ]
    if known:
        kept |= {min(known)[1], max(known)[1]}
    room = max(0, most - len(kept))
    kept |= {number * count // room for number in range(room)}
    return tuple(samples[number] for number in sorted(kept))


def throttles(sample: SoakSample) -> bool:
    """The device throttles by its driver's word, or is suspected of it. Clocks kept in step are no throttling."""
    return bool(sample.suspected) or any(reason not in _HARMLESS for reason in sample.throttle)


def onset_of(samples: Sequence[SoakSample]) -> ThrottleOnset | None:
    """The first time that the device throttled; None when it did not."""
    number = next((number for number, sample in enumerate(samples) if throttles(sample)), None)
    if number is None:
        return None
    first, earlier = samples[number], samples[:number]
    before = _phase(earlier, first.at_s - BEFORE_S, first.at_s)
    return ThrottleOnset(
        first.at_s,
        tuple(reason for reason in first.throttle if reason not in _HARMLESS),
        before or SoakPhase(first.at_s, first.at_s),
        _phase(samples, first.at_s + SETTLE_S, samples[-1].at_s),
        first.suspected,
    )


def rate_words(rate: float, unit: str) -> str:
    """A rate with three significant figures and its unit: ``593 tok/s``, ``51.2 TFLOP/s``."""
    if unit == "tok/s":
        return rate_text(rate)
    prefix = ""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(rate) < 999.5 or prefix == "P":
            break
        rate /= 1000.0
    return f"{rate_text(rate).partition(' ')[0]} {prefix}{unit}"


def _phase(samples: Iterable[SoakSample], from_s: float, to_s: float) -> SoakPhase | None:
    """Means over the samples between *from_s* and *to_s*, both included; None where there are none."""
    inside = [sample for sample in samples if from_s <= sample.at_s <= to_s]
    if not inside:
        return None
    return SoakPhase(
        inside[0].at_s,
        inside[-1].at_s,
        _mean(sample.rate for sample in inside),
        _mean(sample.temperature_c for sample in inside),
        _mean(sample.power_w for sample in inside),
        _mean(sample.clock_hz for sample in inside),
    )


def _steady(samples: Sequence[SoakSample], total_s: float) -> SoakPhase | None:
    """The last quarter, where temperature and rate stand in it. A device that tells no temperature is judged by its rate."""
    since_s = total_s * (1.0 - STEADY_SHARE)
    inside = [sample for sample in samples if sample.at_s >= since_s]
    rates = [sample.rate for sample in inside if sample.rate is not None]
    warmths = [sample.temperature_c for sample in inside if sample.temperature_c is not None]
    if len(rates) < _STEADY_SAMPLES or max(rates) - min(rates) >= STEADY_RATE * fmean(rates):
        return None
    if warmths and max(warmths) - min(warmths) >= STEADY_C:
        return None
    return _phase(inside, since_s, inside[-1].at_s)


def _duty(samples: Sequence[SoakSample]) -> tuple[tuple[str, float], ...]:
    """The share of the time up to the last sample in which each reason held, the largest first.

    Where the driver counts no time, a reason that is told with a sample is taken to have held since the one before.
    """
    held_s: dict[str, float] = {}
    before_s = 0.0
    for sample in samples:
        length_s, before_s = max(0.0, sample.at_s - before_s), sample.at_s
        counted = dict(sample.duty)
        for reason in sample.throttle:
            held_s[reason] = held_s.get(reason, 0.0) + length_s * min(1.0, counted.get(reason, 1.0))
    if before_s <= 0.0:
        return ()
    return tuple(sorted(((reason, s / before_s) for reason, s in held_s.items()), key=lambda item: (-item[1], item[0])))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _verdict(report: SoakReport, samples: Sequence[SoakSample]) -> str:
    """One sentence of what is known; how it ended stands first where it did not run its time."""
    held = duration_text(report.total_s)
    opening = {
        SoakEnd.TEMPERATURE: f"stopped after {held} at the temperature limit{_limit_words(report)}",
        SoakEnd.LOST: f"the device was lost after {held}",
        SoakEnd.CANCELLED: f"cancelled after {held}",
        SoakEnd.FAILED: f"failed after {held} ({report.problem})" if report.problem else f"failed after {held}",
    }.get(report.end)
    finding = _throttled_words(report, report.onset) if report.onset is not None else _held_words(report, samples)
    return f"{opening}; {finding}" if opening else finding


def _limit_words(report: SoakReport) -> str:
    """Which limit it was: that of the report, or, below that, the device's own, to which it tells the margin."""
    limit, last = report.max_temperature_c, report.samples[-1].temperature_c if report.samples else None
    if limit is None:
        return ""
    return " of the device itself" if last is not None and last < limit else f" of {limit:.0f} °C"


def _throttled_words(report: SoakReport, onset: ThrottleOnset) -> str:
    reasons = ", ".join(map(reason_words, onset.reasons)) or onset.suspected
    verb = "throttled" if onset.reasons else "suspected of throttling"
    when = f"after {duration_text(onset.at_s)}" if onset.at_s >= 1.0 else "from the start"
    text = f"{verb} {when} ({reasons})"
    changes = [] if onset.after is None else _changes(onset.before, onset.after, report.unit)
    text += f": {', '.join(changes)}" if changes else ""
    where = [] if report.steady is None else _state(report.steady)
    return f"{text}; steady at {', '.join(where)}" if where else text


def _held_words(report: SoakReport, samples: Sequence[SoakSample]) -> str:
    held = duration_text(report.total_s)
    last = report.steady or _last(report, samples)
    start, temperature = report.start, None if last is None else last.temperature_c
    warmth = "" if temperature is None else f" at {temperature:.0f} °C"
    calm = _calm_words(report, samples)
    if last is None or last.rate is None:
        return f"nothing was measured in {held}{warmth}, {calm}"
    change = _change(None if start is None else start.rate, last.rate)
    if start is not None and start.rate is not None and change is not None and abs(change) >= _EQUAL_RATE:
        rates = _arrow(start.rate, last.rate, lambda rate: rate_words(rate, report.unit), report.unit)
        return f"{rates} ({change:+.0%}) over {held}{warmth}, {calm}"
    return f"held {rate_words(last.rate, report.unit)} for {held}{warmth}, {calm}"


def _calm_words(report: SoakReport, samples: Sequence[SoakSample]) -> str:
    """What is known of throttling where none was seen: only of the time that somebody watched."""
    if not report.tells_throttle:
        return "this device does not tell of throttling"
    watched_s = _watched_s(samples, report.total_s)
    if watched_s <= 0.0:
        return "there were no readings that tell of throttling"
    if watched_s >= report.total_s:
        return "no throttling"
    return f"no throttling in the {duration_text(watched_s)} with readings"


def _watched_s(samples: Sequence[SoakSample], total_s: float) -> float:
    """How much of *total_s* the readings of the device cover."""
    times = [sample.at_s for sample in samples if sample.watched]
    if not times:
        return 0.0
    gaps = [after - before for before, after in pairwise([0.0, *times, max(total_s, times[-1])])]
    longest_s = max(_UNWATCHED_S, _UNWATCHED_STEPS * median(gaps))
    missing_s = sum(gap for gap in gaps if gap > longest_s)
    return total_s - missing_s if missing_s > 0.0 else total_s


def _last(report: SoakReport, samples: Sequence[SoakSample]) -> SoakPhase | None:
    return _phase(samples, report.total_s * (1.0 - STEADY_SHARE), report.total_s) or report.start


def _changes(before: SoakPhase, after: SoakPhase, unit: str) -> list[str]:
    changes = []
    if before.clock_hz is not None and after.clock_hz is not None:
        changes.append(f"clock {_arrow(before.clock_hz, after.clock_hz, clock_text, 'MHz')}")
    if before.rate is not None and after.rate is not None:
        text = _arrow(before.rate, after.rate, lambda rate: rate_words(rate, unit), unit)
        change = _change(before.rate, after.rate)
        changes.append(text if change is None else f"{text} ({change:+.0%})")
    return changes


def _state(phase: SoakPhase) -> list[str]:
    power, temperature = phase.power_w, phase.temperature_c
    return [
        *([] if power is None else [f"{power:.0f} W"]),
        *([] if temperature is None else [f"{temperature:.0f} °C"]),
    ]


def _change(before: float | None, after: float) -> float | None:
    return None if not before else after / before - 1.0


def _arrow(before: float, after: float, words: Callable[[float], str], unit: str) -> str:
    """Two values of the same unit, which is written once: ``611 → 540 tok/s``."""
    first, second = words(before), words(after)
    number, _, own = first.rpartition(" ")
    return f"{number if second.endswith(' ' + own) else first} → {second}" if unit and own else f"{first} → {second}"
