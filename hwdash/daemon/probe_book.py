"""What is known of devices by their probes: the answer to expect, the usual pace, and how far they can be trusted."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median

from hwdash.core.probe import NEWEST_PROBES, ProbeOutcome, ProbeResult, Usual, usual_of
from hwdash.store.probe import MOST_LEARNT, StoredProbe

LEARNT = timedelta(days=7)
UPTIME = timedelta(days=1)
WRONG_BARS = 2
"""So many wrong answers in a row keep prompts away from a device that did not name it."""
_MOST_PAIRS = 1024
_MOST_SETTINGS = 8

Setting = tuple[str | None, str]
"""The precision, and the driver and versions: where one of them changes, the answer and the pace may."""


@dataclass(slots=True)
class _Known:
    """What good probes in one setting were like. ``newest_s`` are the gaps of those that had the device to themselves."""

    digest: str = ""
    on: date | None = None
    gaps: deque[tuple[datetime, float]] = field(default_factory=lambda: deque(maxlen=MOST_LEARNT))
    newest_s: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST_PROBES))
    _usual: Usual | None = None
    _renew: bool = False

    def learn(self, at: datetime, gap_s: float) -> None:
        self.gaps.append((at, gap_s))
        while self.gaps[0][0] < at - LEARNT:
            self.gaps.popleft()
        self._renew = True

    @property
    def usual(self) -> Usual | None:
        """The usual pace. Sorted only when asked for: after a start thousands of probes are learnt in a row."""
        if self._renew:
            self._renew, self._usual = False, usual_of(gap for _, gap in self.gaps)
        return self._usual


@dataclass(slots=True)
class _Pair:
    """A model on a device. ``bad`` and ``wrong`` count the newest probes in a row that were not well, that were wrong."""

    newest: ProbeResult
    setting: Setting
    bad: int = 0
    wrong: int = 0
    outcomes: deque[tuple[datetime, bool]] = field(default_factory=lambda: deque(maxlen=MOST_LEARNT))
    known: OrderedDict[Setting, _Known] = field(default_factory=OrderedDict)

    def of(self, setting: Setting) -> _Known:
        found = self.known.setdefault(setting, _Known())
        self.known.move_to_end(setting)
        while len(self.known) > _MOST_SETTINGS:
            self.known.popitem(last=False)
        return found


class ProbeBook:
    """Takes in probes, oldest first, and tells what follows from them. Keys are those of devices."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()

    def seed(self, probes: Iterable[StoredProbe]) -> None:
        """Take in *probes* of an earlier life."""
        for probe in probes:
            self.add(probe.result, probe.driver)

    def add(self, result: ProbeResult, driver: str, *, quiet: bool | None = None) -> None:
        """Take in *result*. Its drift counts where it was *quiet* (default: where it has one): nothing else was going on."""
        setting = (result.dtype, driver)
        name = (result.device_key, result.model)
        pair = self._pairs.setdefault(name, _Pair(result, setting))
        self._pairs.move_to_end(name)
        while len(self._pairs) > _MOST_PAIRS:
            self._pairs.popitem(last=False)
        well = result.outcome is ProbeOutcome.OK
        pair.newest = result
        pair.bad = 0 if well else pair.bad + 1
        pair.wrong = pair.wrong + 1 if result.outcome is ProbeOutcome.WRONG else 0
        pair.outcomes.append((result.at, well))
        if not well:
            return
        pair.setting = setting
        known = pair.of(setting)
        known.digest, known.on = result.digest, result.at.astimezone().date()
        if result.itl_s is not None and result.itl_s > 0:
            known.learn(result.at, result.itl_s)
            if quiet or (quiet is None and result.drift is not None):
                known.newest_s.append(result.itl_s)

    def expected(self, key: str, model: str, setting: Setting, today: date | None = None) -> str:
        """The digest of the last good answer in that setting, and on the day *today* where one is given; empty: none yet."""
        pair = self._pairs.get((key, model))
        known = None if pair is None else pair.known.get(setting)
        return "" if known is None or (today is not None and known.on != today) else known.digest

    def usual(self, key: str, model: str, setting: Setting) -> Usual | None:
        """The usual pace in that setting; None until there were enough good probes."""
        pair = self._pairs.get((key, model))
        known = None if pair is None else pair.known.get(setting)
        return None if known is None else known.usual

    def pace(self, key: str, model: str) -> tuple[float | None, float | None]:
        """The baseline of the setting of the last good probe, and the drift of the newest probes against it."""
        pair = self._pairs.get((key, model))
        known = None if pair is None else pair.known.get(pair.setting)
        if known is None or known.usual is None:
            return None, None
        baseline_s = known.usual.baseline_s
        return baseline_s, median(known.newest_s) / baseline_s - 1.0 if known.newest_s else None

    def drifted(self, key: str, model: str) -> float | None:
        """The drift of the newest probes where it is more than chance; None where it is not."""
        pair = self._pairs.get((key, model))
        known = None if pair is None else pair.known.get(pair.setting)
        _, drift = self.pace(key, model)
        if known is None or known.usual is None or drift is None or len(known.newest_s) < NEWEST_PROBES:
            return None
        return drift if drift > known.usual.limit else None

    def newest(self, key: str, model: str) -> ProbeResult | None:
        """The newest probe."""
        pair = self._pairs.get((key, model))
        return None if pair is None else pair.newest

    def bad(self, key: str, model: str) -> int:
        """How many of the newest probes in a row were not well."""
        pair = self._pairs.get((key, model))
        return 0 if pair is None else pair.bad

    def up_ratio(self, key: str, model: str, now: datetime) -> float | None:
        """The share of the probes of the last 24 h that were well; None where there were none."""
        pair = self._pairs.get((key, model))
        if pair is None:
            return None
        while pair.outcomes and pair.outcomes[0][0] < now - UPTIME:
            pair.outcomes.popleft()
        return sum(well for _, well in pair.outcomes) / len(pair.outcomes) if pair.outcomes else None

    def barred(self, key: str, model: str) -> str:
        """Why prompts for *model* that name no device should not go there; empty when they may."""
        pair = self._pairs.get((key, model))
        if pair is None or pair.wrong < WRONG_BARS:
            return ""
        return (
            f"its answers differ from before: wrong tokens in its last {pair.wrong} probes, "
            f"the newest at {_time(pair.newest)}; see: hwdash history uptime"
        )

    def trouble(self, key: str, model: str) -> str:
        """What the newest probe came to, where it was not well; else empty."""
        pair = self._pairs.get((key, model))
        if pair is None or not pair.bad:
            return ""
        if pair.newest.outcome is ProbeOutcome.WRONG:
            return f"its probe at {_time(pair.newest)} was answered with wrong tokens"
        return f"its probe at {_time(pair.newest)} failed: {pair.newest.error or 'no reason told'}"

    def sentences(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        """A sentence for each of *pairs* (key and model) whose newest probes were not well."""
        found = []
        for key, model in pairs:
            if not (count := self.bad(key, model)):
                continue
            newest = self._pairs[key, model].newest
            what = newest.error if newest.outcome is ProbeOutcome.FAILED else "the tokens differ from those of before"
            probes = "the last probe" if count == 1 else f"the last {count} probes"
            found.append(f"{newest.device}: {probes} of {model} went wrong, the newest at {_time(newest)}: {what}")
        return tuple(found)


def _time(result: ProbeResult) -> str:
    return f"{result.at.astimezone():%H:%M}"
