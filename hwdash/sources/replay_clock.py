"""Recorded time, for everything that watches a recording as if it were hardware."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.sources.replay_recording import Recording

PRE_ROLL_S = 60.0
"""Before the place that is jumped to, so many seconds are gone through, for what looks back as far."""

_ZERO_S = 1000.0
_OVERDUE_S = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where time stands at one moment: in seconds from the start, after so many jumps.

    ``offset_s`` is what the monotonic time has on top of a place, until the next jump.
    """

    position_s: float
    offset_s: float
    jumps: int


class ReplayClock:
    """The time of the snapshot on show; a `hwdash.core.clock.Clock`. Safe to use from several threads.

    It stands still while one snapshot is made of what was recorded, and moves to the next place in `turn`: by then
    ``speed`` recorded seconds have passed for each second, none while it is paused or at the end, and fewer where
    making snapshots takes longer than it should: rather than leave some out, the replay goes slower. Within half an
    interval of a recorded snapshot it shows that snapshot's very time, so that ages are the recorded ones. The
    monotonic time goes on growing when the recording is wound back. ``jumps`` counts the jumps so far: times of
    before and after one have nothing to do with each other.
    """

    def __init__(
        self, recording: Recording, *, speed: float = 1.0, paused: bool = False, real: Clock = SYSTEM_CLOCK
    ) -> None:
        self._recording = recording
        self._real = real
        self._lock = threading.Lock()
        self._speed = speed
        self._paused = paused
        self._offset_s = _ZERO_S
        self._place_s = 0.0  # the place at the real time beside it
        self._place_real_s = self._turned_real_s = real.monotonic()
        self._shown_s = 0.0
        self._step_s: float | None = None
        self.jumps = 0

    @property
    def speed(self) -> float:
        """Recorded seconds per second."""
        return self._speed

    @property
    def paused(self) -> bool:
        """It was told to stand still."""
        return self._paused

    @property
    def position_s(self) -> float:
        """The place on show, in seconds from the start of the recording."""
        with self._lock:
            return self._current()

    @property
    def time_s(self) -> float:
        """The place that time stands at: the one on show, or one on the way there after a jump."""
        return self.place.position_s

    @property
    def place(self) -> Place:
        """`time_s` and what belongs to it."""
        with self._lock:
            position_s = self._current() if self._step_s is None else self._step_s
            return Place(position_s, self._offset_s, self.jumps)

    @property
    def ended(self) -> bool:
        """It stands at the end of a recording that is read to its end."""
        return self._recording.complete and self._shown_s >= self._recording.duration_s

    def monotonic(self) -> float:
        """Recorded seconds that never run backwards."""
        place = self.place
        return place.offset_s + place.position_s

    def now(self) -> datetime:
        """The recorded time in UTC."""
        return self.at(self.time_s)

    def at(self, position_s: float) -> datetime:
        """The recorded time in UTC of a place."""
        return self._recording.header.started_at + timedelta(seconds=round(position_s, 3))

    def turn(self, lead_s: float) -> None:
        """What was on show is made: move to the place that will be reached *lead_s* real seconds from now."""
        with self._lock:
            if not self._paused and self._step_s is None:
                self._turn(self._real.monotonic(), lead_s)

    def jump(self, position_s: float) -> None:
        """Go to a place at once. The monotonic time moves on far enough for what is gone through before that place."""
        with self._lock:
            before_s = self._offset_s + self._shown_s
            place_s = self._snapped(min(max(0.0, position_s), self._recording.duration_s))
            self._offset_s = before_s + PRE_ROLL_S + 1.0 - place_s
            self.jumps += 1
            self._stand(place_s)

    def step(self, position_s: float) -> None:
        """Let time stand at a place before the one that was jumped to, on the way there."""
        with self._lock:
            self._step_s = position_s

    def arrive(self) -> None:
        """Be at the place that was jumped to; time goes on from there."""
        with self._lock:
            self._step_s = None
            self._stand(self._shown_s)

    def set_speed(self, speed: float) -> None:
        """Go on from the place on show at another speed."""
        with self._lock:
            self._speed = speed
            self._stand(self._shown_s)

    def set_paused(self, paused: bool) -> None:
        """Stand still at the place on show, or go on from it."""
        with self._lock:
            self._paused = paused
            self._stand(self._shown_s)

    def _current(self) -> float:
        real_s = self._real.monotonic()
        if not self._paused and self._step_s is None and real_s - self._turned_real_s > _OVERDUE_S:
            # Nobody turns it: whatever failed there, time goes on.
            self._turn(real_s, 0.0)
        return self._shown_s

    def _stand(self, place_s: float) -> None:
        self._shown_s = self._place_s = place_s
        self._place_real_s = self._turned_real_s = self._real.monotonic()

    def _turn(self, real_s: float, lead_s: float) -> None:
        self._turned_real_s = real_s
        passed_s = real_s + lead_s - self._place_real_s
        step_s = (min(passed_s, lead_s) if lead_s else passed_s) * self._speed
        self._place_s = min(self._place_s + step_s, self._recording.duration_s)
        self._place_real_s = real_s + lead_s
        self._shown_s = max(self._shown_s, self._snapped(self._place_s))

    def _snapped(self, place_s: float) -> float:
        """The time of the nearest recorded snapshot, or the place itself far from any."""
        nearest_s = self._recording.position(self._recording.at(place_s))
        return nearest_s if abs(nearest_s - place_s) <= 0.5 * self._recording.header.interval_s else place_s
