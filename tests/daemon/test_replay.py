"""A recorded session through the same pipeline: it looks as it did live, and can be steered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from hwdash.cli.record import Recorder
from hwdash.client.endpoint import Endpoint
from hwdash.client.exchange import Exchange
from hwdash.client.http import HttpClient
from hwdash.core.alert import AlertConfig, AlertRule
from hwdash.core.config import Config, EngineConfig
from hwdash.core.errors import EngineError, ModelError, UsageError
from hwdash.core.event import Event, EventKind
from hwdash.core.paths import paths_from
from hwdash.core.reading import Reading
from hwdash.core.recording import RecordingError
from hwdash.core.replay import ReplayRequest
from hwdash.core.sample import Notice
from hwdash.core.snapshot import Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.daemon import replay
from hwdash.daemon.app import create_app
from hwdash.daemon.compose import compose
from hwdash.daemon.parts import Parts, Playback
from hwdash.daemon.server import SocketServer
from hwdash.daemon.service import Identity, Service
from hwdash.daemon.socket import listening
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.sources.replay_clock import ReplayClock
from hwdash.sources.replay_recording import Recording
from tests.daemon.living import ask_for, living, short_directory, until
from tests.sources.recorded import START, at, lines, minute, snapshot, status, write

KEY = fake_gpu(0).key
CAP = ThrottleReason.POWER_CAP


@asynccontextmanager
async def replaying(path: Path, *rules: AlertRule, **changes: object) -> AsyncIterator[Service]:
    """A service that plays the recording *path*, with *rules* for alerts."""
    paths = paths_from({"HOME": str(path.parent), "XDG_STATE_HOME": str(path.parent / "state")})
    (path.parent / "state" / "hwdash").mkdir(parents=True, exist_ok=True)
    config = Config(engine=EngineConfig(prewarm=("m",)), alerts=AlertConfig(rules=rules))
    service = await compose(config, paths, Identity("/s"), Parts(playback=Playback(path, **changes)))  # type: ignore[arg-type]
    try:
        await service.start()
        yield service
    finally:
        await service.close()


async def shown(service: Service, condition: Callable[[Snapshot], bool]) -> Snapshot:
    """The newest snapshot, or the first one from now on, that fulfils *condition*."""
    async with asyncio.timeout(30), aclosing(service.snapshots.subscribe()) as snapshots:
        async for found in snapshots:
            if condition(found):
                return found
    raise AssertionError("the service ended")


async def played(service: Service) -> Sequence[Snapshot]:
    """One snapshot for each place, until the end of the recording."""
    found: dict[float, Snapshot] = {}
    async with asyncio.timeout(60), aclosing(service.snapshots.subscribe()) as snapshots:
        async for snapshot in snapshots:
            assert snapshot.replay is not None
            found.setdefault(snapshot.replay.position_s, snapshot)
            if snapshot.replay.ended:
                return list(found.values())
    raise AssertionError("the service ended")


def place(snapshot: Snapshot) -> float:
    assert snapshot.replay is not None
    return snapshot.replay.position_s


def alerts(snapshot: Snapshot) -> list[Event]:
    return [event for event in snapshot.events if event.kind is EventKind.ALERT]


class Story(FakeSource):
    """A GPU that gets hot, is power-capped, reports an XID, is lost and comes back."""

    def __init__(self) -> None:
        super().__init__([fake_gpu(0), fake_gpu(1)], {KEY: self._readings})
        self.step = 0
        self._seconds = 0.0

    def _readings(self, count: int) -> Mapping[str, Reading]:
        self.step = count
        self._seconds += 0.05 if 10 <= count < 25 else 0.0
        self.throttle_seconds[KEY] = {CAP: self._seconds}
        self.flags[KEY] = frozenset({CAP}) if 12 <= count < 20 else frozenset()
        self.changes[KEY] = {
            "throttle_known": frozenset({CAP, ThrottleReason.THERMAL_SW}),
            "notices": (Notice("XID 63: row remapping"),) if count == 8 else (),
        }
        if count >= 30:
            self.lost.add(KEY)
        hot = 85.0 if 3 <= count < 8 else 50.0
        return fake_readings(temperature_c=hot, temperature_margin_c=89.0 - hot, energy_j=100.0 * count)


async def record_story(path: Path) -> list[Snapshot]:
    """Record the story; gives the snapshots that were recorded."""
    source, found = Story(), []
    recorder = Recorder(path, overwrite=False, anonymous=None)
    async with living(source, interval_s=0.1) as daemon, aclosing(daemon.client.stream()) as snapshots:
        async for snapshot in snapshots:
            recorder.add(snapshot)
            found.append(snapshot)
            if len(found) >= 36:
                break
    recorder.close()
    return found


def telling(snapshots: Sequence[Snapshot], key: str) -> list[tuple[object, ...]]:
    """What a device showed, snapshot by snapshot."""
    return [
        (
            status.device.id,
            str(status.health.state),
            status.health.reasons if status.health.state == "lost" else (),
            dict(status.readings),
            [(item.reason, item.active, item.seconds) for item in status.throttle],
            status.sampled_at,
        )
        for status in (snapshot.find(key) for snapshot in snapshots)
    ]


async def test_a_replay_shows_what_was_live(tmp_path: Path) -> None:
    path = tmp_path / "story.gz"
    live = await record_story(path)
    async with replaying(path) as service:
        shown_again = await played(service)
    # Where the machine was late with a tick, the replay, which is not, has a snapshot in the gap.
    moments = {snapshot.taken_at for snapshot in live}
    again = [snapshot for snapshot in shown_again if snapshot.taken_at in moments]
    assert [snapshot.taken_at for snapshot in again] == [snapshot.taken_at for snapshot in live]
    for key in (KEY, fake_gpu(1).key):
        assert telling(again, key) == telling(live, key)
    states = {str(snapshot.find(KEY).health.state) for snapshot in again}
    assert states == {"ok", "warm", "throttled", "lost"}
    duties = [
        [[item.duty or 0.0 for item in snapshot.find(KEY).throttle] for snapshot in session]
        for session in (live, again)
    ]
    assert max(max(duty) for duty in duties[0] if duty) > 0.3
    for before, after in zip(*duties, strict=True):
        # Recorded times are in milliseconds, and a tenth of a second is short.
        assert after == pytest.approx(before, abs=0.03)
    assert [snapshot.ranking is not None for snapshot in again] == [True] * len(again)
    told = {
        event.number: event.words
        for snapshot in shown_again
        for event in snapshot.events
        if event.kind is EventKind.DEVICE
    }
    assert list(told.values()) == ["XID 63: row remapping"]


async def test_it_can_be_steered_and_shows_the_place_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(50)))
    async with replaying(path) as service:
        await service.snapshot()
        state = service.replay(ReplayRequest(paused=True, seek_s=30.0))
        assert (state.position_s, state.paused, state.duration_s, state.name) == (30.0, True, 49.0, "r")
        found = await shown(service, lambda snapshot: place(snapshot) == 30.0)
        assert found.taken_at == at(30.0)
        assert found.devices[0].readings["power_w"] == 30.0
        assert found.devices[0].age_s == 0.0
        service.replay(ReplayRequest(skip_s=-20.0))
        found = await shown(service, lambda snapshot: place(snapshot) == 10.0)
        assert found.devices[0].readings["power_w"] == 10.0
        assert found.devices[0].device.id == "gpu0"
        service.replay(ReplayRequest(paused=False, speed=20.0))
        found = await shown(service, lambda snapshot: snapshot.replay is not None and snapshot.replay.ended)
        assert (place(found), found.devices[0].readings["power_w"]) == (49.0, 49.0)
        service.replay(ReplayRequest(paused=False))
        await shown(service, lambda snapshot: 0.0 < place(snapshot) < 49.0)


async def test_a_jump_looks_back_a_minute(tmp_path: Path) -> None:
    throttled = [
        snapshot(
            float(second),
            status(second, throttle=(ThrottleActivity(CAP, active=second >= 40, seconds=max(0.0, second - 40.0)),)),
        )
        for second in range(90)
    ]
    path = write(tmp_path / "r", lines(throttled))
    async with replaying(path) as service:
        await service.snapshot()
        service.replay(ReplayRequest(paused=True, seek_s=78.0))
        found = await shown(service, lambda snapshot: place(snapshot) == 78.0)
        assert found.devices[0].health.state == "throttled"
        assert "power cap for 38 s" in found.devices[0].health.reasons[0]
        service.replay(ReplayRequest(seek_s=39.0))
        found = await shown(service, lambda snapshot: place(snapshot) == 39.0)
        assert found.devices[0].health.state == "ok"


@pytest.mark.parametrize("target", [10.0, 60.0], ids=["back", "forward"])
async def test_a_rule_knows_nothing_of_before_a_jump(tmp_path: Path, target: float) -> None:
    hot = [snapshot(float(second), status(second, temperature_c=90.0)) for second in range(90)]
    path = write(tmp_path / "r", lines(hot))
    rule = AlertRule("hot", "temperature_c", above=80.0, for_s=5.0, every_s=300.0)
    async with replaying(path, rule, from_s=30.0, speed=20.0) as service:
        first = alerts(await shown(service, lambda found: bool(alerts(found))))[-1]
        service.replay(ReplayRequest(seek_s=target))
        found = await shown(service, lambda found: any(event.number > first.number for event in alerts(found)))
    again = alerts(found)[-1]
    assert (first.words, first.at) == ("hot: temperature_c 90 °C above 80 °C for 5 s", at(35.0))
    assert (again.words, again.at) == (first.words, at(target + 5.0))


async def test_many_jumps_at_once_end_at_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(300)))
    async with replaying(path) as service:
        await service.snapshot()
        for target in (200.0, 20.0, 250.0, 100.0, 299.0, 150.0):
            service.replay(ReplayRequest(paused=True, seek_s=target))
            await asyncio.sleep(0.002)
        found = await shown(service, lambda snapshot: place(snapshot) == 150.0)
        assert found.devices[0].readings["power_w"] == 150.0
        assert service.replay(ReplayRequest()).position_s == 150.0


async def test_it_can_begin_in_the_middle_and_loop(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(20)))
    async with replaying(path, from_s=15.0, speed=20.0, loop=True) as service:
        first = await shown(service, lambda snapshot: True)
        assert place(first) == 15.0
        await shown(service, lambda snapshot: place(snapshot) == 19.0)
        again = await shown(service, lambda snapshot: place(snapshot) < 10.0)
        assert again.replay is not None
        assert (again.replay.loop, again.replay.ended, again.replay.paused) == (True, False, False)


async def test_it_does_not_begin_before_its_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r", lines(minute(300)))
    looked_at: list[float] = []
    enough = threading.Event()
    add = Recording._add

    def halting(recording: Recording, number: int, line: bytes, position_s: float) -> None:
        if position_s == 100.0:
            enough.wait(30)
        add(recording, number, line, position_s)

    def duration_s(recording: Recording) -> float:
        looked_at.append(recording.position(recording.count - 1))
        if looked_at.count(99.0) == 3:
            enough.set()
        return looked_at[-1]

    monkeypatch.setattr(Recording, "_add", halting)
    monkeypatch.setattr(Recording, "duration_s", property(duration_s))
    monkeypatch.setattr(replay, "_LOAD_S", 0.01)
    monkeypatch.setattr(replay, "_LOOK_S", 0.01)
    try:
        opened = await replay.Replay.open(Playback(path, from_s=150.0))
        assert looked_at.count(99.0) >= 3
        assert opened.recording.duration_s >= 150.0
    finally:
        enough.set()


async def test_a_place_behind_the_end_is_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(20)))
    async with replaying(path, from_s=1e6) as service:
        assert place(await shown(service, lambda snapshot: True)) == 19.0


async def test_a_single_snapshot_loops_in_peace(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(1)))
    async with replaying(path, loop=True, speed=20.0) as service:
        first = await service.snapshot()
        clock = service._clock
        assert isinstance(clock, ReplayClock)
        jumps = clock.jumps
        last = await shown(service, lambda snapshot: snapshot.sequence >= first.sequence + 20)
        # Every other snapshot at most is of a jump: the others come when their time has come.
        assert clock.jumps - jumps <= (last.sequence - first.sequence) // 2 + 1


async def test_no_prompt_is_answered_and_no_model_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(5)))
    async with replaying(path) as service:
        with pytest.raises(EngineError, match=r"^gpu0 is a recording; a prompt needs the real device"):
            async for _ in service.prompt(ask_for()):
                pass
        assert await service.models() == ()
        with pytest.raises(ModelError):
            await service.remove_model("m")
        with pytest.raises(ModelError):
            async for _ in service.pull("m"):
                pass
        assert service.status().interval_s == 1.0
        assert service.status().uptime_s < 60.0


async def test_history_is_told_in_recorded_time(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(20)))
    async with replaying(path, speed=20.0) as service:
        await shown(service, lambda snapshot: snapshot.replay is not None and snapshot.replay.ended)
        events = await service.events(3600.0, None, None, 10)
        assert events.until == at(19.0)
        assert [event.at for event in events.events] == [START]


async def test_what_was_found_is_still_told_after_going_back_to_the_start(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(20)))
    async with replaying(path, speed=20.0) as service:
        await shown(service, lambda snapshot: place(snapshot) > 2.0)
        service.replay(ReplayRequest(seek_s=0.0, paused=True))
        await shown(service, lambda snapshot: place(snapshot) == 0.0)
        found = (await service.events(3600.0, None, None, 10)).events
    assert [(event.at, event.words) for event in found] == [(START, "found: Fake GPU 0")]


async def test_a_file_with_a_mistake_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(300)) + b"{\n")
    with pytest.raises(RecordingError, match=":302: not JSON"):
        async with replaying(path):
            pass


async def test_a_recording_that_was_cut_off_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(300)))
    path.write_bytes(path.read_bytes()[:-100])
    async with replaying(path) as service:
        await service.snapshot()
        (problem,) = service.status().problems
        assert problem.startswith(f"recording: {path}")
        assert "ends in the middle" in problem


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[Endpoint]:
    with short_directory() as directory, listening(directory / "run" / "s") as listener:
        server = SocketServer(create_app(service, lambda: None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Endpoint(socket=directory / "run" / "s")
        finally:
            server.end()
            await serving


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"speed": 1000}', "speed: must be between 0.1 and 100"),
        (b'{"speed": "fast"}', "speed: "),
        (b'{"sped": 1}', "sped: "),
        (b'{"seek_s": NaN}', "seek_s: |body: "),
        (b'{"seek_s": 1, "skip_s": 1}', "seek_s: give either"),
        (b"", "body: "),
        (b"[]", "body: "),
    ],
)
async def test_the_route_refuses_what_it_does_not_know(tmp_path: Path, body: bytes, words: str) -> None:
    path = write(tmp_path / "r", lines(minute(5)))
    async with replaying(path) as service, served(service) as endpoint:
        with pytest.raises(UsageError, match=words):
            await Exchange.open(endpoint, "POST", "/api/v1/replay", body)


async def test_the_route_steers(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(5)))
    async with replaying(path) as service, served(service) as endpoint:
        client = HttpClient(endpoint)
        await client.snapshot()
        state = await client.replay(ReplayRequest(seek_s=1e9, paused=True))
        assert (state.position_s, state.paused, state.ended) == (4.0, True, True)
        assert await client.replay(ReplayRequest()) == state


async def test_a_daemon_that_watches_hardware_has_nothing_to_steer() -> None:
    async with living() as daemon:
        with pytest.raises(UsageError, match="nothing is replayed"):
            await daemon.client.replay(ReplayRequest(paused=True))
        await until(lambda: daemon.service.snapshots.latest is not None)
