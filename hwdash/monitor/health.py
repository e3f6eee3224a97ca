"""The health of a device over time: a state machine with hysteresis. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from hwdash.core.device import Limits
from hwdash.core.format import duration_text
from hwdash.core.health import WARM_MARGIN_C, Health, HealthState, SuspicionKind, asleep
from hwdash.core.reading import Reading, present
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.throttle import ThrottleActivity
from hwdash.monitor.derive import NO_COUNTS, Counts
from hwdash.monitor.episode import Throttling, proceed, throttle_words

WARM_UNTIL_C = 12.0
"""A warm device is warm until its margin is above this."""
ASLEEP = "asleep"
"""The reason of a device that its driver suspended: it is well, and not to be woken."""

_NO_LIMITS = Limits()


class Suspect(NamedTuple):
    """What a device is suspected by: the kind, and the words with both numbers."""

    kind: SuspicionKind
    words: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a device at one tick.

    ``at_s`` is the monotonic time of the sample (of the tick, where it is not a new one), ``at`` the time of the tick
    in UTC. ``fresh`` tells that readings and throttling are of a sample that was not observed before. ``lost`` holds
    the driver's words when the device is gone. ``silence`` is why there is no sample, when the last one is too old
    (or never came); ``age_s`` its age. ``suspicions`` are those of `hwdash.monitor.suspicion.Suspicion`;
    ``counts`` are those of the `hwdash.monitor.derive.View`.
    """

    at_s: float
    at: datetime
    fresh: bool = True
    readings: Mapping[str, Reading] = field(default_factory=lambda: MappingProxyType({}))
    throttle: tuple[ThrottleActivity, ...] = ()
    limits: Limits = _NO_LIMITS
    lost: str = ""
    silence: str = ""
    age_s: float | None = None
    faults: tuple[Fault, ...] = ()
    suspicions: tuple[Suspect, ...] = ()
    counts: Counts = field(default_factory=lambda: NO_COUNTS)


@dataclass(frozen=True, slots=True)
class Condition:
    """A health and what the machine has to remember for the next one."""

    health: Health
    throttling: Throttling | None = None
    warm: bool = False
    memory_warm: bool = False


def advance(before: Condition | None, seen: Observation) -> Condition:
    """The condition after *seen*. ``since`` of a health moves only when its state changes."""
    if seen.lost:
        return Condition(_health(before, HealthState.LOST, (f"lost: {seen.lost}",), seen.at))
    if seen.silence:
        return Condition(_health(before, HealthState.STALE, (_silence(seen),), seen.at))
    if before is not None and not seen.fresh:
        return before
    if seen.faults and (broken := _broken(before, seen)) is not None:
        return broken
    warnings = tuple(fault.words for fault in seen.faults)
    if asleep(seen.readings):
        return Condition(_health(before, HealthState.OK, (ASLEEP, *warnings), seen.at))
    throttling = proceed(None if before is None else before.throttling, seen.at_s, seen.throttle, seen.counts)
    margin, memory = present(seen.readings.get("temperature_margin_c")), memory_margin(seen.readings, seen.limits)
    warm = _is_warm(margin, before is not None and before.warm)
    memory_warm = _is_warm(memory, before is not None and before.memory_warm)
    reasons: tuple[str, ...] = ()
    kinds: tuple[SuspicionKind, ...] = ()
    state = HealthState.WARM if warm or memory_warm else HealthState.OK
    if throttling.counts:
        state, reasons = HealthState.THROTTLED, throttle_words(throttling, seen.throttle, seen.readings, seen.limits)
    elif seen.suspicions:
        state = HealthState.THROTTLED
        reasons = tuple(f"suspected: {suspect.words}" for suspect in seen.suspicions)
        kinds = tuple(suspect.kind for suspect in seen.suspicions)
    if warm and margin is not None:
        reasons += (_warm_words(margin, seen.limits),)
    if memory_warm and memory is not None:
        reasons += (_memory_words(memory, seen.limits),)
    return Condition(_health(before, state, reasons + warnings, seen.at, kinds), throttling, warm, memory_warm)


def memory_margin(readings: Mapping[str, Reading], limits: Limits) -> float | None:
    """°C that the memory has left to its limit; None where either is unknown."""
    if limits.memory_temperature_max_c is None:
        return None
    temperature = present(readings.get("memory_temperature_c"))
    return None if temperature is None else limits.memory_temperature_max_c - temperature


def _health(
    before: Condition | None,
    state: HealthState,
    reasons: tuple[str, ...],
    at: datetime,
    kinds: tuple[SuspicionKind, ...] = (),
) -> Health:
    suspected = bool(kinds)
    if before is None or before.health.state is not state:
        return Health(state, reasons, at, suspected, kinds)
    known = before.health
    if known.reasons == reasons and known.suspicions == kinds:
        return known
    return Health(state, reasons, known.since, suspected, kinds)


def _broken(before: Condition | None, seen: Observation) -> Condition | None:
    """The condition of a device that cannot be used or does not move, by its own word; None for any other."""
    for level, state, word in (
        (FaultLevel.FAILED, HealthState.LOST, "failed"),
        (FaultLevel.STALLED, HealthState.STALE, "stalled"),
    ):
        if any(fault.level is level for fault in seen.faults):
            first = [f"{word}: {fault.words}" for fault in seen.faults if fault.level is level]
            others = [fault.words for fault in seen.faults if fault.level is not level]
            return Condition(_health(before, state, (*first, *others), seen.at))
    return None


def _is_warm(margin: float | None, was_warm: bool) -> bool:
    return margin is not None and (margin <= WARM_MARGIN_C or (was_warm and margin <= WARM_UNTIL_C))


def _warm_words(margin: float, limits: Limits) -> str:
    words = f"{margin:.0f} °C to slowdown" if margin >= 0 else f"{-margin:.0f} °C above slowdown"
    slowdown, shutdown = limits.temperature_slowdown_c, limits.temperature_shutdown_c
    if slowdown is not None and shutdown is not None and (beyond := slowdown - margin - shutdown) >= 0:
        return f"{beyond:.0f} °C above shutdown at {shutdown:.0f} °C"
    return words if slowdown is None else f"{words} at {slowdown:.0f} °C"


def _memory_words(margin: float, limits: Limits) -> str:
    words = f"memory {margin:.0f} °C below" if margin >= 0 else f"memory {-margin:.0f} °C above"
    return f"{words} its limit of {limits.memory_temperature_max_c:.0f} °C"


def _silence(seen: Observation) -> str:
    if seen.age_s is None:
        return f"no sample yet: {seen.silence}"
    return f"no sample for {duration_text(seen.age_s)}: {seen.silence}"
