"""What the store's tests are made of."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.event import SEVERITY_OF, Event, EventKind
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import Conditions, Energy, FinishReason, InferenceRecord, Route, Timing, TokenCounts
from hwdash.core.reading import Absent, Reading
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import ThrottleActivity
from hwdash.store.writer import Pace

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FAST = Pace(commit_s=0.01, retry_s=0.02, maintain_s=0.05)
READINGS: Mapping[str, Reading] = {
    "utilization": 0.5,
    "memory_used_bytes": 20.0 * 2**30,
    "temperature_c": 50.25,
    "power_w": 350.125,
    "energy_j": 1e9,
    "clock_hz": 1.755e9,
    "fan_ratio": Absent.NOT_SUPPORTED,
    "memory_temperature_c": Absent.NO_PERMISSION,
}
_numbers = itertools.count()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def gpu(index: int = 0) -> Device:
    return Device(
        key=f"fake:gpu-{index}",
        kind=DeviceKind.GPU,
        vendor="Fake",
        name=f"Fake GPU {index}",
        source="fake",
        id=f"gpu{index}",
        capabilities=Capabilities("9.0", ("fp32",), 132, inference=True),
    )


def status(
    seconds: float | None,
    index: int = 0,
    readings: Mapping[str, Reading] = READINGS,
    throttle: tuple[ThrottleActivity, ...] = (),
    state: HealthState = HealthState.OK,
) -> DeviceStatus:
    sampled_at = None if seconds is None else at(seconds)
    return DeviceStatus(gpu(index), readings, (), throttle, Health(state, (), START), sampled_at, 0.0)


def snapshot(*devices: DeviceStatus) -> Snapshot:
    number = next(_numbers)
    return Snapshot(number, at(number), 1.0, devices)


def change(seconds: float, after: HealthState, reasons: Sequence[str] = (), index: int = 0) -> Event:
    return Event(
        at(seconds),
        gpu(index).key,
        EventKind.HEALTH,
        SEVERITY_OF[after],
        after.value,
        before=HealthState.OK,
        after=after,
        reasons=tuple(reasons),
        throttle=("power_cap",),
    )


def record(
    seconds: float = 0.0,
    *,
    ttft_s: float | None = 0.1,
    finish: FinishReason = FinishReason.STOP,
    index: int = 0,
    model: str = "tiny",
    uid: str = "",
    **changes: Any,
) -> InferenceRecord:
    facts: dict[str, Any] = {
        "id": uid or f"request-{next(_numbers)}",
        "started_at": at(seconds),
        "model": model,
        "device": f"gpu{index}",
        "device_key": gpu(index).key,
        "route": Route("auto", ("free",), "fake:gpu-9"),
        "tokens": TokenCounts(31, 64),
        "timing": Timing(0.001, None, ttft_s, 0.0101, 0.0203, 0.75, 98.5),
        "energy": Energy(12.3, "device", 0.1921875, 0.37, 4.1),
        "conditions": Conditions(("power_cap", "prochot"), 54.0, 1.395e9),
        "finish_reason": finish,
        "dtype": "bf16",
    }
    return InferenceRecord(**(facts | changes))


def rows(path: Path, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What a question to the file gives, on a read-only connection of its own."""
    with reading(path) as connection:
        return connection.execute(sql, parameters).fetchall()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until *condition* holds; fail after *seconds*."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
