"""Throttling that no flag shows: suspected where a device falls behind what is usual for itself.

The time is handed in; nothing here looks at a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

from hwdash.core.device import Device, DeviceKind, Limits
from hwdash.core.format import clock_text, seconds_text
from hwdash.core.health import HOT_MARGIN_C, SuspicionKind
from hwdash.core.probe import NEWEST_PROBES, Usual
from hwdash.core.reading import Reading, present
from hwdash.core.sample import Sample
from hwdash.core.snapshot import LastRequest
from hwdash.core.throttle import ThrottleActivity
from hwdash.monitor.baseline import UsualClock, UsualPace
from hwdash.monitor.episode import in_force
from hwdash.monitor.health import Suspect, memory_margin

BUSY_FROM = 0.5
"""A device is busy from this utilisation on …"""
CPU_BUSY_FROM = 0.9
"""… and a processor from this one: with fewer busy cores each of them runs faster."""
RECENT_S = 10.0
"""The busy time that is compared with what is usual; as long without work ends a suspicion."""
SLOW_CLOCK_FROM = 0.85
"""Suspected from below this share of the usual clock …"""
SLOW_CLOCK_UNTIL = 0.92
"""… until above this one."""
SLOW_ANSWER_FROM = 1.3
"""Suspected from above this multiple of the usual gap between tokens …"""
SLOW_ANSWER_UNTIL = 1.15
"""… until below this one."""
ANSWER_COUNTS_S = 600.0
"""For how long the newest answers say something of now."""
HOT_UNTIL_C = HOT_MARGIN_C + 2.0
"""A hot memory is hot until its margin is above this."""
EXPLAINED_S = 10.0
"""An answer this soon after a real throttle reason was slow for a known cause."""
SLOW_PROBES = NEWEST_PROBES
"""So many slow probes in a row are more than chance."""

_LEAST_STEP_S = 0.5
_LEAST_RECENT = 3
_LONGEST_STEP_S = 60.0
_BANDS = 20
_MOST_MODELS = 16


class Suspicion:
    """What is suspected of one device. Feed every new sample and every answer, in the order of their times."""

    def __init__(self, kind: DeviceKind) -> None:
        self._busy_from = CPU_BUSY_FROM if kind is DeviceKind.CPU else BUSY_FROM
        self._clock = _ClockSuspicion(banded=kind is DeviceKind.CPU)
        self._answers = _AnswerSuspicion()
        self._memory = _MemorySuspicion()
        self._probes = _ProbeSuspicion()
        self._explained_s = float("-inf")

    def observe(
        self, sample: Sample, readings: Mapping[str, Reading], throttle: tuple[ThrottleActivity, ...], device: Device
    ) -> tuple[Suspect, ...]:
        """The suspicions after *sample*, each with both numbers. A reason that limits explains a low clock."""
        now_s = sample.monotonic_s
        utilization, clock = present(readings.get("utilization")), present(readings.get("clock_hz"))
        explained = sample.clock_is_set or bool(in_force(throttle))
        if explained:
            self._explained_s = now_s
        busy = utilization is not None and utilization >= self._busy_from
        if explained:
            self._clock.forget_recent()
        elif busy and clock is not None and clock > 0 and utilization is not None:
            self._clock.work(now_s, clock, utilization)
        else:
            self._clock.rest(now_s)
        answers, memory = self._answers.words(now_s), self._memory.follow(now_s, busy, readings, device.limits)
        probes = self._probes.words(now_s)
        if not (self._clock.words or answers or memory or probes):
            return ()
        found = (
            Suspect(SuspicionKind.CLOCK, self._clock.words),
            Suspect(SuspicionKind.ANSWERS, answers),
            Suspect(SuspicionKind.MEMORY, memory),
            Suspect(SuspicionKind.PROBES, probes),
        )
        return tuple(suspect for suspect in found if suspect.words)

    def note(self, now_s: float, last: LastRequest) -> None:
        """An answer has finished on the device at *now_s*."""
        if last.itl_p50_s is not None and last.itl_p50_s > 0 and now_s - self._explained_s > EXPLAINED_S:
            self._answers.note(now_s, last.model, last.itl_p50_s)

    def note_probe(self, now_s: float, model: str, gap_s: float, usual: Usual, counts_s: float) -> None:
        """A probe has finished at *now_s* with *gap_s* from token to token; it says something for *counts_s* seconds."""
        explained = now_s - self._explained_s <= EXPLAINED_S
        self._probes.note(now_s, model, gap_s, usual, max(counts_s, ANSWER_COUNTS_S), explained=explained)

    def pause(self) -> None:
        """There are no samples for a while: what is usual stays, what was recent does not."""
        self._clock.forget_recent()


class _ClockSuspicion:
    """Busy clocks of the last seconds against the usual one, as shares of it; on a CPU each band of load has its own."""

    def __init__(self, *, banded: bool) -> None:
        self.words = ""
        self._banded = banded
        self._usual: dict[int, UsualClock] = {}
        self._recent: deque[tuple[float, float]] = deque()
        self._worked_s: float | None = None
        self._last_s = float("-inf")

    def work(self, now_s: float, clock_hz: float, utilization: float) -> None:
        band = min(int(min(utilization, 1.0) * _BANDS), _BANDS - 1) if self._banded else 0
        usual = self._usual.get(band)
        if usual is None:
            usual = self._usual[band] = UsualClock()
        if self._worked_s is not None and now_s > self._worked_s:
            usual.learn(clock_hz, min(now_s - self._worked_s, _LONGEST_STEP_S))
        self._worked_s = self._last_s = now_s
        hertz = usual.hertz
        if hertz is None or hertz <= 0:
            return
        recent = self._recent
        if recent and 0 <= now_s - recent[-1][0] < _LEAST_STEP_S:
            return
        recent.append((now_s, clock_hz / hertz))
        while len(recent) > _LEAST_RECENT and recent[1][0] <= now_s - RECENT_S:
            recent.popleft()
        if len(recent) >= _LEAST_RECENT and now_s - recent[0][0] >= RECENT_S:
            self._judge(median(share for _, share in recent), hertz)

    def rest(self, now_s: float) -> None:
        self._recent.clear()
        self._worked_s = None
        if self.words and now_s - self._last_s >= RECENT_S:
            self.words = ""

    def forget_recent(self) -> None:
        self._recent.clear()
        self._worked_s = None
        self.words = ""

    def _judge(self, share: float, hertz: float) -> None:
        before = bool(self.words)
        if share < SLOW_CLOCK_FROM or (before and share <= SLOW_CLOCK_UNTIL):
            self.words = f"clock {clock_text(share * hertz)} while busy, usually {clock_text(hertz)}"
        else:
            self.words = ""
        if bool(self.words) != before:
            self._recent.clear()  # each change rests on seconds of its own


class _AnswerSuspicion:
    """Gaps between tokens against the usual ones, by model."""

    def __init__(self) -> None:
        self._usual: dict[str, UsualPace] = {}
        self._slow: dict[str, tuple[float, str]] = {}

    def note(self, now_s: float, model: str, gap_s: float) -> None:
        usual = self._usual.pop(model, None) or UsualPace()
        self._usual[model] = usual  # the newest last: the first one is the longest unused
        if len(self._usual) > _MOST_MODELS:
            forgotten = next(iter(self._usual))
            del self._usual[forgotten]
            self._slow.pop(forgotten, None)
        usual.learn(gap_s)
        if (found := usual.compare()) is None:
            return
        newest_s, usual_s = found
        if newest_s > SLOW_ANSWER_FROM * usual_s or (model in self._slow and newest_s >= SLOW_ANSWER_UNTIL * usual_s):
            words = f"{seconds_text(newest_s)} a token of {model}, usually {seconds_text(usual_s)}"
            self._slow[model] = (now_s, words)
        else:
            self._slow.pop(model, None)

    def words(self, now_s: float) -> str:
        if not self._slow:
            return ""
        self._slow = {model: slow for model, slow in self._slow.items() if now_s - slow[0] < ANSWER_COUNTS_S}
        return "; ".join(words for _, words in self._slow.values())


class _ProbeSuspicion:
    """Probes against their baseline, by model: suspected after several slow ones in a row, until one is well again."""

    def __init__(self) -> None:
        self._slow: dict[str, tuple[int, float, str]] = {}

    def note(self, now_s: float, model: str, gap_s: float, usual: Usual, counts_s: float, *, explained: bool) -> None:
        count = self._slow.get(model, (0, 0.0, ""))[0]
        drift = gap_s / usual.baseline_s - 1.0
        if explained or drift <= (usual.limit / 2.0 if count >= SLOW_PROBES else usual.limit):
            self._slow.pop(model, None)
            return
        words = f"a probe of {model} takes {seconds_text(gap_s)} a token, at best {seconds_text(usual.baseline_s)}"
        self._slow[model] = (count + 1, now_s + counts_s, words)
        while len(self._slow) > _MOST_MODELS:
            del self._slow[next(iter(self._slow))]

    def words(self, now_s: float) -> str:
        if not self._slow:
            return ""
        self._slow = {model: slow for model, slow in self._slow.items() if now_s < slow[1]}
        return "; ".join(words for count, _, words in self._slow.values() if count >= SLOW_PROBES)


class _MemorySuspicion:
    """A memory that works near its limit: HBM slows down there, and no flag says so."""

    def __init__(self) -> None:
        self._hot = False
        self._busy_s = float("-inf")

    def follow(self, now_s: float, busy: bool, readings: Mapping[str, Reading], limits: Limits) -> str:
        margin = memory_margin(readings, limits)
        if margin is None or limits.memory_temperature_max_c is None:
            self._hot = False
            return ""
        if busy:
            self._busy_s = now_s
            self._hot = margin <= HOT_MARGIN_C or (self._hot and margin <= HOT_UNTIL_C)
        elif now_s - self._busy_s >= RECENT_S or margin > HOT_UNTIL_C:
            self._hot = False
        if not self._hot:
            return ""
        most = limits.memory_temperature_max_c
        return f"memory at {most - margin:.0f} °C while busy, limit {most:.0f} °C"
