"""A recording in the place of hardware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwdash.core.device import Device
from hwdash.core.health import HealthState
from hwdash.core.reading import is_present
from hwdash.core.recording import Frame
from hwdash.core.sample import FaultLevel, Notice, Sample
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.replay_clock import Place, ReplayClock
from hwdash.sources.replay_recording import Recording
from hwdash.sources.source import DeviceLost

_MAX_SKIPPED = 1000


class NoAnswer(TimeoutError):
    """The device did not answer, at that place of the recording."""


class ReplaySource:
    """The devices that the recorded session had from the source *name*, as they were at the time of *clock*.

    What was derived when it was recorded (power from energy, rates) is taken as it is; throttling is given as the
    flags and counters that were recorded. While the clock has not reached the next snapshot, or the device had not
    been read anew, the sample is the same object, which ages. What was lost is lost, with the recorded words; what
    did not answer until it was stale does not answer here either.
    """

    per_device = False

    def __init__(
        self, recording: Recording, clock: ReplayClock, name: str, *, others: frozenset[str] | None = None
    ) -> None:
        """With *others*, the names of all other sources, it also takes the devices that belong to none of them."""
        self.name = name
        self._recording = recording
        self._clock = clock
        self._others = others
        self._samples: dict[str, tuple[int, Sample]] = {}
        self._jumps = clock.jumps
        self._problem = ""

    @property
    def problem(self) -> str:
        """What the source said when it was recorded."""
        return self._problem

    def discover(self) -> Sequence[Device]:
        """The devices of the present snapshot, in the recorded order."""
        frame = self._frame(self._clock.place)[1]
        problems = [source.problem for source in frame.snapshot.sources if source.name == self.name and source.problem]
        self._problem = "; ".join(problems)
        return tuple(replace(status.device, id="") for status in frame.snapshot.devices if self._is_own(status.device))

    def read(self, key: str, fresh: bool = False) -> Sample:
        """The sample of *key* at the present place. Raises `DeviceLost` where it was lost, or not there (any more)."""
        place = self._clock.place
        if self._jumps != place.jumps:
            self._jumps = place.jumps
            self._samples.clear()
        number, frame = self._frame(place)
        known_at, known = self._samples.get(key, (-1, None))
        if known is not None and known_at == number:
            return known
        status = next((status for status in frame.snapshot.devices if status.device.key == key), None)
        if status is None:
            raise DeviceLost("not in the recording at this time")
        failed = any(fault.level is FaultLevel.FAILED for fault in status.faults)
        if status.health.state is HealthState.LOST and not failed:  # one that failed still has readings
            raise DeviceLost(_after(status, "lost: ") or "the device is gone")
        if status.sampled_at is None or (status.health.state is HealthState.STALE and not _has_numbers(status)):
            raise NoAnswer(_after(status, ": ") or "no sample")
        if known is None or known_at > number or known.taken_at != status.sampled_at:
            known = _sample(status, place.offset_s + frame.position_s, self._notices(key, known_at, number))
        self._samples[key] = (number, known)
        return known

    def close(self) -> None:
        """Let the recording go, also while it is still being read."""
        self._recording.close()

    def _frame(self, place: Place) -> tuple[int, Frame]:
        number = self._recording.at(place.position_s)
        return number, self._recording.frame(number)

    def _is_own(self, device: Device) -> bool:
        return device.source == self.name or (self._others is not None and device.source not in self._others)

    def _notices(self, key: str, known_at: int, number: int) -> tuple[Notice, ...]:
        """What the device reported since the snapshot that was read last, or with this one after a jump."""
        first = known_at + 1 if 0 <= known_at < number <= known_at + _MAX_SKIPPED else number
        return tuple(
            Notice(event.words, event.severity)
            for passed in range(first, number + 1)
            for event in self._recording.events(passed)
            if event.key == key
        )


class RecordingSource:
    """The recording itself, in a list of sources: it has no devices, and tells what is wrong with the file."""

    name = "recording"
    per_device = False

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @property
    def problem(self) -> str:
        """What is wrong with the recording, as far as it has been read."""
        return self._recording.problem

    def discover(self) -> Sequence[Device]:
        """None."""
        return ()

    def read(self, key: str, fresh: bool = False) -> Sample:
        """Raises `DeviceLost`."""
        raise DeviceLost("a recording is no device")

    def close(self) -> None:
        """Let the recording go, also while it is still being read."""
        self._recording.close()


def replay_sources(recording: Recording, clock: ReplayClock) -> tuple[ReplaySource | RecordingSource, ...]:
    """A source for each one that the recorded session had, in its order, and last the recording itself."""
    snapshot = recording.frame(0).snapshot
    names = dict.fromkeys(source.name for source in snapshot.sources)
    names |= dict.fromkeys(status.device.source for status in snapshot.devices)
    names.pop(RecordingSource.name, None)  # of a replay that was recorded
    first, *rest = list(names) or ["replay"]
    return (
        ReplaySource(recording, clock, first, others=frozenset(rest)),
        *(ReplaySource(recording, clock, name) for name in rest),
        RecordingSource(recording),
    )


def _has_numbers(status: DeviceStatus) -> bool:
    return any(is_present(reading) for reading in status.readings.values())


def _after(status: DeviceStatus, mark: str) -> str:
    """The driver's words in the first reason of the recorded health."""
    reason = next(iter(status.health.reasons), "")
    return reason.partition(mark)[2] or reason


def _sample(status: DeviceStatus, monotonic_s: float, notices: tuple[Notice, ...]) -> Sample:
    """What was read of *status*, which was on show at *monotonic_s*."""
    assert status.sampled_at is not None
    unknown = next((item for item in status.throttle if item.reason is ThrottleReason.UNKNOWN), None)
    flags = frozenset(item.reason for item in status.throttle if item.active)
    return Sample(
        key=status.device.key,
        monotonic_s=monotonic_s - (status.age_s or 0.0),
        taken_at=status.sampled_at,
        readings=status.readings,
        pools=status.pools,
        throttle_flags=flags if status.throttle else None,
        throttle_seconds={item.reason: item.seconds for item in status.throttle if item.seconds is not None},
        unknown_flags=None if unknown is None else unknown.detail,
        throttle_known=frozenset(item.reason for item in status.throttle),
        clock_is_set=status.clock_is_set,
        processes=status.processes,
        faults=status.faults,
        notices=notices,
    )
