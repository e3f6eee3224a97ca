from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.errors import UsageError
from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, change, gpu, rows, until

IDS = {gpu(0).key: "gpu0"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    clock = ManualClock(START)
    clock.advance(100)
    store = await Store.open(tmp_path / "h.db", StoreConfig(), clock, pace=FAST)
    yield store
    await store.close()


def alert(seconds: float, *, active: bool = True, index: int = 0) -> Event:
    return Event(
        at(seconds),
        gpu(index).key,
        EventKind.ALERT,
        Severity.CRITICAL,
        "too hot: memory_temperature_c 96 °C above 95 °C",
        rule="too hot",
        active=active,
        actions=(AlertAction.TOAST,),
    )


async def kept(tmp_path: Path, count: int) -> None:
    await until(lambda: rows(tmp_path / "h.db", "SELECT count(*) FROM event") == [(count,)])


async def test_events_of_every_kind_come_back(store: Store, tmp_path: Path) -> None:
    slow = replace(change(1, HealthState.THROTTLED, ["clock 1395 of 1980 MHz"]), suspected=True, number=7)
    xid = Event(at(2), gpu(1).key, EventKind.DEVICE, Severity.CRITICAL, "XID 79: it fell\ud800 off the bus")
    for event in (slow, xid, alert(3), alert(4, active=False)):
        store.add_event(event)
    await kept(tmp_path, 4)
    history = await store.events(3600, None, None, 100, IDS)
    assert history.events == (
        replace(slow, device="gpu0", number=0),
        replace(xid, device=gpu(1).key, words="XID 79: it fell? off the bus"),
        replace(alert(3), device="gpu0", actions=()),
        replace(alert(4, active=False), device="gpu0", actions=()),
    )
    assert (history.since, history.until, history.truncated) == (at(100 - 3600), at(100), False)


async def test_by_window_device_kind_and_number(store: Store, tmp_path: Path) -> None:
    for second in range(10, 100, 10):
        store.add_event(alert(second) if second % 20 else change(second, HealthState.WARM, index=second // 50))
    await kept(tmp_path, 9)

    async def seconds(since_s: float, key: str | None, kind: EventKind | None, limit: int) -> tuple[list[float], bool]:
        history = await store.events(since_s, key, kind, limit, IDS)
        return [(event.at - START).total_seconds() for event in history.events], history.truncated

    assert await seconds(45, None, None, 100) == ([60, 70, 80, 90], False)
    assert await seconds(1000, None, None, 3) == ([70, 80, 90], True)
    assert await seconds(1000, None, None, 9) == ([10, 20, 30, 40, 50, 60, 70, 80, 90], False)
    assert await seconds(1000, gpu(1).key, None, 100) == ([60, 80], False)
    assert await seconds(1000, None, EventKind.ALERT, 2) == ([70, 90], True)
    assert await seconds(1000, gpu(0).key, EventKind.HEALTH, 100) == ([20, 40], False)
    assert await seconds(1000, "no:such", None, 100) == ([], False)


async def test_by_severity_the_least_or_worse(store: Store, tmp_path: Path) -> None:
    for second, severity in enumerate([*Severity] * 2, start=1):
        store.add_event(Event(at(second), gpu(0).key, EventKind.DEVICE, severity, "told"))
    await kept(tmp_path, 6)
    for least, count in ((Severity.INFO, 6), (Severity.WARNING, 4), (Severity.CRITICAL, 2)):
        history = await store.events(3600, None, None, 100, IDS, least)
        assert len(history.events) == count
        assert all(event.severity.weight >= least.weight for event in history.events)
    newest = await store.events(3600, None, None, 1, IDS, Severity.CRITICAL)
    assert (newest.events[0].at, newest.truncated) == (at(6), True)


@pytest.mark.parametrize(("since_s", "limit", "param"), [(0, 1, "since"), (float("nan"), 1, "since"), (1, 0, "limit")])
async def test_a_question_without_sense_is_refused(store: Store, since_s: float, limit: int, param: str) -> None:
    with pytest.raises(UsageError) as caught:
        await store.events(since_s, None, None, limit, IDS)
    assert caught.value.param == param


async def test_only_changes_of_health_begin_and_end_throttled_periods(store: Store, tmp_path: Path) -> None:
    store.add_event(change(10, HealthState.THROTTLED, ["power cap"]))
    store.add_event(alert(20))
    store.add_event(change(50, HealthState.OK))
    await kept(tmp_path, 3)
    for since_s in (1000, 75):
        history = await store.latency(since_s, None, 10, IDS)
        assert [period.end for period in history.throttled] == [at(50)]
        assert [period.reasons for period in history.throttled] == [("power cap",)]
