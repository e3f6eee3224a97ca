"""A recording in the place of hardware: what time it is, what is read, and what steers it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Absent
from hwdash.core.recording import Frame
from hwdash.core.replay import ReplayRequest
from hwdash.core.sample import Fault, FaultLevel, Notice
from hwdash.core.snapshot import LastRequest, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.sources.fake import fake_gpu
from hwdash.sources.replay import NoAnswer, ReplaySource, replay_sources
from hwdash.sources.replay_clock import PRE_ROLL_S, ReplayClock
from hwdash.sources.replay_player import Player
from hwdash.sources.replay_recording import Recording
from hwdash.sources.source import DeviceLost
from tests.sources.recorded import START, at, lines, minute, snapshot, status, write

KEY = fake_gpu(0).key


class Playing:
    """A recording that is played on a real clock that stands until it is moved."""

    def __init__(
        self, path: Path, snapshots: Sequence[Snapshot], events: Sequence[tuple[int, Event]] = (), **changes: float
    ) -> None:
        self.recording = Recording(write(path / "r", lines(snapshots, events)))
        self.recording.load()
        self.real = ManualClock()
        self.clock = ReplayClock(self.recording, real=self.real, **changes)  # type: ignore[arg-type]
        self.player = Player(self.recording, self.clock)
        self.sources = replay_sources(self.recording, self.clock)

    @property
    def source(self) -> ReplaySource:
        source = self.sources[0]
        assert isinstance(source, ReplaySource)
        return source

    def tick(self, seconds: float = 1.0) -> float:
        """A snapshot was made, and it is time for the next; the place that it will show."""
        self.clock.turn(seconds)
        self.real.advance(seconds)
        return self.clock.position_s


def test_the_clock_shows_the_times_of_the_recorded_snapshots(tmp_path: Path) -> None:
    uneven = [snapshot(place, status(place)) for place in (0.0, 1.07, 1.96, 3.02, 9.0)]
    playing = Playing(tmp_path, uneven)
    begin_s = playing.clock.monotonic()
    places = [0.0] + [playing.tick() for _ in range(11)]
    # Far from any snapshot time goes on by itself; at the end it stands.
    assert places == [0.0, 1.07, 1.96, 3.02, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.0, 9.0]
    assert playing.clock.now() == at(9.0)
    assert playing.clock.monotonic() - begin_s == 9.0
    assert playing.clock.ended


@pytest.mark.parametrize(("speed", "expected"), [(0.5, [1, 1, 2, 2]), (2.0, [2, 4, 6, 8]), (10.0, [10, 20, 29, 29])])
def test_speed_is_recorded_seconds_a_second(tmp_path: Path, speed: float, expected: list[float]) -> None:
    playing = Playing(tmp_path, minute(30), speed=speed)
    # Half way between two snapshots the later one is shown.
    assert [playing.tick() for _ in range(4)] == expected


def test_while_it_is_paused_time_stands_and_goes_on_from_there(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(30))
    playing.tick()
    playing.clock.set_paused(True)
    assert [playing.tick() for _ in range(3)] == [1.0, 1.0, 1.0]
    playing.real.advance(3600.0)
    playing.clock.set_paused(False)
    assert [playing.tick() for _ in range(2)] == [2.0, 3.0]


def test_monotonic_time_never_runs_backwards(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(30))
    before_s = playing.clock.monotonic()
    for place in (20.0, 3.0, 3.0, 99.0, -5.0):
        playing.clock.jump(place)
        assert playing.clock.position_s == min(max(place, 0.0), 29.0)
        playing.clock.step(max(0.0, playing.clock.position_s - 60.0))
        assert playing.clock.monotonic() > before_s
        playing.clock.arrive()
        before_s = playing.clock.monotonic()


@pytest.mark.parametrize("target", [3600.0, 3560.0], ids=["on a snapshot", "between two"])
def test_what_lies_further_back_than_the_minute_before_a_place_is_not_gone_through(
    tmp_path: Path, target: float
) -> None:
    places = (0.0, 3400.0, 3495.0, 3530.0, 3580.0, 3600.0)
    playing = Playing(tmp_path, [snapshot(place, status(place)) for place in places])
    before_s = playing.clock.monotonic()
    playing.clock.jump(target)
    step = playing.player._catch_up()
    gone_through = []
    while step():
        gone_through.append(playing.clock.time_s)
        assert playing.clock.monotonic() > before_s
        before_s = playing.clock.monotonic()
    assert gone_through == [place for place in places if target - PRE_ROLL_S <= place < target]
    assert playing.clock.monotonic() > before_s


def test_what_is_read_during_a_jump_is_stamped_as_before_it(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(300))
    playing.clock.jump(10.0)
    before_s = playing.clock.monotonic()
    find = playing.recording.frame

    def late(number: int) -> Frame:
        playing.clock.jump(290.0)
        return find(number)

    playing.recording.frame = late  # type: ignore[method-assign]
    sample = playing.source.read(KEY)
    assert (sample.taken_at, sample.monotonic_s) == (at(10.0), before_s)
    playing.recording.frame = find  # type: ignore[method-assign]
    after = playing.source.read(KEY)
    assert (after.taken_at, after.monotonic_s) == (at(290.0), playing.clock.monotonic())


def test_the_time_on_both_clocks_is_of_one_moment(tmp_path: Path) -> None:
    """Seen from another thread, a jump moves the monotonic time by a minute and a second, whatever the distance."""
    playing = Playing(tmp_path, minute(3600))
    done = threading.Event()
    found: list[float] = []

    def watch() -> None:
        while not done.is_set():
            found.append(playing.clock.monotonic())

    thread = threading.Thread(target=watch)
    begun_s = playing.clock.monotonic()
    thread.start()
    for number in range(2000):
        playing.clock.jump(3590.0 if number % 2 else 10.0)
    done.set()
    thread.join()
    assert found == sorted(found)
    assert {round((seen_s - begun_s) % (PRE_ROLL_S + 1.0), 3) % (PRE_ROLL_S + 1.0) for seen_s in found} <= {0.0}


def test_a_clock_that_nobody_turns_goes_on(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(30))
    playing.real.advance(5.0)
    assert playing.clock.position_s == 5.0


def test_devices_are_as_recorded_and_a_sample_stays_the_same_until_the_next_one(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(30))
    (device,) = playing.source.discover()
    assert device == fake_gpu(0, visible_as=None)
    first = playing.source.read(KEY)
    assert (first.taken_at, first.readings["power_w"], first.monotonic_s) == (START, 0.0, playing.clock.monotonic())
    assert playing.source.read(KEY) is first
    playing.tick()
    second = playing.source.read(KEY)
    assert (second.taken_at, second.readings["power_w"]) == (at(1.0), 1.0)
    assert second.monotonic_s - first.monotonic_s == 1.0


def test_a_jump_to_the_place_where_it_stands_gives_a_sample_of_now(tmp_path: Path) -> None:
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0)), snapshot(1.0, status(1.0))])
    before = playing.source.read(KEY)
    playing.clock.jump(0.0)
    after = playing.source.read(KEY)
    assert after.taken_at == before.taken_at
    assert after.monotonic_s == playing.clock.monotonic()


def test_throttling_is_given_as_flags_and_counters(tmp_path: Path) -> None:
    throttle = (
        ThrottleActivity(ThrottleReason.THERMAL_SW, active=False, duty=0.0, seconds=3.0),
        ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=0.7, seconds=12.5),
        ThrottleActivity(ThrottleReason.UNKNOWN, active=True, detail="0x4000"),
    )
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0, throttle=throttle, clock_is_set=True))])
    sample = playing.source.read(KEY)
    assert sample.throttle_flags == frozenset({ThrottleReason.POWER_CAP, ThrottleReason.UNKNOWN})
    assert sample.throttle_seconds == {ThrottleReason.THERMAL_SW: 3.0, ThrottleReason.POWER_CAP: 12.5}
    assert sample.throttle_known == {item.reason for item in throttle}
    assert sample.unknown_flags == "0x4000"
    assert sample.clock_is_set


def test_a_device_that_tells_no_throttle_reasons_has_no_flags(tmp_path: Path) -> None:
    sample = Playing(tmp_path, [snapshot(0.0, status(0.0, throttle=()))]).source.read(KEY)
    assert sample.throttle_flags is None
    assert sample.throttle_known == frozenset()


def test_each_source_has_its_own_devices(tmp_path: Path) -> None:
    cpu = replace(fake_gpu(9), key="cpu:1", kind=DeviceKind.CPU, source="host", id="cpu0", visible_as=None)
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0), status(0.0, cpu))])
    assert [source.name for source in playing.sources] == ["fake", "host", "recording"]
    assert [[device.key for device in source.discover()] for source in playing.sources] == [[KEY], ["cpu:1"], []]


def test_what_came_later_is_found_later(tmp_path: Path) -> None:
    other = fake_gpu(1, id="gpu1", visible_as=None, source="late")
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0)), snapshot(1.0, status(1.0), status(1.0, other))])
    assert len(playing.source.discover()) == 1
    with pytest.raises(DeviceLost):
        playing.source.read(other.key)
    playing.tick()
    assert [device.key for device in playing.source.discover()] == [KEY, other.key]
    assert playing.source.read(other.key).taken_at == at(1.0)


def test_what_was_lost_is_lost_with_the_recorded_words(tmp_path: Path) -> None:
    lost = Health(HealthState.LOST, ("lost: fell off the bus",), START)
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0)), snapshot(1.0, status(0.0, health=lost, age_s=1.0))])
    playing.source.read(KEY)
    playing.tick()
    with pytest.raises(DeviceLost, match=r"^fell off the bus$"):
        playing.source.read(KEY)


def test_what_failed_still_has_its_readings_and_its_fault(tmp_path: Path) -> None:
    fault = Fault("status", "status is Malfunction", FaultLevel.FAILED)
    failed = replace(status(0.0), health=Health(HealthState.LOST, ("failed: …",), START), faults=(fault,))
    sample = Playing(tmp_path, [snapshot(0.0, failed)]).source.read(KEY)
    assert sample.faults == (fault,)
    assert sample.readings == failed.readings


def test_what_went_silent_keeps_its_old_sample_and_then_does_not_answer(tmp_path: Path) -> None:
    silent = dict.fromkeys(("power_w", "clock_hz"), Absent.TIMED_OUT)
    stale = Health(HealthState.STALE, ("no sample for 4 s: the driver does not answer",), START)
    playing = Playing(
        tmp_path,
        [
            snapshot(0.0, status(0.0)),
            snapshot(1.0, status(0.0, readings=silent, age_s=1.0)),
            snapshot(4.0, status(0.0, readings=silent, age_s=4.0, health=stale)),
            snapshot(5.0, status(5.0)),
            snapshot(6.0, status(0.0, readings=silent, sampled_at=None, age_s=None, health=stale)),
        ],
    )
    first = playing.source.read(KEY)
    playing.tick()
    assert playing.source.read(KEY) is first
    for _ in range(3):
        playing.tick()
    with pytest.raises(NoAnswer, match="the driver does not answer"):
        playing.source.read(KEY)
    playing.tick()
    assert playing.source.read(KEY).taken_at == at(5.0)
    playing.tick()
    with pytest.raises(TimeoutError):  # the monitor shows such a device as timed out
        playing.source.read(KEY)


def test_what_a_device_reported_is_told_once(tmp_path: Path) -> None:
    xid = Event(at(1.5), KEY, EventKind.DEVICE, Severity.CRITICAL, "XID 79")
    other = replace(xid, key="fake:gpu-1")
    playing = Playing(tmp_path, minute(10), [(2, xid), (2, other)])
    told = [playing.source.read(KEY).notices]
    playing.clock.set_speed(3.0)  # a snapshot with news is passed over
    playing.tick()
    told.append(playing.source.read(KEY).notices)
    playing.tick()
    told.append(playing.source.read(KEY).notices)
    assert told == [(), (Notice("XID 79", Severity.CRITICAL),), ()]


def test_the_player_does_what_it_is_asked(tmp_path: Path) -> None:
    player = Playing(tmp_path, minute(30)).player
    state = player.apply(ReplayRequest(seek_s=12.0, speed=4.0, paused=True, loop=True))
    assert (state.position_s, state.at, state.speed, state.paused, state.loop) == (12.0, at(12.0), 4.0, True, True)
    assert player.apply(ReplayRequest(skip_s=-2.0)).position_s == 10.0
    assert player.apply(ReplayRequest(skip_s=-1000.0)).position_s == 0.0
    assert player.apply(ReplayRequest(seek_s=1e9)).position_s == 29.0
    assert player.apply(ReplayRequest()) == player.state


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ReplayRequest(speed=0.0), "speed"),
        (ReplayRequest(speed=101.0), "speed"),
        (ReplayRequest(speed=float("nan")), "speed"),
        (ReplayRequest(seek_s=float("inf")), "seek_s"),
        (ReplayRequest(skip_s=float("nan")), "skip_s"),
        (ReplayRequest(seek_s=1.0, skip_s=1.0), "seek_s"),
    ],
)
def test_the_player_refuses_what_cannot_be(tmp_path: Path, request_: ReplayRequest, field: str) -> None:
    player = Playing(tmp_path, minute(3)).player
    with pytest.raises(UsageError) as refusal:
        player.apply(request_)
    assert refusal.value.param == field


@pytest.mark.parametrize("request_", [ReplayRequest(seek_s=31.0), ReplayRequest(skip_s=31.0)], ids=["seek", "skip"])
def test_a_place_that_is_not_read_yet_is_refused(tmp_path: Path, request_: ReplayRequest) -> None:
    playing = Playing(tmp_path, minute(30))
    playing.recording.complete = False
    with pytest.raises(UsageError, match=r"the recording is still being read, up to 29 s so far") as refusal:
        playing.player.apply(replace(request_, speed=4.0))
    assert refusal.value.param in ("seek_s", "skip_s")
    assert (playing.player.state.position_s, playing.player.state.speed) == (0.0, 1.0)
    assert playing.player.apply(ReplayRequest(seek_s=29.0)).position_s == 29.0
    playing.recording.complete = True
    assert playing.player.apply(request_).position_s == 29.0


def test_at_its_end_it_is_paused_and_going_on_begins_anew(tmp_path: Path) -> None:
    playing = Playing(tmp_path, minute(3))
    for _ in range(4):
        playing.tick()
    assert (playing.player.state.ended, playing.player.state.paused) == (True, True)
    state = playing.player.apply(ReplayRequest(paused=False))
    assert (state.position_s, state.ended, state.paused) == (0.0, False, False)


def test_last_requests_are_the_recorded_ones(tmp_path: Path) -> None:
    last = LastRequest("m", START, 0.1, 40.0)
    playing = Playing(tmp_path, [snapshot(0.0, status(0.0)), snapshot(1.0, status(1.0, last_request=last))])
    made = snapshot(0.0, status(0.0, last_request=last))
    assert playing.player.follow(made).devices[0].last_request is None
    playing.real.advance(1.0)
    shown = playing.player.follow(made)
    assert shown.devices[0].last_request == last
    assert shown.replay is not None
    assert shown.replay.position_s == 1.0
