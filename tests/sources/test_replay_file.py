"""A recording as a file: whole, cut off, damaged, or something else altogether."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from pathlib import Path

import pytest

from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.recording import RecordingError
from hwdash.sources import replay_file, replay_recording
from hwdash.sources.replay_file import RecordingFile, check_recording
from hwdash.sources.replay_recording import Recording
from tests.sources.recorded import START, at, lines, minute, write


def loaded(path: Path) -> Recording:
    recording = Recording(path)
    recording.load()
    return recording


@pytest.mark.parametrize(
    "pack", [gzip.compress, bytes, lambda text: gzip.compress(text[:999]) + gzip.compress(text[999:])]
)
def test_plain_and_packed_recordings_are_read(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "r"
    path.write_bytes(pack(lines(minute(200))))  # type: ignore[operator]
    recording = loaded(path)
    assert (recording.count, recording.duration_s, recording.problem, recording.complete) == (200, 199.0, "", True)
    for number in (0, 63, 64, 65, 127, 128, 199, 3, 190):
        assert recording.frame(number).snapshot.devices[0].readings["power_w"] == float(number)
    with pytest.raises(IndexError):
        recording.frame(200)


def test_a_recorder_that_was_killed_leaves_what_it_had_written(tmp_path: Path) -> None:
    text = lines(minute(50))
    press = zlib.compressobj(wbits=31)
    flushed = press.compress(text) + press.flush(zlib.Z_SYNC_FLUSH)
    path = tmp_path / "r"
    path.write_bytes(flushed)
    recording = loaded(path)
    assert recording.count == 50
    assert "ends in the middle" in recording.problem
    path.write_bytes(flushed[: len(flushed) // 2])
    assert 0 < loaded(path).count < 50


def test_a_last_line_without_its_end_counts_only_in_a_whole_file(tmp_path: Path) -> None:
    text = lines(minute(5)).rstrip(b"\n")
    assert loaded(write(tmp_path / "r", text)).count == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\x1f\x8b", "ends in its first line"),
        (b"\x28\xb5\x2f\xfd1234", "zstd -d"),
        (b"hello\n", "not a recording of hwdash"),
        (gzip.compress(b"hello\n", mtime=0), "not a recording of hwdash"),
        (gzip.compress(b"", mtime=0), "it is empty"),
        (b"\x1f\x8bnonsense nonsense", "its compressed data is damaged"),
        (gzip.compress(lines(minute(1)), mtime=0) + b"rubbish", "its compressed data is damaged"),
        (lines([]), "has no snapshots"),
        (lines(minute(2)) + b'{"type":"snapshot"}\n', ":4: position_s"),
    ],
    ids=["empty", "magic", "zstd", "text", "packed text", "packed nothing", "damaged", "rubbish", "bare", "short line"],
)
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as refusal:
        loaded(path)
    assert words in refusal.value.message
    assert str(path) in refusal.value.message


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "closed").touch(mode=0)
    for name, words in (("fifo", "no regular file"), (".", "is a directory"), ("none", "No such file")):
        with pytest.raises(RecordingError, match=words):
            check_recording(tmp_path / name)


def test_the_check_looks_at_the_first_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "r", lines(minute(3)))
    assert check_recording(path).started_at == START
    with pytest.raises(RecordingError, match=":5: "):
        check_recording(write(path, lines(minute(3)) + b"{\n"))


def test_an_endless_line_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_file, "MAX_LINE_BYTES", 3 * 2**20)
    path = write(tmp_path / "bomb", lines(minute(1)) + b"x" * (64 * 2**20))
    with pytest.raises(RecordingError, match=r":3: the line is longer than 3 MiB"):
        loaded(path)


def test_no_more_than_the_bound_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_recording, "MAX_BYTES", 1000)
    recording = Recording(write(tmp_path / "r", lines(minute(500))))
    with pytest.raises(RecordingError, match="too long to be held"):
        recording.load()
    assert recording.count > 0
    assert "too long" in recording.problem


def test_changed_bytes_are_an_error_or_another_recording(tmp_path: Path) -> None:
    whole = gzip.compress(lines(minute(20)))
    dice = random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path = tmp_path / "r"
        path.write_bytes(damaged[: dice.randint(1, len(damaged))])
        try:
            recording = loaded(path)
        except RecordingError as error:
            assert str(path) in error.message
        else:
            assert recording.count > 0


def test_a_place_finds_the_nearest_snapshot(tmp_path: Path) -> None:
    recording = loaded(write(tmp_path / "r", lines(minute(10))))
    assert [recording.at(place) for place in (-5.0, 0.0, 0.4, 0.5, 3.2, 9.0, 99.0)] == [0, 0, 0, 1, 3, 9, 9]


def test_what_devices_reported_belongs_to_the_snapshot_that_follows(tmp_path: Path) -> None:
    xid = Event(at(2.5), "fake:gpu-0", EventKind.DEVICE, Severity.CRITICAL, "XID 79")
    change = Event(at(2.5), "fake:gpu-0", EventKind.HEALTH, Severity.INFO, "ok")
    recording = loaded(write(tmp_path / "r", lines(minute(10), [(3, xid), (3, change)])))
    assert [recording.events(number) for number in (2, 3, 4)] == [(), (xid,), ()]


def test_the_file_is_closed_when_it_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"no")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RecordingError):
        RecordingFile(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
