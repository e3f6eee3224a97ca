"""What answers came to, counted since the daemon began."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from hwdash.core.inference import FinishReason, InferenceRecord, TokenEvent
from hwdash.daemon import metric_family as families
from hwdash.daemon.metric_page import Distribution, Page

BOUNDS = (
    *(step / scale for scale in (1000, 100, 10, 1) for step in (1, 2, 3, 5, 7)),
    *(10.0, 20.0, 30.0, 50.0, 70.0),
    100.0,
    200.0,
    300.0,
)
"""Upper bounds of the buckets in seconds, 1 ms to 300 s: no bucket ends at more than twice where it begins."""

MOST_MODELS = 128
"""Pairs of a device and a model that are counted apart. Servers can rename their models for ever."""
OTHER = "other"
"""The model of every answer beyond them."""

Pair = tuple[str, str]


class Histogram:
    """Values in seconds, counted by bucket."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count *value*, *times* over."""
        self._counts[bisect_left(BOUNDS, value)] += times
        self._total += value * times

    @property
    def distribution(self) -> Distribution:
        """What was counted so far."""
        return Distribution(BOUNDS, tuple(accumulate(self._counts)), self._total)


@dataclass(slots=True)
class _Answers:
    """The answers of one model on one device."""

    ttft: Histogram = field(default_factory=Histogram)
    itl: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    ended: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    joules: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    energy_tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Tally:
    """Counts records and the gaps between tokens. Lives on the event loop.

    *key_of* gives the stable key of the device with a short id.
    """

    def __init__(self, key_of: Callable[[str], str]) -> None:
        self._key_of = key_of
        self._answers: dict[Pair, _Answers] = {}

    def add(self, record: InferenceRecord) -> None:
        """Count an attempt that has ended."""
        answers = self._of(record.device_key, record.model)
        answers.ended[record.finish_reason.value] += 1
        answers.prompt_tokens += record.tokens.prompt or 0
        answers.completion_tokens += record.tokens.completion
        if record.timing.ttft_s is not None:
            answers.ttft.add(record.timing.ttft_s)
        if record.timing.total_s is not None:
            answers.duration.add(record.timing.total_s)
        if record.energy is not None:
            answers.joules[record.energy.scope] += record.energy.joules
            if record.energy.joules_per_token is not None:
                answers.energy_tokens[record.energy.scope] += record.tokens.completion
        if record.route.fallback_from is not None and record.finish_reason is not FinishReason.ERROR:
            self._of(self._key_of(record.route.fallback_from), record.model).fallbacks += 1

    def follow(self, device_key: str, model: str) -> Callable[[TokenEvent], None]:
        """Count the gaps of one answer; what it gives is to be called with each of its tokens in turn.

        Several tokens that come as one piece share its gap evenly: there are as many gaps as tokens after the first,
        and their sum is the time of decoding.
        """
        before: TokenEvent | None = None

        def count(event: TokenEvent) -> None:
            nonlocal before
            if before is not None and event.tokens > before.tokens:
                made = event.tokens - before.tokens
                self._of(device_key, model).itl.add(max(0.0, event.elapsed_s - before.elapsed_s) / made, made)
            if before is None or event.tokens > before.tokens:
                before = event

        return count

    def fill(self, page: Page) -> None:
        """Put everything that was counted on *page*."""
        for pair, answers in self._answers.items():
            for status, count in answers.ended.items():
                page.add(families.REQUESTS, (*pair, status), count)
            if answers.fallbacks:
                page.add(families.FALLBACKS, pair, answers.fallbacks)
            for family, histogram in (
                (families.TTFT, answers.ttft),
                (families.ITL, answers.itl),
                (families.DURATION, answers.duration),
            ):
                page.spread(family, pair, histogram.distribution)
            page.add(families.TOKENS, (*pair, "prompt"), answers.prompt_tokens)
            page.add(families.TOKENS, (*pair, "completion"), answers.completion_tokens)
            for scope, joules in answers.joules.items():
                page.add(families.INFERENCE_ENERGY, (*pair, scope), joules)
            for scope, count in answers.energy_tokens.items():
                page.add(families.ENERGY_TOKENS, (*pair, scope), count)

    def _of(self, device_key: str, model: str) -> _Answers:
        pair = (device_key, model)
        if pair not in self._answers and len(self._answers) >= MOST_MODELS:
            pair = (device_key, OTHER)
        return self._answers.setdefault(pair, _Answers())
