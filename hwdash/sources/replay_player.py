"""What steers a recording that is played."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from hwdash.core.errors import UsageError
from hwdash.core.format import duration_text
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.snapshot import LastRequest, Snapshot
from hwdash.sources.replay_clock import PRE_ROLL_S, ReplayClock
from hwdash.sources.replay_recording import Recording

log = logging.getLogger(__name__)

SLOWEST, FASTEST = 0.1, 100.0
"""The bounds of the speed, recorded seconds per second."""
MOST_TICKS_PER_S = 20.0
"""Snapshots are not made more often than this; at a higher speed some recorded ones are left out."""

_MOST_STEPS = 120


class Stage(Protocol):
    """What a player needs of whoever shows the recording (`hwdash.monitor.monitor.Monitor`)."""

    pace: float

    async def rewind(self, catch_up: Callable[[], bool]) -> None:
        """Forget everything; read as often as *catch_up* moves on and gives True; show where that led."""
        ...

    def note_request(self, key: str, last: LastRequest) -> None:
        """Show *last* with the device *key*."""
        ...


class Player:
    """Plays *recording* on *clock*: pause, place, speed, loop. All methods belong to one event loop.

    ``on_wind_back`` is told the recorded time that it went back to; ``on_jump`` is called at every jump.
    """

    def __init__(self, recording: Recording, clock: ReplayClock, *, loop: bool = False, from_s: float = 0.0) -> None:
        """Begins at *from_s* seconds."""
        self._recording = recording
        self._clock = clock
        self._loop = loop
        self._begin_s: float | None = from_s or None
        self.on_wind_back: Callable[[datetime], None] = lambda moment: None
        self.on_jump: Callable[[], None] = lambda: None
        self._stage: Stage | None = None
        self._jumped = False
        self._travelling = False
        self._task: asyncio.Task[None] | None = None
        self._at_end = False
        self._shown: ReplayState | None = None

    def attach(self, stage: Stage) -> None:
        """Steer *stage* from now on. To be called before its first snapshot is made."""
        if self._begin_s is not None:
            self._clock.jump(self._begin_s)
        self._stage = stage
        stage.pace = self.pace

    @property
    def travelling(self) -> bool:
        """It is on the way to the place that was jumped to: snapshots that are made meanwhile are not of it."""
        return self._travelling

    @property
    def pace(self) -> float:
        """How many times as often as recorded snapshots are made. In slow motion not less often: for its keys."""
        return max(1.0, min(self._clock.speed, MOST_TICKS_PER_S * self._recording.header.interval_s))

    @property
    def state(self) -> ReplayState:
        """Where it stands. At its end a recording is paused; going on begins anew."""
        position_s = self._clock.position_s
        ended = self._clock.ended and not self._loop
        return ReplayState(
            self._recording.name,
            self._clock.at(position_s),
            position_s,
            self._recording.duration_s,
            self._clock.speed,
            self._clock.paused or ended,
            self._loop,
            ended,
        )

    def apply(self, request: ReplayRequest) -> ReplayState:
        """Do what *request* asks for. A place outside the recording becomes its nearest end.

        Raises `UsageError` that names the field for a speed out of bounds, for a place given twice, and for one that
        is not read yet.
        """
        self.check(request)
        self._check_read(request)
        ended = self._clock.ended
        if request.loop is not None:
            self._loop = request.loop
        if request.speed is not None:
            self._clock.set_speed(request.speed)
            if self._stage is not None:
                self._stage.pace = self.pace
        if request.paused is not None:
            self._clock.set_paused(request.paused)
        if request.seek_s is not None:
            self._jump(request.seek_s)
        elif request.skip_s is not None:
            self._jump(self._clock.position_s + request.skip_s)
        elif request.paused is False and ended:
            self._jump(0.0)
        return self.state

    def follow(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot*, just made, with the state of the replay and the recorded last requests; time moves on."""
        if self._travelling and self._shown is not None:
            return replace(snapshot, replay=self._shown)  # made before the jump, or on the way
        state = self._shown = self.state
        last = self._note_requests(state.position_s)
        shown = replace(
            snapshot,
            devices=tuple(replace(status, last_request=last.get(status.device.key)) for status in snapshot.devices),
            replay=state,
        )
        was_at_end, self._at_end = self._at_end, self._clock.ended
        if self._begin_s is not None:
            begin_s, self._begin_s = self._begin_s, None
            self._jump(begin_s)  # once more: now there is a stage to go through what lies before
        elif self._loop and was_at_end and self._at_end and not self._clock.paused:
            self._jump(0.0)  # the last snapshot was on show for as long as the others
        else:
            self._clock.turn(self._recording.header.interval_s / self.pace)
        return shown

    def _note_requests(self, position_s: float) -> dict[str, LastRequest]:
        """The last requests at a place, by device; they are told to the stage."""
        frame = self._recording.frame(self._recording.at(position_s)).snapshot
        found = {status.device.key: status.last_request for status in frame.devices if status.last_request is not None}
        for key, last in found.items():
            if self._stage is not None:
                self._stage.note_request(key, last)
        return found

    def _jump(self, position_s: float) -> None:
        """Go there, and have the stage go through what lies before it. A jump on the way there takes over."""
        before_s = self._clock.position_s
        self._clock.jump(position_s)
        if self._clock.position_s < before_s:
            self.on_wind_back(self._clock.now())
        self.on_jump()
        self._jumped = True
        self._at_end = False
        if self._stage is None:
            return
        self._travelling = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._rewind(self._stage), name="replay rewind")

    async def close(self) -> None:
        """Break off a jump that is under way. To be called before the stage is taken down."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _rewind(self, stage: Stage) -> None:
        try:
            while self._jumped:
                self._jumped = False
                await stage.rewind(self._catch_up())
        except Exception:
            log.exception("the jump in the recording failed")
        finally:
            self._arrive()

    def _catch_up(self) -> Callable[[], bool]:
        """Steps through the snapshots of the minute before the place that was jumped to."""
        place_s = self._clock.position_s
        target = self._recording.at(place_s)
        first = self._recording.at(place_s - PRE_ROLL_S)
        if self._recording.position(first) < place_s - PRE_ROLL_S:
            first += 1
        steps = iter(range(first, target, 1 + (target - first) // _MOST_STEPS))

        def step() -> bool:
            number = None if self._jumped else next(steps, None)
            if number is None:
                if not self._jumped:
                    self._arrive()
                return False
            self._clock.step(self._recording.position(number))
            self._note_requests(self._recording.position(number))
            return True

        return step

    def _check_read(self, request: ReplayRequest) -> None:
        field, place_s = "seek_s", request.seek_s
        if request.skip_s is not None:
            field, place_s = "skip_s", self._clock.position_s + request.skip_s
        if place_s is not None and place_s > self._recording.duration_s and not self._recording.complete:
            read = duration_text(self._recording.duration_s)
            raise UsageError(
                f"{field}: the recording is still being read, up to {read} so far; try again later", param=field
            )

    def _arrive(self) -> None:
        self._clock.arrive()
        self._travelling = False

    @staticmethod
    def check(request: ReplayRequest) -> None:
        """Raises `UsageError` that names the field for what cannot be."""
        speed = request.speed
        if speed is not None and not SLOWEST <= speed <= FASTEST:
            raise UsageError(f"speed: must be between {SLOWEST:g} and {FASTEST:g}, not {speed:g}", param="speed")
        for field, place_s in (("seek_s", request.seek_s), ("skip_s", request.skip_s)):
            if place_s is not None and not math.isfinite(place_s):
                raise UsageError(f"{field}: must be a number of seconds", param=field)
        if request.seek_s is not None and request.skip_s is not None:
            raise UsageError("seek_s: give either seek_s or skip_s", param="seek_s")
