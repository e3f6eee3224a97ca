"""Recordings made by hand."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Reading
from hwdash.core.recording import Header, encode_event, encode_header, encode_snapshot
from hwdash.core.snapshot import DeviceStatus, Snapshot, SourceStatus
from hwdash.sources.fake import fake_gpu, fake_readings

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def at(position_s: float) -> datetime:
    return START + timedelta(seconds=position_s)


def status(position_s: float, device: Device | None = None, **changes: object) -> DeviceStatus:
    """A healthy device, sampled at *position_s*; ``power_w`` and the like are readings, the rest fields."""
    names = set(DeviceStatus.__dataclass_fields__)
    readings: dict[str, Reading] = {name: value for name, value in changes.items() if name not in names}  # type: ignore[misc]
    facts: dict[str, object] = {
        "device": device or fake_gpu(0, id="gpu0", visible_as=None),
        "readings": fake_readings(**readings),
        "pools": (),
        "throttle": (),
        "health": Health(HealthState.OK, (), START),
        "sampled_at": at(position_s),
        "age_s": 0.0,
    }
    return DeviceStatus(**(facts | {name: changes[name] for name in changes if name in names}))  # type: ignore[arg-type]


def snapshot(position_s: float, *devices: DeviceStatus, number: int = 1, interval_s: float = 1.0) -> Snapshot:
    names = dict.fromkeys(device.device.source for device in devices)
    sources = tuple(SourceStatus(name, 1) for name in names)
    return Snapshot(number, at(position_s), interval_s, devices, sources)


def lines(snapshots: Iterable[Snapshot], events: Sequence[tuple[int, Event]] = (), interval_s: float = 1.0) -> bytes:
    """The recording as plain lines; each event comes before the snapshot of that number (from 0)."""
    text = encode_header(Header(START, interval_s, "test"))
    for number, shown in enumerate(snapshots):
        for place, event in events:
            if place == number:
                text += encode_event(event)
        text += encode_snapshot(shown, (shown.taken_at - START).total_seconds())
    return text


def minute(seconds: int = 60) -> list[Snapshot]:
    """One snapshot a second; the power is the second."""
    return [
        snapshot(float(second), status(second, power_w=float(second)), number=second + 1) for second in range(seconds)
    ]


def write(path: Path, text: bytes) -> Path:
    path.write_bytes(gzip.compress(text))
    return path
