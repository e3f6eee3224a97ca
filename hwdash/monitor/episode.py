"""Throttle reasons over time: since when each holds, and for how much of the last minute. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Never

from hwdash.core.device import Limits
from hwdash.core.format import clock_text, duration_text
from hwdash.core.reading import Reading, present
from hwdash.core.throttle import HARMLESS, ThrottleActivity, ThrottleReason
from hwdash.monitor.derive import NO_COUNTS, Counts

WINDOW_S = 60.0
"""How far back the time under a reason is counted."""
THROTTLED_FROM_DUTY = 0.05
"""The share of an interval from which a reason without a flag counts; shorter bursts are control noise."""
CLEAN_SAMPLES = 3
"""A reason has ended after this many samples without it …"""
CLEAN_SECONDS = 2.0
"""… that reach over at least this time."""

_GRAIN_S = 1.0
_SAME_DENSITY = 0.01
_SLACK_S = 0.5
_SLACK_SHARE = 0.05

_NOTHING: Mapping[ThrottleReason, Never] = MappingProxyType({})

Span = tuple[float, float, float]
"""From, to, and the seconds between them under a reason."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A reason that holds: without a break since ``since_s``; ``clean`` counts the samples without it after ``last_s``."""

    since_s: float
    last_s: float
    clean: int = 0


def _nothing() -> Mapping[ThrottleReason, Never]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Throttling:
    """The episodes of a device, worst first, and the spans of the last minute by reason.

    ``from_s`` is the first sample of this account, ``at_s`` the newest. ``ahead`` are the seconds since the last span of
    a reason whose counter is read less often, as many as its last duty makes them; they enter no span.
    """

    from_s: float
    at_s: float
    episodes: Mapping[ThrottleReason, Episode] = field(default_factory=_nothing)
    spans: Mapping[ThrottleReason, tuple[Span, ...]] = field(default_factory=_nothing)
    ahead: Mapping[ThrottleReason, float] = field(default_factory=_nothing)

    @property
    def counts(self) -> bool:
        """True while a reason holds that makes a device throttled."""
        return not HARMLESS.issuperset(self.episodes)

    def seconds(self, reason: ThrottleReason) -> float:
        """Seconds under *reason* within the window; a span that reaches out of it counts by its share."""
        start = self.at_s - WINDOW_S
        return self.ahead.get(reason, 0.0) + sum(
            seconds if begin >= start else seconds * (end - start) / (end - begin)
            for begin, end, seconds in self.spans.get(reason, ())
        )


def in_force(throttle: Sequence[ThrottleActivity]) -> list[ThrottleReason]:
    """The reasons that hold at this sample, or held for a part of the time before it that counts; in their order."""
    return [
        activity.reason
        for activity in throttle
        if activity.active or (activity.duty is not None and activity.duty >= THROTTLED_FROM_DUTY)
    ]


def proceed(
    before: Throttling | None, now_s: float, throttle: Sequence[ThrottleActivity], counts: Counts = NO_COUNTS
) -> Throttling:
    """The account after a sample at *now_s*.

    Time under a reason is its duty where there is a counter; else a flag is held to stand from one sample to the next.
    A counter of *counts* is accounted when it was read, for all the time since the time before.
    """
    limiting = in_force(throttle)
    if before is None or now_s < before.at_s:
        return Throttling(now_s, now_s, {reason: Episode(now_s, now_s) for reason in limiting})
    if not limiting and not before.episodes and not before.spans:
        return Throttling(before.from_s, now_s)
    return Throttling(
        before.from_s,
        now_s,
        _episodes(before, now_s, limiting, throttle, counts),
        _spans(before, now_s, throttle, counts),
        _ahead(before, now_s, counts) if counts else _NOTHING,
    )


def _episodes(
    account: Throttling,
    now_s: float,
    limiting: Sequence[ThrottleReason],
    throttle: Sequence[ThrottleActivity],
    counts: Counts,
) -> Mapping[ThrottleReason, Episode]:
    # In the order of the sample, which is by severity; what has just ended comes last.
    before = account.episodes
    episodes: dict[ThrottleReason, Episode] = {}
    for reason in limiting:
        known = before.get(reason)
        if known is not None and not known.clean:
            episodes[reason] = Episode(known.since_s, now_s)
        else:
            begin_s = counts[reason].begin_s if reason in counts else account.at_s
            episodes[reason] = Episode(now_s - _held_s(reason, throttle, now_s - begin_s), now_s)
    for reason, episode in before.items():
        clean = episode.clean + 1
        if reason not in episodes and not (clean >= CLEAN_SAMPLES and now_s - episode.last_s >= CLEAN_SECONDS):
            episodes[reason] = Episode(episode.since_s, episode.last_s, clean)
    return episodes


def _held_s(reason: ThrottleReason, throttle: Sequence[ThrottleActivity], elapsed_s: float) -> float:
    """For how long a reason that is active now had held already before its first sample."""
    return next(
        (item.duty * elapsed_s for item in throttle if item.reason is reason and item.active and item.duty), 0.0
    )


def _spans(
    before: Throttling, now_s: float, throttle: Sequence[ThrottleActivity], counts: Counts
) -> Mapping[ThrottleReason, tuple[Span, ...]]:
    start = now_s - WINDOW_S
    spans = {reason: kept for reason, old in before.spans.items() if (kept := _since(old, start))}
    for activity in throttle:
        reason, share, begin_s = activity.reason, activity.duty, before.at_s
        if (seldom := counts.get(reason)) is not None:
            begin_s = max(seldom.begin_s, before.from_s) if seldom.at_s == now_s else now_s
        if begin_s >= now_s:
            continue
        if share is None:
            held = before.episodes.get(reason)
            share = 1.0 if held is not None and not held.clean else 0.0
        if share > 0:
            spans[reason] = _joined(spans.get(reason, ()), begin_s, now_s, share * (now_s - begin_s))
    return spans


def _ahead(before: Throttling, now_s: float, counts: Counts) -> Mapping[ThrottleReason, float]:
    ahead = {}
    for reason, seldom in counts.items():
        held = before.episodes.get(reason)
        share = (1.0 if held is not None and not held.clean else 0.0) if seldom.duty is None else seldom.duty
        ahead[reason] = share * (now_s - max(seldom.at_s, before.from_s))
    return ahead


def _since(spans: tuple[Span, ...], start: float) -> tuple[Span, ...]:
    if spans[0][1] > start:
        return spans
    return tuple(span for span in spans if span[1] > start)


def _joined(spans: tuple[Span, ...], begin: float, end: float, seconds: float) -> tuple[Span, ...]:
    """*spans* with one more. A last one that is still short, or as dense, grows instead: there are never many."""
    if spans:
        first, last, before = spans[-1]
        same = last == begin and abs(before / (last - first) - seconds / (end - begin)) < _SAME_DENSITY
        if same or end - first <= _GRAIN_S:
            return (*spans[:-1], (first, end, before + seconds))
    return (*spans, (begin, end, seconds))


def throttle_words(
    account: Throttling, throttle: Sequence[ThrottleActivity], readings: Mapping[str, Reading], edges: Limits
) -> tuple[str, ...]:
    """Each reason that holds, with its time; the first one with the clock that the device is left with."""
    details = {activity.reason: activity for activity in throttle}
    clock = ""
    if (now := present(readings.get("clock_hz"))) is not None and edges.clock_hz is not None:
        clock = f"clock {now / 1e6:.0f} of {clock_text(edges.clock_hz)}"
    words = []
    for reason, episode in account.episodes.items():
        text, colon = _episode_words(account, reason, episode, details.get(reason))
        if clock:
            text += f"{': ' if colon else ', '}{clock}"
            clock = ""
        words.append(text)
    return tuple(words)


def _episode_words(
    account: Throttling, reason: ThrottleReason, episode: Episode, activity: ThrottleActivity | None
) -> tuple[str, bool]:
    """The words, and whether a colon may follow (they are not a list of figures already)."""
    words = reason.words if activity is None else activity.words
    window = min(WINDOW_S, account.at_s - account.from_s)
    inside = min(account.seconds(reason), window)
    lasted = account.at_s - episode.since_s
    if not episode.clean and abs(inside - min(lasted, WINDOW_S)) <= max(_SLACK_S, _SLACK_SHARE * inside):
        if lasted >= 0.5:
            return f"{words} for {duration_text(lasted)}", True
        if activity is not None and activity.duty is not None and not activity.active:
            return f"{words}, {activity.duty:.0%} of the time", True
        return words, True
    counted = window >= 0.5 and inside >= 0.05
    if counted:
        words += f" {inside:{'.0f' if inside >= 0.95 else '.1f'}} s of the last {window:.0f} s"
    if episode.clean:
        ended = account.at_s - episode.last_s
        words += ", " if counted else " "
        words += f"until {duration_text(ended)} ago" if ended >= 0.5 else "until just now"
    return words, not counted
