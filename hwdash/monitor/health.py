"""The health of a device over time: a state machine with hysteresis. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from hwdash.core.device import Limits
from hwdash.core.format import clock_text, duration_text
from hwdash.core.health import WARM_MARGIN_C, Health, HealthState
from hwdash.core.reading import Reading, present
from hwdash.core.throttle import ThrottleActivity, ThrottleReason

WARM_UNTIL_C = 12.0
"""A warm device is warm until its margin is above this."""
THROTTLED_FROM_DUTY = 0.05
"""The share of an interval from which a reason without a flag counts; shorter bursts are control noise."""
CLEAN_SAMPLES = 3
"""A reason has ended after this many samples without it …"""
CLEAN_SECONDS = 2.0
"""… that reach over at least this time."""
HARMLESS = frozenset({ThrottleReason.SYNC_BOOST})
"""Reasons that alone do not make a device throttled: clocks that are kept in step are a setting."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a device at one tick.

    ``at_s`` is monotonic time, ``at`` the same in UTC. ``fresh`` tells that readings and throttling are of a sample
    that was not observed before. ``lost`` holds the driver's words when the device is gone. ``silence`` is why there
    is no sample, when the last one is too old (or never came); ``age_s`` its age.
    """

    at_s: float
    at: datetime
    fresh: bool = True
    readings: Mapping[str, Reading] = field(default_factory=lambda: MappingProxyType({}))
    throttle: tuple[ThrottleActivity, ...] = ()
    limits: Limits = field(default_factory=Limits)
    lost: str = ""
    silence: str = ""
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """A throttle reason from its first sample on; ``clean`` counts the samples without it since ``last_s``."""

    since_s: float
    last_s: float
    clean: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """A health and what the machine has to remember for the next one."""

    health: Health
    episodes: Mapping[ThrottleReason, Episode] = field(default_factory=lambda: MappingProxyType({}))
    warm: bool = False


def advance(before: Condition | None, seen: Observation) -> Condition:
    """The condition after *seen*. ``since`` of a health moves only when its state changes."""
    if seen.lost:
        return Condition(_health(before, HealthState.LOST, (f"lost: {seen.lost}",), seen.at))
    if seen.silence:
        return Condition(_health(before, HealthState.STALE, (_silence(seen),), seen.at))
    if before is not None and not seen.fresh:
        return before
    episodes = _episodes(before.episodes if before is not None else {}, seen)
    margin = present(seen.readings.get("temperature_margin_c"))
    was_warm = before is not None and before.warm
    warm = margin is not None and (margin <= WARM_MARGIN_C or (was_warm and margin <= WARM_UNTIL_C))
    reasons: tuple[str, ...] = ()
    if throttled := not HARMLESS.issuperset(episodes):
        reasons = _throttle_words(episodes, seen)
    if warm and margin is not None:
        reasons += (_warm_words(margin, seen.limits),)
    state = HealthState.THROTTLED if throttled else HealthState.WARM if warm else HealthState.OK
    return Condition(_health(before, state, reasons, seen.at), episodes, warm)


def _health(before: Condition | None, state: HealthState, reasons: tuple[str, ...], at: datetime) -> Health:
    if before is None or before.health.state is not state:
        return Health(state, reasons, at)
    if before.health.reasons == reasons:
        return before.health
    return Health(state, reasons, before.health.since)


def _episodes(before: Mapping[ThrottleReason, Episode], seen: Observation) -> Mapping[ThrottleReason, Episode]:
    if not before and not seen.throttle:
        return before
    now = seen.at_s
    limiting = {
        activity.reason
        for activity in seen.throttle
        if activity.active or (activity.duty is not None and activity.duty >= THROTTLED_FROM_DUTY)
    }
    episodes: dict[ThrottleReason, Episode] = {}
    # In the order of the sample, which is by severity; what has just ended comes last.
    for activity in seen.throttle:
        if activity.reason in limiting:
            known = before.get(activity.reason)
            episodes[activity.reason] = Episode(known.since_s if known else now, now)
    for reason, episode in before.items():
        clean = episode.clean + 1
        if reason not in limiting and not (clean >= CLEAN_SAMPLES and now - episode.last_s >= CLEAN_SECONDS):
            episodes[reason] = Episode(episode.since_s, episode.last_s, clean)
    return episodes


def _throttle_words(episodes: Mapping[ThrottleReason, Episode], seen: Observation) -> tuple[str, ...]:
    details = {activity.reason: activity for activity in seen.throttle}
    words = [_episode_words(reason, episode, details.get(reason), seen.at_s) for reason, episode in episodes.items()]
    clock, limit = present(seen.readings.get("clock_hz")), seen.limits.clock_hz
    if clock is not None and limit is not None:
        words[0] += f": clock {clock / 1e6:.0f} of {clock_text(limit)}"
    return tuple(words)


def _episode_words(reason: ThrottleReason, episode: Episode, activity: ThrottleActivity | None, now_s: float) -> str:
    words = reason.words
    if activity is not None and activity.detail is not None:
        words += f" {activity.detail}"
    if episode.clean:
        ended = now_s - episode.last_s
        return f"{words} until {duration_text(ended)} ago" if ended >= 0.5 else f"{words} until just now"
    if (lasted := now_s - episode.since_s) >= 0.5:
        words += f" for {duration_text(lasted)}"
    if activity is not None and activity.duty is not None and not activity.active:
        words += f", {activity.duty:.0%} of the time"
    return words


def _warm_words(margin: float, limits: Limits) -> str:
    words = f"{margin:.0f} °C to slowdown" if margin >= 0 else f"{-margin:.0f} °C above slowdown"
    slowdown = limits.temperature_slowdown_c
    return words if slowdown is None else f"{words} at {slowdown:.0f} °C"


def _silence(seen: Observation) -> str:
    if seen.age_s is None:
        return f"no sample yet: {seen.silence}"
    return f"no sample for {duration_text(seen.age_s)}: {seen.silence}"
