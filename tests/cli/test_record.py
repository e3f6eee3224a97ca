"""`hwdash record` and `--replay` as they are typed."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from hwdash.cli import recording_writer
from hwdash.cli.record import Recorder
from hwdash.cli.recording_writer import RecordingWriter
from hwdash.client.endpoint import Endpoint
from hwdash.client.http import HttpClient
from hwdash.core.errors import DaemonUnreachable, HwdashError
from hwdash.core.recording import encode_header
from hwdash.core.replay import ReplayRequest
from hwdash.core.snapshot import Snapshot
from hwdash.core.wire import loads
from hwdash.sources.replay_recording import Recording
from tests.core.test_recording import HEADER, event
from tests.daemon.living import living
from tests.place import home, hwdash
from tests.sources.recorded import at, lines, minute, snapshot, status, write


@pytest.fixture
def place() -> Iterator[Mapping[str, str]]:
    with home() as environment:
        yield environment


def loaded(path: Path) -> Recording:
    found = Recording(path)
    found.load()
    return found


@asynccontextmanager
async def recording(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hwdash", "record", *arguments, env=environment, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_ends_after_its_time_with_a_whole_file(place: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    async with (
        living() as daemon,
        recording(place, str(path), "--seconds", "1", "--socket", str(daemon.socket)) as process,
    ):
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    assert b"snapshots over 1 s" in stderr
    found = loaded(path)
    assert found.problem == ""
    assert 9 <= found.count <= 12
    assert found.duration_s == pytest.approx(1.0, abs=0.25)
    assert found.header.interval_s == 0.1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_the_normal_end(place: Mapping[str, str], tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "r.gz"
    async with living() as daemon, recording(place, str(path), "--socket", str(daemon.socket)) as process:
        async with asyncio.timeout(30):
            while not path.exists() or not path.stat().st_size:
                await asyncio.sleep(0.02)
        process.send_signal(number)
        await process.communicate()
    assert process.returncode == 0
    assert loaded(path).problem == ""


async def test_a_kill_leaves_what_was_written(place: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    async with living() as daemon, recording(place, str(path), "--socket", str(daemon.socket)) as process:
        async with asyncio.timeout(30):
            while not path.exists() or not path.stat().st_size:
                await asyncio.sleep(0.02)
        process.kill()
        await process.communicate()
    found = loaded(path)
    assert found.count >= 1
    assert "ends in the middle" in found.problem


async def test_the_end_of_the_daemon_is_told_and_the_file_is_whole(place: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    async with living() as daemon, recording(place, str(path), "--socket", str(daemon.socket)) as process:
        async with asyncio.timeout(30):
            while not path.exists() or not path.stat().st_size:
                await asyncio.sleep(0.02)
        daemon.service.stopping.set()
        _, stderr = await process.communicate()
    assert process.returncode == 4
    assert b"snapshot" in stderr
    assert loaded(path).problem == ""


def test_places_that_no_recording_can_go_to(place: Mapping[str, str], tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    for name, words in (
        ("-", "a recording goes to a file"),
        (str(there), "replace it with --force"),
        (str(tmp_path), "is a directory"),
        (str(tmp_path / "fifo"), "no regular file"),
        (str(tmp_path / "no" / "r"), "there is no directory"),
    ):
        done = hwdash(place, "record", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert there.read_text() == "mine"
    assert "--seconds" in hwdash(place, "record", str(tmp_path / "x"), "--seconds", "0").stderr


def test_each_snapshot_and_event_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "r"
    recorder = Recorder(path, overwrite=False, anonymous=None)
    early, late = event(number=4, at=at(-9.0)), event(number=5, at=at(0.0))
    first = replace(snapshot(0.0, status(0.0), number=1), events=(early, late))
    second = replace(snapshot(1.0, status(1.0), number=2), events=(late, event(number=6, at=at(1.0), words="XID 80")))
    for shown in (first, first, second, second):
        recorder.add(shown)
    recorder.close()
    recorder.add(snapshot(2.0, status(2.0), number=3))
    found = loaded(path)
    assert found.count == 2
    assert [item.words for item in found.events(0) + found.events(1)] == ["XID 79", "XID 80"]


def test_a_clock_that_is_set_back_does_not_turn_the_recording_back(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", overwrite=False, anonymous=None)
    for number, second in enumerate((0.0, 1.0, -3600.0, -3599.0), start=1):
        recorder.add(snapshot(second, status(second), number=number))
    recorder.close()
    assert loaded(tmp_path / "r").duration_s < 10.0


def write_all(recorder: Recorder, snapshots: Sequence[Snapshot]) -> None:
    for shown in snapshots:
        recorder.add(shown)


class FullDisk:
    """A file on a disk that takes no more than *room* bytes."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file = file
        self._room = room

    def write(self, data: bytes) -> int:
        if self._file.tell() + len(data) > self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_a_full_disk_is_told_and_leaves_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = recording_writer._open
    monkeypatch.setattr(
        recording_writer,
        "_open",
        lambda path, *, overwrite: cast("BinaryIO", FullDisk(real(path, overwrite=overwrite), 4000)),
    )
    path = tmp_path / "r"
    recorder = Recorder(path, overwrite=False, anonymous=None)
    monkeypatch.setattr("hwdash.cli.record._FLUSH_S", 0.0)
    with pytest.raises(HwdashError, match="No space left on device"):
        write_all(recorder, minute(1000))
    recorder.close()
    found = loaded(path)
    assert found.problem == ""
    assert 1 <= found.count < 1000


def test_nothing_in_the_file_names_it(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "secret-name", overwrite=False)
    writer.write(encode_header(HEADER))
    writer.close()
    writer.close()
    data = (tmp_path / "secret-name").read_bytes()
    assert b"secret" not in data
    assert data[4:8] == b"\0\0\0\0"  # RFC 1952: no time of making


def test_it_plays_as_a_table_and_for_commands(place: Mapping[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "r.gz", lines(minute(5)))
    done = hwdash(place, "--replay", str(path), "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Fake GPU 0" in done.stdout
    done = hwdash(place, "--replay", str(path), "--from", "3", "devices", "--json")
    assert done.returncode == 0
    (device,) = loads(done.stdout)["devices"]
    assert device["sampled_at"] in ("2026-05-01T12:00:03Z", "2026-05-01T12:00:04Z")
    done = hwdash(place, "--replay", str(path), "prompt", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "gpu0 is a recording" in done.stderr
    assert not list(Path(place["XDG_STATE_HOME"]).glob("**/*.db"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--replay", "none.gz"), "none.gz: cannot be read: No such file"),
        (("--replay", "."), "is a directory"),
        (("--replay", ""), "its value is empty"),
        (("--replay", "text"), "not a recording of hwdash"),
        (("--replay", "r.gz", "--speed", "1000"), "speed: must be between 0.1 and 100"),
        (("--replay", "r.gz", "--from", "nan"), "seek_s: must be a number"),
        (("--replay", "r.gz", "--interval", "1"), "--interval has no meaning"),
        (("--replay", "r.gz", "--connect", "http://h:1"), "exclude each other"),
        (("--replay", "r.gz", "--socket", "/s"), "exclude each other"),
        (("--loop",), "go with --replay"),
    ],
)
def test_mistakes_are_told_before_anything_opens(
    place: Mapping[str, str], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    write(tmp_path / "r.gz", lines(minute(2)))
    (tmp_path / "text").write_text("hello\n")
    environment = {**place, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = hwdash(environment, *arguments, "--once", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_daemon_plays_beside_one_that_watches_hardware(place: Mapping[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "r.gz", lines(minute(30)))
    socket = Path(place["XDG_RUNTIME_DIR"]) / "hw" / "other.sock"
    command = [sys.executable, "-m", "hwdash", "daemon", "--replay", str(path), "--socket", str(socket)]
    process = subprocess.Popen(command, env=place, stderr=subprocess.PIPE, text=True)
    try:
        client = HttpClient(Endpoint(socket=socket))
        async with asyncio.timeout(30):
            while True:
                try:
                    await client.status()
                    break
                except DaemonUnreachable:
                    await asyncio.sleep(0.02)
        state = await client.replay(ReplayRequest(paused=True, seek_s=12.0))
        assert state.at == at(12.0)
        assert process.poll() is None
        async with asyncio.timeout(30):
            while (await client.snapshot()).taken_at != at(12.0):
                await asyncio.sleep(0.02)
        homes = [Path(item) for item in Path("/tmp").glob("hwdash-replay-*") if (Path(item) / "daemon.lock").exists()]
        mine = [item for item in homes if (item / "daemon.lock").read_text().split()[0] == str(process.pid)]
        assert len(mine) == 1
        await client.stop()
        assert process.wait(30) == 0
        assert not mine[0].exists()
    finally:
        process.kill()
        process.communicate()
    assert not (Path(place["XDG_STATE_HOME"]) / "hwdash").exists()
