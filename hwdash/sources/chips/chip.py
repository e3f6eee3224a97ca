"""One device of a profile: its facts, and its samples over time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from hwdash.core.clock import Clock
from hwdash.core.device import Device, MemoryPool
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Fault, FaultLevel, Sample
from hwdash.core.text import sanitise_line
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.chips.describe import describe, facts_of
from hwdash.sources.chips.fact import holds_at
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.gauge import Gauge
from hwdash.sources.chips.pids import PidList
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.pool_reader import PoolReader, memory_readings
from hwdash.sources.chips.profile import Profile, StatusWord
from hwdash.sources.chips.slow_reader import SlowReader, missing
from hwdash.sources.chips.throttle import Throttler, ThrottleState
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree


class AnchorMissing(Exception):
    """The device lacks a directory that its profile cannot do without. The message names it."""


class Chip:
    """One device. `describe` is called by the thread that looks for devices until it has succeeded once, `read` by the
    device's own, which describes it anew after `outdate`: should its driver hang, only that thread hangs with it.

    *tree* is confined to what a profile may read, *system* gives the names of processes. Without *beside* slow metrics
    are read where they stand, for a check that can wait. ``throttle_states`` are those of the newest sample, one for each of
    ``throttlers``; ``resting`` is why nothing but the device's state was read for it.
    """

    def __init__(
        self,
        profile: Profile,
        folder: str,
        instance: str,
        tree: Tree,
        system: Tree,
        clock: Clock,
        *,
        beside: bool = True,
    ) -> None:
        self.profile = profile
        self.folder = folder
        self.instance = instance
        self.gauges = [Gauge(metric) for metric in profile.metrics if not (metric.slow and beside)]
        self.pool_readers = [PoolReader(pool) for pool in profile.pools]
        self.throttlers = [Throttler(entry) for entry in profile.throttle]
        self.pids = PidList(profile.pids, system) if profile.pids is not None else None
        self.throttle_states: list[ThrottleState] = []
        self.resting: Absent | None = None
        self._tree = tree
        self._clock = clock
        self._slow = [Gauge(metric) for metric in profile.metrics if metric.slow and beside]
        self._slow_reader = SlowReader(self._read_slow, clock, f"hwdash-{profile.id}-slow") if self._slow else None
        self._place = Place(folder, instance)
        self._facts: Mapping[str, str] = {}
        self._stale = self._slow_stale = True
        self._described: Device | None = None
        self._outdated = False
        self._warm = False

    @property
    def device(self) -> Device | None:
        """The facts as of the newest `describe`; None before the first, and once the directory is no such device."""
        return self._described

    @property
    def place(self) -> Place:
        """Where the files of the newest `read` are."""
        return self._place

    @property
    def facts(self) -> Mapping[str, str]:
        """What the device said of itself at the newest `describe`."""
        return self._facts

    def outdate(self) -> None:
        """Have the next `read` of the device, once it is awake, describe it anew."""
        self._outdated = True

    def describe(self, files: FileReads) -> Device:
        """The device's facts as they are now; little but its identity while it sleeps. Raises `AnchorMissing`."""
        place = Place(self.folder, self.instance)
        missing_anchor = place.find_anchors(self.profile.anchors, files, quietly=True)
        if awake := not self._sleeps(place, files):
            missing_anchor = place.find_anchors(self.profile.anchors, files)
        if missing_anchor:
            raise AnchorMissing(missing_anchor)
        self._facts = facts_of(self.profile, place, files)
        self._stale = self._slow_stale = True
        self._outdated = not awake
        self._described = describe(self.profile, place, self._facts, files, awake=awake)
        return self._described

    def read(self, key: str, files: FileReads | None = None) -> Sample:
        """One sample under *key*, through *files* where the caller wants to see what was read. Raises `DeviceLost`."""
        files, taken_at = files or FileReads(self._tree, self._clock), self._clock.now()
        if not self._tree.is_folder(self.folder):
            self._rest(Absent.DEVICE_LOST)
            self._outdated = True  # another device may come to be there
            raise DeviceLost(f"/{sanitise_line(self.folder)} is gone")
        if self._stale:
            self._place = Place(self.folder, self.instance)
            self._place.find_anchors(self.profile.anchors, files, quietly=True)
        if self._sleeps(self._place, files):
            return self._resting(key, files, taken_at, Absent.SUSPENDED, ())
        faults = self._status(files)
        if any(fault.level is FaultLevel.STALLED for fault in faults):
            return self._resting(key, files, taken_at, Absent.ERROR, faults)
        if self._outdated:
            self._renew(files)
        self._check_key(key)
        if self._stale:
            self._stale = False
            self._aim(files)
        self.resting = None
        return self._awake(key, files, taken_at, faults)

    def close(self) -> None:
        """Let go of the thread for slow metrics."""
        if self._slow_reader is not None:
            self._slow_reader.close()

    def _renew(self, files: FileReads) -> None:
        """Describe the device anew, unless its directory is none any more."""
        place = Place(self.folder, self.instance)
        try:
            if not all(holds_at(condition, place, files) for condition in self.profile.match.require):
                raise DeviceLost(f"/{sanitise_line(self.folder)} is no device of {self.profile.id} any more")
            self.describe(files)
        except (AnchorMissing, DeviceLost) as error:
            self._rest(Absent.DEVICE_LOST)
            self._described = None
            if isinstance(error, AnchorMissing):
                raise DeviceLost(f"/{sanitise_line(self.folder)} has no {error} any more") from None
            raise

    def _check_key(self, key: str) -> None:
        """Raise `DeviceLost` when what is in the directory is not, or no more, the device *key*."""
        own = self._described.key if self._described is not None else None
        if own is None or (key != own and not key.startswith(f"{own}@")):
            self._rest(Absent.DEVICE_LOST)
            raise DeviceLost(f"/{sanitise_line(self.folder)} is no longer {key}")

    def _aim(self, files: FileReads) -> None:
        self._place.find_anchors(self.profile.anchors, files)
        for gauge in self.gauges:
            gauge.aim(self._place, files, self._facts)
        for pool_reader in self.pool_readers:
            pool_reader.aim(self._place, files, self._facts)
        for throttler in self.throttlers:
            throttler.aim(self._place, files)
        if self.pids is not None:
            self.pids.aim(self._place, files)

    def _sleeps(self, place: Place, files: FileReads) -> bool:
        return any(holds_at(condition, place, files) for condition in self.profile.skip_when)

    def _awake(self, key: str, files: FileReads, taken_at: datetime, faults: tuple[Fault, ...]) -> Sample:
        readings: dict[str, Reading] = {}
        for gauge in self.gauges:
            _put(readings, gauge, gauge.read(files))
        watched = list(self.gauges)
        if self._slow_reader is not None:
            latest = self._slow_reader.latest()
            watched += self._slow if latest else []  # what is not read in time is not known to stand still
            for gauge in self._slow:
                _put(readings, gauge, (latest or {}).get(gauge.metric.name, missing(latest)))
        pools = self._memory(readings, files)
        self.throttle_states = [throttler.read(files) for throttler in self.throttlers]
        told = [state for state in self.throttle_states if state.absent is None]
        seconds: dict[ThrottleReason, float] = {}
        for state in told:
            for reason, value in state.seconds.items():
                seconds[reason] = seconds.get(reason, 0.0) + value
        stalls = (gauge.fault() for gauge in watched)
        return Sample(
            key=key,
            monotonic_s=files.now_s,
            taken_at=taken_at,
            readings=readings,
            pools=pools,
            throttle_flags=frozenset[ThrottleReason]().union(*(state.flags for state in told)) if told else None,
            throttle_seconds=seconds,
            unknown_flags=", ".join(words for state in told for words in state.unknown) or None,
            throttle_known=frozenset[ThrottleReason]().union(*(state.known for state in told)),
            processes=self.pids.read(files) if self.pids is not None else None,
            faults=(*faults, *(fault for fault in stalls if fault is not None), *self._warmth(readings)),
            notices=tuple(notice for state in told for notice in state.notices),
        )

    def _memory(self, readings: dict[str, Reading], files: FileReads) -> tuple[MemoryPool, ...]:
        pools = tuple(pool for one in self.pool_readers if (pool := one.read(files)) is not None)
        if self.pool_readers:
            for name, reading in memory_readings(self.pool_readers).items():
                readings.setdefault(name, reading)
        return pools

    def _resting(
        self, key: str, files: FileReads, taken_at: datetime, reason: Absent, faults: tuple[Fault, ...]
    ) -> Sample:
        """A sample of a device that must not, or cannot, be read now."""
        self._rest(reason)
        self.resting = reason
        readings: dict[str, Reading] = {metric.name: reason for metric in self.profile.metrics if not metric.optional}
        if self.profile.pools:
            readings |= dict.fromkeys(("memory_used_bytes", "memory_total_bytes"), reason)
        processes = reason if self.pids is not None else None
        return Sample(key, files.now_s, taken_at, readings, processes=processes, faults=faults)

    def _rest(self, reason: Absent) -> None:
        self._stale = True  # what is found anew after a rest may have moved
        self._warm = False
        for gauge in self.gauges:
            gauge.rest(reason)
        for throttler in self.throttlers:
            throttler.rest()

    def _status(self, files: FileReads) -> tuple[Fault, ...]:
        status = self.profile.status
        path = self._place.path(status.path, files) if status is not None else None
        text = files.first(path, status.parse) if status is not None and path is not None else Absent.NOT_SUPPORTED
        if status is None or isinstance(text, Absent):
            return ()
        meaning = status.mapping.get(text, status.other)
        shown = f"its driver says {sanitise_line(text, 60)!r}"
        if meaning is StatusWord.FAILED:
            return (Fault("status_failed", f"{shown}: it cannot be used", FaultLevel.FAILED),)
        if meaning is StatusWord.RESETTING:
            return (Fault("status_resetting", f"{shown}: nothing is read until that is over", FaultLevel.STALLED),)
        if meaning is None:
            return (Fault("status_unknown", f"{shown}, which the profile {self.profile.id} does not explain"),)
        return ()

    def _warmth(self, readings: dict[str, Reading]) -> tuple[Fault, ...]:
        """The margin of a hotspot, and a warning where the profile wants one earlier than health does."""
        limits = self._described.limits if self._described is not None else None
        slowdown = limits.temperature_slowdown_c if limits is not None else None
        temperature = readings.get("temperature_c", readings.get("hotspot_temperature_c"))
        if slowdown is None or not is_present(temperature):
            return ()
        margin = slowdown - temperature
        if "temperature_c" not in readings:
            readings.setdefault("temperature_margin_c", margin)
        wanted = self.profile.edges.warm_margin_c
        if wanted is None:
            return ()
        self._warm = margin <= wanted + (1.0 if self._warm else 0.0)
        if not self._warm:
            return ()
        words = f"{margin:.0f} °C below the slowdown at {slowdown:.0f} °C; its profile warns from {wanted:g} °C on"
        return (Fault("warm_margin", words),)

    def _read_slow(self) -> Mapping[str, Reading]:
        """One round of the slow metrics, on their own thread."""
        files = FileReads(self._tree, self._clock)
        place = Place(self.folder, self.instance)
        place.find_anchors(self.profile.anchors, files, quietly=True)
        if self._sleeps(place, files):
            for gauge in self._slow:
                gauge.rest(Absent.SUSPENDED)
            return {gauge.metric.name: Absent.SUSPENDED for gauge in self._slow}
        if self._slow_stale:
            self._slow_stale = False
            place.find_anchors(self.profile.anchors, files)
            for gauge in self._slow:
                gauge.aim(place, files, self._facts)
        return {gauge.metric.name: gauge.read(files) for gauge in self._slow}


def _put(readings: dict[str, Reading], gauge: Gauge, reading: Reading) -> None:
    """Keep *reading*; what is optional and not there is no metric of the device at all."""
    if not (gauge.metric.optional and reading is Absent.NOT_SUPPORTED):
        readings[gauge.metric.name] = reading
