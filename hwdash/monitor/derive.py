"""What follows from two samples of one device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from hwdash.core.device import Device
from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleActivity, ThrottleClass, ThrottleReason

_SEVERITY = {category: rank for rank, category in enumerate(ThrottleClass)}
_ORDER = {reason: (_SEVERITY[reason.category], rank) for rank, reason in enumerate(ThrottleReason)}
_NONE: frozenset[ThrottleReason] = frozenset()
_UNKNOWN = frozenset({ThrottleReason.UNKNOWN})


class Count(NamedTuple):
    """A counter that is not in every sample: its value at *at_s*, and the duty between *begin_s* and then."""

    seconds: float
    begin_s: float
    at_s: float
    duty: float | None


Counts = Mapping[ThrottleReason, Count]
NO_COUNTS: Counts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class View:
    """A sample with everything that can be derived: the readings of a snapshot, and the throttling, worst first.

    ``still`` is true when nothing about the throttling has changed since the sample before. ``counts`` has the counters
    whose last two values are not those of the last two samples.
    """

    readings: Mapping[str, Reading]
    throttle: tuple[ThrottleActivity, ...] = ()
    still: bool = False
    counts: Counts = field(default_factory=lambda: NO_COUNTS)


def derive(previous: Sample | None, sample: Sample, device: Device, known: View | None = None) -> View:
    """The view of *sample*, with rates against *previous* (None: the first one, or the first after a gap).

    *known* is the view before, for what has not changed since.

    Power comes from the energy counter where the device does not tell it: ΔE/Δt in watts. The margin to slowdown
    comes from the threshold: slowdown - temperature in °C. A throttle duty is Δcounter/Δt, 0 to 1. A counter that
    went backwards was reset: there is no rate over that gap, and never a negative one.
    """
    readings = sample.readings
    changes: dict[str, Reading] = {}
    energy = present(readings.get("energy_j"))
    if energy is not None and not is_present(readings.get("power_w")):
        before = present(previous.readings.get("energy_j")) if previous is not None else None
        rate = _rate(before, energy, _elapsed(previous, sample))
        changes["power_w"] = Absent.FIRST_SAMPLE if rate is None else rate
    slowdown, temperature = device.limits.temperature_slowdown_c, present(readings.get("temperature_c"))
    if slowdown is not None and temperature is not None and not is_present(readings.get("temperature_margin_c")):
        changes["temperature_margin_c"] = slowdown - temperature
    still = previous is not None and sample.monotonic_s > previous.monotonic_s and _stands(previous, sample)
    throttle_before = known.throttle if known is not None else ()
    counts = count(previous, sample, throttle_before, known.counts if known is not None else NO_COUNTS)
    if still and known is not None and known.still and counts == known.counts:
        throttle = throttle_before
    else:
        throttle = throttling(previous, sample, throttle_before, counts)
    return View({**readings, **changes} if changes else readings, throttle, still, counts)


def count(
    previous: Sample | None, sample: Sample, throttle: tuple[ThrottleActivity, ...] = (), known: Counts = NO_COUNTS
) -> Counts:
    """The counters that were not read with both *previous* and *sample*: a driver may be asked for them less often.

    *throttle* and *known* are what was found of *previous*. One that is missing in *sample* keeps its last value and
    duty; one that is back has its duty over all the time since then.
    """
    if previous is None or (not known and previous.throttle_seconds.keys() == sample.throttle_seconds.keys()):
        return NO_COUNTS
    before, now = previous.throttle_seconds, sample.throttle_seconds
    counts: dict[ThrottleReason, Count] = {}
    for reason, seconds in now.items():
        if reason not in before and (last := known.get(reason)) is not None:
            duty = _duty(last.seconds, seconds, sample.monotonic_s - last.at_s)
            counts[reason] = Count(seconds, last.at_s, sample.monotonic_s, duty)
    for reason in sample.throttle_known.difference(now):
        if reason in before:
            duty = next((item.duty for item in throttle if item.reason is reason), None)
            begin_s = known[reason].begin_s if reason in known else previous.monotonic_s
            counts[reason] = Count(before[reason], begin_s, previous.monotonic_s, duty)
        elif reason in known:
            counts[reason] = known[reason]
    return counts


def throttling(
    previous: Sample | None,
    sample: Sample,
    known: tuple[ThrottleActivity, ...] = (),
    counts: Counts = NO_COUNTS,
) -> tuple[ThrottleActivity, ...]:
    """Every reason that the device tells of: thermal, power, current, reliability, then others.

    *known* is what was found of the sample before: what has not changed since is not made again. A counter of *counts*
    that this sample does not have goes on with its seconds and its duty of then.
    """
    active = sample.throttle_flags or _NONE
    unknown = sample.unknown_flags
    elapsed = _elapsed(previous, sample)
    counted = sample.throttle_seconds
    before = previous.throttle_seconds if previous is not None else counted
    if previous is not None and known and not counts and _same_reasons(previous, sample):
        return _gone_on(known, before, counted, elapsed)
    found = sample.throttle_known.union(counted, active, _UNKNOWN if unknown else _NONE)
    activities = []
    for place, reason in enumerate(_ordered(found)):
        flag, detail, duty = reason in active, None, None
        if reason is ThrottleReason.UNKNOWN:
            flag, detail = flag or bool(unknown), unknown
        seconds = counted.get(reason)
        if (seldom := counts.get(reason)) is not None:
            seconds, duty = seldom.seconds, seldom.duty
        elif seconds is not None:
            duty = _duty(before.get(reason), seconds, elapsed)
        same = known[place] if place < len(known) else None
        if (
            same is not None
            and same.reason is reason
            and same.duty == duty
            and same.seconds == seconds
            and same.active is flag
            and same.detail == detail
        ):
            activities.append(same)
        else:
            activities.append(ThrottleActivity(reason, flag, duty, detail, seconds))
    return tuple(activities)


def _same_reasons(previous: Sample, sample: Sample) -> bool:
    """The same reasons are told of, by the same flags and counters; only seconds may have moved."""
    return (
        previous.throttle_flags == sample.throttle_flags
        and previous.throttle_known == sample.throttle_known
        and previous.unknown_flags is None is sample.unknown_flags
        and previous.throttle_seconds.keys() == sample.throttle_seconds.keys()
    )


def _gone_on(
    known: tuple[ThrottleActivity, ...],
    before: Mapping[ThrottleReason, float],
    counted: Mapping[ThrottleReason, float],
    elapsed: float,
) -> tuple[ThrottleActivity, ...]:
    """*known* with the seconds of now, the commonest case, in few steps."""
    activities = []
    for item in known:
        seconds = counted.get(item.reason)
        duty = None if seconds is None else _duty(before[item.reason], seconds, elapsed)
        same = item.seconds == seconds and item.duty == duty
        activities.append(item if same else ThrottleActivity(item.reason, item.active, duty, item.detail, seconds))
    return tuple(activities)


def _stands(previous: Sample, sample: Sample) -> bool:
    return (
        previous.throttle_seconds == sample.throttle_seconds
        and previous.throttle_flags == sample.throttle_flags
        and previous.throttle_known == sample.throttle_known
        and previous.unknown_flags == sample.unknown_flags
    )


@lru_cache(maxsize=256)
def _ordered(reasons: frozenset[ThrottleReason]) -> tuple[ThrottleReason, ...]:
    return tuple(sorted(reasons, key=_ORDER.__getitem__))


def _elapsed(previous: Sample | None, sample: Sample) -> float:
    return sample.monotonic_s - previous.monotonic_s if previous is not None else 0.0


def _rate(before: float | None, now: float, elapsed_s: float) -> float | None:
    """The growth per second, or None where there is no earlier value, no time between, or a reset between."""
    if before is None or elapsed_s <= 0 or now < before:
        return None
    return (now - before) / elapsed_s


def _duty(before: float | None, now: float, elapsed_s: float) -> float | None:
    rate = _rate(before, now, elapsed_s)
    return None if rate is None else min(rate, 1.0)
