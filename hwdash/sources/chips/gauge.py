"""One metric of one device over time: counters followed, guards heeded, values kept for as long as they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Fault, FaultLevel
from hwdash.sources.chips.fact import passes
from hwdash.sources.chips.figure import Figure, aimed, channel_of
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Counter, Limit, Metric
from hwdash.sources.chips.origin import Number, Origin, Parse, Template
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.template import parse_template
from hwdash.sources.chips.value import number_of
from hwdash.sources.rate import Rate, unwrapped_growth

_EARLY = 0.9
"""A tick this share of ``min_interval`` after the last read may read again: ticks are not to the millisecond."""


class Meter:
    """The counters of one metric, file by file, wraps taken out. For use by one thread."""

    def __init__(self, counter: Counter, *, rate: bool) -> None:
        self._counter = counter
        self._rate = rate
        self._modulus: float | None = None if counter.bits is None else 2.0**counter.bits
        self._rates: dict[tuple[str, int], Rate] = {}
        self._totals: dict[tuple[str, int], tuple[float, float]] = {}

    def aim(self, place: Place, files: FileReads) -> None:
        """Find out where the counters wrap."""
        if self._counter.max_path is None:
            return
        path = place.path(self._counter.max_path, files)
        text = Absent.NOT_SUPPORTED if path is None else files.first(path, None)
        largest = text if isinstance(text, Absent) else number_of(Parse().number, text)
        modulus = None if isinstance(largest, Absent) or largest <= 0 else float(largest) + 1
        if modulus != self._modulus:
            self._modulus = modulus
            self.forget()

    def forget(self) -> None:
        """The device was reset or asleep: what was counted before says nothing about now."""
        self._rates.clear()
        self._totals.clear()

    def follow(self, which: tuple[str, int], value: Reading, at_s: float) -> Reading:
        """The growth per second up to *value*, or with every wrap added the whole count."""
        if self._rate:
            if (rate := self._rates.get(which)) is None:
                rate = self._rates[which] = Rate(self._modulus)
            return rate.update(value, at_s)
        if not is_present(value):
            return value
        last, wrapped = self._totals.get(which, (value, 0.0))
        growth = unwrapped_growth(last, value, self._modulus)
        if growth is None:
            wrapped = 0.0
        elif value < last:
            wrapped += self._modulus or 0.0
        self._totals[which] = (value, wrapped)
        return value + wrapped


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where a counter stands, since when, and when that was last seen, on the monotonic clock."""

    value: float
    since_s: float
    seen_s: float


class Gauge:
    """One metric of a device. For use by one thread."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._figure = Figure(metric.number, rate=metric.rate)
        self._meter = Meter(metric.counter, rate=metric.rate) if metric.counter is not None else None
        self._guard: str | None = None
        self._stamp: str | None = None
        self._stamped = ""
        self._reading: Reading = Absent.FIRST_SAMPLE
        self._read_at_s = float("-inf")
        self._stand: _Stand | None = None

    @property
    def tried(self) -> str:
        """The file that the newest read ended with."""
        return self._figure.tried

    def aim(self, place: Place, files: FileReads, facts: Mapping[str, str]) -> None:
        """Find the files at *place*."""
        self._figure.aim(place, files, facts)
        if self._meter is not None:
            self._meter.aim(place, files)
        own = next(iter(self._figure.paths), None)
        guard, stamp = self.metric.guard, self.metric.stamp
        self._guard = own if guard is None or guard.path is None else place.path(guard.path, files)
        self._stamp = own if stamp is None or stamp.path is None else place.path(stamp.path, files)

    def rest(self, reason: Absent) -> None:
        """The device cannot be read for *reason*: the counters begin anew afterwards."""
        if self._meter is not None:
            self._meter.forget()
        self._reading, self._read_at_s, self._stamped, self._stand = reason, float("-inf"), "", None

    def read(self, files: FileReads) -> Reading:
        """The metric now; the value before where ``min_interval`` or an unchanged time stamp says that it still is."""
        if files.now_s - self._read_at_s < self.metric.min_interval_s * _EARLY:
            return self._reading
        self._read_at_s = files.now_s
        if self._is_same_stamp(files):
            if self._stand is not None:
                self._stand = replace(self._stand, seen_s=files.now_s)
            return self._reading
        if (reason := self._why_not(files)) is not None:
            self._reading = reason
            return reason
        self._reading = self._bounded(self._figure.read(files, self._meter.follow if self._meter else None))
        self._watch(files.now_s)
        return self._reading

    def fault(self) -> Fault | None:
        """What is wrong when the counter was seen to stand still for longer than it may. May be asked by any thread."""
        limit_s, stand = self.metric.stalled_after_s, self._stand
        if limit_s is None or stand is None or stand.seen_s - stand.since_s < limit_s:
            return None
        stood_s = stand.seen_s - stand.since_s
        words = f"{self.metric.id} has stood at {stand.value:g} for {stood_s:.0f} s: the chip does not move"
        return Fault(f"{self.metric.id}_stalled", words, FaultLevel.STALLED)

    def _is_same_stamp(self, files: FileReads) -> bool:
        stamp = self.metric.stamp
        if stamp is None or self._stamp is None:
            return False
        text = files.first(self._stamp, stamp.parse)
        if isinstance(text, Absent):
            return False
        same = text == self._stamped
        self._stamped = text
        return same

    def _why_not(self, files: FileReads) -> Absent | None:
        """Why the value does not count, by the guard; None when it does."""
        guard = self.metric.guard
        if guard is None or self._guard is None:
            return None
        text = files.first(self._guard, guard.parse)
        if isinstance(text, Absent):
            return text
        return None if passes(guard, text) else Absent.BAD_VALUE

    def _bounded(self, reading: Reading) -> Reading:
        if isinstance(reading, Absent):
            return reading
        low, high = self.metric.bounds
        if self.metric.rate and high == 1.0 and 1.0 < reading <= 1.5:
            return 1.0  # the counter's steps are coarser than the clock's
        return reading if low <= reading <= high else Absent.BAD_VALUE

    def _watch(self, now_s: float) -> None:
        """Remember since when the counter stands where it stands."""
        if self.metric.stalled_after_s is None:
            return
        stand = self._stand
        if isinstance(self._reading, Absent):
            self._stand = None
        elif stand is None or self._reading != stand.value or (self.metric.rate and self._reading > 0):
            self._stand = _Stand(self._reading, now_s, now_s)
        else:
            self._stand = replace(stand, seen_s=now_s)


class Edge:
    """The largest value of a metric that the device states: a limit, read when the device is found."""

    def __init__(self, metric: Metric, limit: Limit) -> None:
        self._metric = metric
        self._limit = limit

    def read(self, place: Place, files: FileReads, facts: Mapping[str, str]) -> Reading:
        """The limit in its base unit."""
        low, high = self._metric.bounds
        reason: Reading = Absent.NOT_SUPPORTED
        for number in [self._limit.number] if self._limit.number is not None else self._beside(place, files, facts):
            reading = aimed(number, place, files, facts).read(files)
            if is_present(reading) and low < reading <= high:
                return reading
            reason = reading if isinstance(reading, Absent) else Absent.BAD_VALUE
        return reason

    def _beside(self, place: Place, files: FileReads, facts: Mapping[str, str]) -> list[Number]:
        """The files beside those of the metric."""
        figure = aimed(self._metric.number, place, files, facts)
        origin = next(iter(self._metric.number.origins), Origin(()))
        unit = self._limit.unit or origin.unit
        found = [f"/{channel_of(path)}{self._limit.suffix}" for path in figure.paths]
        return [
            Number((Origin((_as_template(path),), unit=unit, scale=origin.scale, offset=origin.offset),))
            for path in found
        ]


def _as_template(path: str) -> Template:
    """A path that was found, as a template without places to fill in."""
    escaped = "".join(f"[{character}]" if character in "*?[" else character for character in path)
    return parse_template(escaped.replace("{", "{{").replace("}", "}}"), path=False)
