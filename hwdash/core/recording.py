"""Recordings as lines: what `hwdash record` writes and a replay reads. Pure; opening and unpacking is the caller's.

A recording is JSON lines. The first one is the header; then ``snapshot`` lines in the wire form of
`hwdash.core.wire`, without what a replay makes anew (ranking, events), each with its ``position_s``, the seconds since
the first one; and ``event`` lines, before the snapshot that they came with. Lines of other types are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from hwdash.core.device import Device
from hwdash.core.errors import UsageError
from hwdash.core.event import Event
from hwdash.core.metric import BOUNDS, METRICS, Unit, is_possible
from hwdash.core.reading import Absent, Reading
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.text import sanitise_line
from hwdash.core.wire import dumps, from_wire, loads, to_wire

FORMAT = "hwdash-recording"
VERSION = 1
MAX_LINE_BYTES = 64 * 2**20
"""A longer line is no line of a recording."""
GZIP_WBITS = 31
"""zlib's number for a recording's compression: a window of 32 KiB, with the head and the checksum of gzip."""
MAX_FRAMES = 2_000_000
"""A recording has no more snapshots than this: 23 days at one a second."""

_MADE_ANEW = frozenset({"ranking", "events", "replay"})
_LONG_LINE_BYTES = 2**20
_MAX_TEXT = 2000
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_INTERVAL_S = (0.1, 60.0)
_MAX_AGE_S = 1e9
_EDGES = {
    "power_w": Unit.WATT,
    "temperature_slowdown_c": Unit.CELSIUS,
    "temperature_shutdown_c": Unit.CELSIUS,
    "memory_temperature_max_c": Unit.CELSIUS,
    "clock_hz": Unit.HERTZ,
    "memory_bandwidth_bytes_per_s": Unit.BYTES_PER_SECOND,
}
# Whatever could hide a character that `sanitise_line` replaces: an escape, DEL, C1, separators, bidirectional controls.
_SUSPECT = re.compile(rb"\\|\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


class RecordingError(UsageError):
    """A file is no recording, is damaged, or is of a newer hwdash. The message names the file and, if any, the line."""

    code = "recording"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: who wrote the recording (*hwdash* is a version), from when on (UTC), and the interval in s."""

    started_at: datetime
    interval_s: float
    hwdash: str = ""
    version: int = VERSION
    anonymised: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One recorded snapshot and its place in seconds from the start."""

    position_s: float
    snapshot: Snapshot


def encode_header(header: Header) -> bytes:
    """*header* as a line, with its line end."""
    return dumps({"type": "header", "format": FORMAT} | to_wire(header)) + b"\n"


def encode_snapshot(snapshot: Snapshot, position_s: float) -> bytes:
    """*snapshot* at *position_s* as a line, without ranking, events and the state of a replay."""
    bare = replace(snapshot, ranking=None, events=(), replay=None)
    return dumps({"type": "snapshot", "position_s": round(position_s, 3)} | to_wire(bare)) + b"\n"


def encode_event(event: Event) -> bytes:
    """*event* as a line."""
    return dumps({"type": "event"} | to_wire(event)) + b"\n"


def decode_header(line: bytes, name: str) -> Header:
    """The header of the recording *name*, from its first line. Raises `RecordingError`."""
    try:
        data = loads(line)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("type") != "header" or data.get("format") != FORMAT:
        raise RecordingError(f"{name}: not a recording of hwdash; make one with: hwdash record FILE", param="replay")
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _error(name, 1, "version: must be a whole number from 1 on")
    if version > VERSION:
        written_by = sanitise_line(str(data.get("hwdash") or "a newer version"), 40)
        raise RecordingError(
            f"{name}: a recording of version {version}, written by hwdash {written_by}; this hwdash reads "
            f"version {VERSION}: update it",
            param="replay",
        )
    header: Header = _converted(lambda: from_wire(data, Header), name, 1)
    _check_time("started_at", header.started_at, name, 1)
    if not _INTERVAL_S[0] <= header.interval_s <= _INTERVAL_S[1]:
        raise _error(name, 1, "interval_s: must be between 0.1 and 60 seconds")
    return replace(header, hwdash=sanitise_line(header.hwdash, 40))


class Decoder:
    """Reads the lines after the header, in order. *name* names the file in messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last_s = 0.0
        self._frames = 0

    def decode(self, line: bytes, number: int) -> Frame | Event | None:
        """The snapshot or event of *line*, None for a line of another type. *number* is the line's, from 1.

        Raises `RecordingError` for what is no JSON object, has wrong types or values, or goes back in time.
        """
        item = decode_line(line, self._name, number)
        if isinstance(item, Frame):
            if item.position_s < self._last_s:
                raise _error(self._name, number, f"time runs backwards: {item.position_s:g} s after {self._last_s:g} s")
            self._last_s = item.position_s
            self._frames += 1
            if self._frames > MAX_FRAMES:
                raise _error(self._name, number, f"more than {MAX_FRAMES} snapshots; record a shorter time")
        return item


def decode_line(line: bytes, name: str, number: int) -> Frame | Event | None:
    """One line after the header, by itself. Raises `RecordingError`."""
    data = _converted(lambda: loads(line), name, number)
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise _error(name, number, "type: a line is an object with a type")
    if data["type"] not in ("snapshot", "event"):
        return None
    if len(line) > _LONG_LINE_BYTES or _SUSPECT.search(line):
        data = _converted(lambda: _clean(data), name, number)
    if data["type"] == "event":
        event: Event = _converted(lambda: from_wire(data, Event), name, number)
        _check_time("at", event.at, name, number)
        return event
    return _frame(data, name, number)


def _frame(data: dict[str, Any], name: str, number: int) -> Frame:
    position_s = data.get("position_s")
    if not isinstance(position_s, int | float) or isinstance(position_s, bool) or not 0 <= position_s <= _MAX_AGE_S:
        raise _error(name, number, "position_s: must be the seconds since the first snapshot")
    if not isinstance(data.get("devices"), list):
        raise _error(name, number, "devices: must be a list")
    bare = {key: value for key, value in data.items() if key not in _MADE_ANEW}
    snapshot: Snapshot = _converted(lambda: from_wire(bare, Snapshot), name, number)
    _check_time("taken_at", snapshot.taken_at, name, number)
    keys = {status.device.key for status in snapshot.devices}
    if len(keys) < len(snapshot.devices) or "" in keys:
        raise _error(name, number, "devices: each needs a key of its own")
    devices = tuple(_checked(status, name, number) for status in snapshot.devices)
    return Frame(float(position_s), replace(snapshot, devices=devices))


def _checked(status: DeviceStatus, name: str, number: int) -> DeviceStatus:
    """*status* when its times, ages and pools can be counted with.

    Metrics that this hwdash does not know are left out; numbers that no metric can have are absent.
    """
    device_id = status.device.id or status.device.key
    _check_time(f"{device_id}.health.since", status.health.since, name, number)
    if status.sampled_at is not None:
        _check_time(f"{device_id}.sampled_at", status.sampled_at, name, number)
    if status.last_request is not None:
        _check_time(f"{device_id}.last_request.finished_at", status.last_request.finished_at, name, number)
    if status.age_s is not None and not 0 <= status.age_s <= _MAX_AGE_S:
        raise _error(name, number, f"{sanitise_line(device_id, 60)}.age_s: must be seconds, 0 or more")
    most = BOUNDS[Unit.BYTES][1]
    if any(
        not 0 <= size <= most for pool in status.pools for size in (pool.total_bytes, pool.used_bytes, pool.free_bytes)
    ):
        raise _error(name, number, f"{sanitise_line(device_id, 60)}.pools: must be bytes, 0 or more")
    readings = {key: _possible(key, value) for key, value in status.readings.items() if key in METRICS}
    return replace(status, readings=readings, device=_with_edges(status.device))


def _possible(metric: str, reading: Reading) -> Reading:
    return reading if isinstance(reading, Absent) or is_possible(metric, reading) else Absent.BAD_VALUE


@lru_cache(maxsize=1024)
def _with_edges(device: Device) -> Device:
    """*device* without limits that cannot be."""
    changes = {
        field: None
        for field, unit in _EDGES.items()
        if (edge := getattr(device.limits, field)) is not None and not 0 < edge <= BOUNDS[unit][1]
    }
    return replace(device, limits=replace(device.limits, **changes)) if changes else device


def _check_time(field: str, moment: datetime, name: str, number: int) -> None:
    if moment.tzinfo is None or not _EARLIEST <= moment <= _LATEST:
        raise _error(name, number, f"{sanitise_line(field, 80)}: must be a time with its offset from UTC")


def _converted(convert: Any, name: str, number: int) -> Any:
    try:
        return convert()
    except msgspec.ValidationError as error:
        raise _error(name, number, sanitise_line(str(error))) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        words = "not JSON" if isinstance(error, msgspec.DecodeError | RecursionError) else "not a line of a recording"
        raise _error(name, number, f"{words} ({sanitise_line(str(error), 100)})") from None


def _clean(value: Any) -> Any:
    """*value* with every text made one safe line."""
    if isinstance(value, str):
        return sanitise_line(value, _MAX_TEXT)
    if isinstance(value, dict):
        return {sanitise_line(key, _MAX_TEXT): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _error(name: str, number: int, problem: str) -> RecordingError:
    return RecordingError(f"{name}:{number}: {problem}", param="replay")
