"""Recordings as lines: what was written comes back, and whatever else a file holds is one clear error."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import Health, HealthState
from hwdash.core.process import DeviceProcess
from hwdash.core.reading import Absent
from hwdash.core.recording import (
    MAX_LINE_BYTES,
    Decoder,
    Frame,
    Header,
    RecordingError,
    decode_header,
    decode_line,
    encode_event,
    encode_header,
    encode_snapshot,
)
from hwdash.core.sample import Fault
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot, SourceStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.sources.fake import fake_gpu, fake_readings

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HEADER = Header(NOW, 1.0, "1.2")


def status(**readings: float | Absent) -> DeviceStatus:
    return DeviceStatus(
        device=fake_gpu(id="gpu0", visible_as=None),
        readings=fake_readings(**readings),
        pools=(),
        throttle=(ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=0.5, seconds=12.5),),
        health=Health(HealthState.THROTTLED, ("power cap",), NOW),
        sampled_at=NOW,
        age_s=0.004,
        last_request=LastRequest("m", NOW, 0.1, 40.0, 0.02),
        processes=(DeviceProcess(7, name="python", user="ann", memory_bytes=5),),
        faults=(Fault("row_remap_pending", "rows wait: reset the card"),),
        clock_is_set=True,
    )


def snapshot(**readings: float | Absent) -> Snapshot:
    return Snapshot(7, NOW, 1.0, (status(**readings),), (SourceStatus("fake", 1, 0.01, "no rights"),))


def event(**changes: object) -> Event:
    return replace(
        Event(NOW, "fake:gpu-0", EventKind.DEVICE, Severity.CRITICAL, "XID 79", device="gpu0", number=3),
        **changes,  # type: ignore[arg-type]
    )


def line(**changes: object) -> bytes:
    data = json.loads(encode_snapshot(snapshot(), 1.5))
    return json.dumps(data | changes).encode()


def test_what_is_written_comes_back() -> None:
    assert decode_header(encode_header(HEADER), "f") == HEADER
    assert decode_line(encode_snapshot(snapshot(), 1.5), "f", 2) == Frame(1.5, snapshot())
    assert decode_line(encode_event(event()), "f", 2) == event()


@given(
    st.fixed_dictionaries(
        {}, optional={"power_w": st.floats(0, 1e5), "clock_hz": st.floats(0, 1e12), "load_1m": st.floats(0, 1e6)}
    ),
    st.floats(0, 1e6),
)
def test_numbers_come_back_as_they_were(readings: dict[str, float], position_s: float) -> None:
    back = decode_line(encode_snapshot(snapshot(**readings), position_s), "f", 2)
    assert isinstance(back, Frame)
    assert back.snapshot == snapshot(**readings)
    assert back.position_s == pytest.approx(position_s, abs=0.001)


def test_what_a_replay_makes_anew_is_not_written() -> None:
    written = json.loads(encode_snapshot(replace(snapshot(), events=(event(),)), 0.0))
    assert written["events"] == []
    assert "ranking" not in written


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not a recording"),
        (b"PNG", "not a recording"),
        (b"[1]", "not a recording"),
        (b'{"type":"header","format":"other","version":1}', "not a recording"),
        (b'{"type":"header","format":"hwdash-recording","version":"1"}', "f:1: version"),
        (b'{"type":"header","format":"hwdash-recording","version":0}', "f:1: version"),
        (b'{"type":"header","format":"hwdash-recording","version":2,"hwdash":"9.0"}', "written by hwdash 9.0"),
        (b'{"type":"header","format":"hwdash-recording","version":1,"interval_s":1}', "started_at"),
        (
            b'{"type":"header","format":"hwdash-recording","version":1,"interval_s":1,"started_at":"2026-01-01T00:00:00"}',
            "f:1: started_at: must be a time with its offset",
        ),
        (
            b'{"type":"header","format":"hwdash-recording","version":1,"interval_s":0,"started_at":"2026-01-01T00:00:00Z"}',
            "interval_s: must be between 0.1 and 60",
        ),
    ],
)
def test_what_is_no_header_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(RecordingError) as refusal:
        decode_header(text, "f")
    assert words in refusal.value.message
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "f:9: not JSON"),
        (b"7", "f:9: type:"),
        (b'{"type":7}', "f:9: type:"),
        (b'{"type":"snapshot"}', "f:9: position_s"),
        (line(position_s=-1), "position_s"),
        (line(position_s=True), "position_s"),
        (line(position_s=1e300), "position_s"),
        (line(position_s=float("nan")), "f:9: not JSON"),
        (line(devices={}), "f:9:"),
        (line(devices=[7]), "f:9:"),
        (line(sequence="x"), "f:9: Expected `int`, got `str`"),
        (line(taken_at="2026-01-01T00:00:00"), "taken_at: must be a time with its offset"),
        (line(taken_at="0001-01-01T00:00:00Z"), "taken_at"),
        (b'{"type":"event"}', "f:9:"),
        (b"[" * 100_000, "f:9: not JSON"),
    ],
)
def test_a_damaged_line_is_told_with_its_number(text: bytes, words: str) -> None:
    with pytest.raises(RecordingError) as refusal:
        decode_line(text, "f", 9)
    assert words in refusal.value.message
    assert "\n" not in refusal.value.message


def with_device(**changes: object) -> bytes:
    data = json.loads(encode_snapshot(snapshot(), 1.5))
    data["devices"][0] |= changes
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""},
        {"metrics": {"power_w": "much"}},
        {"absent": {"power_w": "no_idea"}},
        {"age_s": -5},
        {"sampled_at": "2026-01-01T00:00:00"},
        {"throttle": [{"reason": "laziness", "active": True}]},
        {"health": {}},
        {"pools": [{"id": "hbm", "total_bytes": 10**400, "used_bytes": 0, "free_bytes": 0}]},
        {"pools": [{"id": "hbm", "total_bytes": 1, "used_bytes": -1, "free_bytes": 0}]},
    ],
)
def test_a_device_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordingError, match=r"^f:9: "):
        decode_line(with_device(**changes), "f", 9)


def test_numbers_that_cannot_be_are_absent() -> None:
    data = with_device(
        metrics={"utilization": 1e308, "temperature_c": -300.0, "power_w": 3.0},
        limits={"power_w": 1e308, "clock_hz": 0, "temperature_slowdown_c": 89.0, "memory_bandwidth_bytes_per_s": -1},
    )
    back = decode_line(data, "f", 2)
    assert isinstance(back, Frame)
    status = back.snapshot.devices[0]
    assert {name: status.readings[name] for name in ("utilization", "temperature_c", "power_w")} == {
        "utilization": Absent.BAD_VALUE,
        "temperature_c": Absent.BAD_VALUE,
        "power_w": 3.0,
    }
    limits = status.device.limits
    assert (limits.power_w, limits.clock_hz, limits.temperature_slowdown_c) == (None, None, 89.0)
    assert limits.memory_bandwidth_bytes_per_s is None


def test_two_devices_of_one_key_are_refused() -> None:
    data = json.loads(encode_snapshot(snapshot(), 1.5))
    data["devices"] *= 2
    with pytest.raises(RecordingError, match="a key of its own"):
        decode_line(json.dumps(data).encode(), "f", 9)


def test_lines_and_metrics_of_a_later_version_are_passed_over() -> None:
    assert decode_line(b'{"type":"weather","rain":true}', "f", 2) is None
    back = decode_line(with_device(metrics={"power_w": 3.0, "colour_w": 4.0}, new="x"), "f", 2)
    assert isinstance(back, Frame)
    assert "colour_w" not in back.snapshot.devices[0].readings
    assert back.snapshot.devices[0].readings["power_w"] == 3.0


def test_time_does_not_run_backwards() -> None:
    decoder = Decoder("f")
    decoder.decode(encode_snapshot(snapshot(), 2.0), 2)
    decoder.decode(encode_snapshot(snapshot(), 2.0), 3)
    with pytest.raises(RecordingError, match="f:4: time runs backwards: 1 s after 2 s"):
        decoder.decode(encode_snapshot(snapshot(), 1.0), 4)


@pytest.mark.parametrize("evil", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x9b2Jb", "a\x7fb", "a\u200fb", "a\u061cb"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_are_made_safe(evil: str, ascii_only: bool) -> None:
    data = json.loads(encode_snapshot(snapshot(), 1.5))
    data["devices"][0]["name"] = evil
    back = decode_line(json.dumps(data, ensure_ascii=ascii_only).encode(), "f", 2)
    assert isinstance(back, Frame)
    assert not set(back.snapshot.devices[0].device.name) & set("\x1b\n\u202e\x9b\x7f\u200f\u061c")


def test_a_text_of_a_megabyte_is_cut() -> None:
    back = decode_line(with_device(name="x" * 2**21), "f", 2)
    assert isinstance(back, Frame)
    assert len(back.snapshot.devices[0].device.name) <= 2000
    assert MAX_LINE_BYTES > 2**21


@given(st.data())
def test_whatever_the_bytes_there_is_one_error(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from([line(), encode_event(event()).strip(), with_device(parent="p")])))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                text[place] = data.draw(st.integers(0, 255))
            case 1:
                del text[place : place + data.draw(st.integers(1, 40))]
            case _:
                text[place:place] = data.draw(st.sampled_from([b"1e999", b"null", b"-", b'"', b"[]", b"9" * 400]))
        if not text:
            return
    try:
        decode_line(bytes(text), "f", 9)
    except RecordingError as error:
        assert error.message.startswith("f:9: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(line()))), JSON)
def test_whatever_a_field_holds_there_is_one_error(field: str, value: object) -> None:
    try:
        decode_line(line(**{field: value}), "f", 9)
    except RecordingError as error:
        assert error.message.startswith("f:9: ")


@given(st.sampled_from(sorted(json.loads(line())["devices"][0])), JSON)
def test_whatever_a_field_of_a_device_holds_there_is_one_error(field: str, value: object) -> None:
    try:
        decode_line(with_device(**{field: value}), "f", 9)
    except RecordingError as error:
        assert error.message.startswith("f:9: ")


def test_times_are_told_in_utc() -> None:
    shifted = (NOW + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")
    back = decode_line(line(taken_at=shifted), "f", 2)
    assert isinstance(back, Frame)
    assert back.snapshot.taken_at == NOW
