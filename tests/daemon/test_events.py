"""The event log: numbered once, in every snapshot for a while, in the store for good, over HTTP by question."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from hwdash.core.alert import AlertConfig, AlertRule
from hwdash.core.clock import ManualClock
from hwdash.core.config import Config
from hwdash.core.errors import UnknownDevice, UsageError
from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.daemon.events import MOST, EventLog
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.daemon.living import KEY, Living, living, until
from tests.daemon.receiver import receiving

HOT = AlertRule(
    "too hot", "temperature_c", above=85.0, severity=Severity.CRITICAL, actions=(AlertAction.BELL, AlertAction.WEBHOOK)
)


def event(severity: Severity = Severity.INFO, device: str = "gpu0") -> Event:
    return Event(datetime(2026, 1, 1, tzinfo=UTC), "k", EventKind.DEVICE, severity, "XID 79", device=device)


class Oven(FakeSource):
    """One GPU that is as hot as it is set."""

    def __init__(self) -> None:
        super().__init__([fake_gpu(0)], {KEY: lambda _: fake_readings(temperature_c=self.temperature)})
        self.temperature: Reading = 50.0


async def stored(daemon: Living, count: int, kind: EventKind | None = None) -> None:
    """Wait until *count* events are committed."""
    async with asyncio.timeout(20):
        while len((await daemon.client.events(3600, kind=kind)).events) < count:
            await asyncio.sleep(0.005)


def test_events_are_numbered_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[Event] = []
    log = EventLog(kept.append, ManualClock())
    with caplog.at_level(logging.INFO):
        for severity in Severity:
            log.add(event(severity))
    assert [item.number for item in kept] == [1, 2, 3]
    assert log.publish() == tuple(kept)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "gpu0: device: XID 79"),
        ("WARNING", "gpu0: device: XID 79"),
        ("ERROR", "gpu0: device: XID 79"),
    ]


def test_only_the_newest_are_recent() -> None:
    clock = ManualClock()
    log = EventLog(lambda _: None, clock)
    log.add(event())
    clock.advance(6.0)
    log.add(event())
    clock.advance(6.0)
    assert [item.number for item in log.publish()] == [1, 2], "no snapshot has carried the first one yet"
    assert [item.number for item in log.publish()] == [2]
    assert [item.number for item in log.publish(20.0)] == [1, 2]


def test_every_event_is_in_the_next_snapshot_and_the_newest_in_those_after() -> None:
    log = EventLog(lambda _: None, ManualClock())
    for _ in range(2 * MOST):
        log.add(event())
    assert [item.number for item in log.publish()] == list(range(1, 2 * MOST + 1))
    log.add(event())
    assert [item.number for item in log.publish()] == list(range(MOST + 2, 2 * MOST + 2))


async def test_a_machine_of_many_devices_tells_of_each() -> None:
    async with living(FakeSource([fake_gpu(index) for index in range(64)])) as daemon:
        assert len({item.key for item in (await daemon.client.snapshot()).events}) == 64


async def test_an_alert_goes_everywhere() -> None:
    oven = Oven()
    async with receiving() as receiver:
        config = Config(alerts=AlertConfig(f"http://127.0.0.1:{receiver.port}/hook", (HOT,)))
        async with living(oven, config=config) as daemon:
            await daemon.client.snapshot()
            oven.temperature = 90.0
            async with aclosing(daemon.client.stream()) as snapshots:
                async for snapshot in snapshots:
                    if any(item.kind is EventKind.ALERT for item in snapshot.events):
                        break
            numbers = [item.number for item in snapshot.events]
            assert numbers == sorted(set(numbers))
            told = next(item for item in snapshot.events if item.kind is EventKind.ALERT)
            assert told.words == "too hot: temperature_c 90 °C above 85 °C"
            assert (told.active, told.actions, told.device) == (True, HOT.actions, "gpu0")
            oven.temperature = 50.0
            await until(lambda: len(receiver.bodies) == 2)
            assert [body["event"]["active"] for body in receiver.bodies] == [True, False]
            assert receiver.bodies[0]["event"]["number"] == told.number
            await stored(daemon, 2, EventKind.ALERT)
            history = await daemon.client.events(3600, "gpu0", EventKind.ALERT)
            assert [(item.rule, item.active, item.severity) for item in history.events] == [
                ("too hot", True, Severity.CRITICAL),
                ("too hot", False, Severity.INFO),
            ]
            assert daemon.service.status().problems == ()


async def test_a_webhook_that_fails_stands_in_the_status() -> None:
    oven = Oven()
    oven.temperature = 90.0
    async with receiving() as receiver:
        port = receiver.port
    async with living(oven, config=Config(alerts=AlertConfig(f"http://127.0.0.1:{port}/s3cret", (HOT,)))) as daemon:
        await until(lambda: bool(daemon.service.status().problems))
        (problem,) = (await daemon.client.status()).problems
        assert problem.startswith(f"alerts.webhook http://127.0.0.1:{port}: ")
        assert "s3cret" not in problem


async def test_past_events_by_device_kind_and_number() -> None:
    async with living(Oven()) as daemon:
        await daemon.client.snapshot()
        await stored(daemon, 1)
        for name in (None, "gpu0", KEY):
            found = (await daemon.client.events(3600, name, EventKind.HEALTH)).events
            assert [(item.device, item.key, item.after) for item in found] == [("gpu0", KEY, HealthState.OK)]
        status, _, body = await daemon.ask("GET", "/api/v1/events?since=100d&kind=health&limit=1")
        assert status == 200
        assert set(json.loads(body)) == {"since", "until", "events", "truncated"}
        for severity, count in (("info", 1), ("warning", 0)):
            target = f"/api/v1/events?since=100d&kind=health&severity={severity}"
            assert len(json.loads((await daemon.ask("GET", target))[2])["events"]) == count
        with pytest.raises(UnknownDevice, match="gpu7"):
            await daemon.client.events(3600, "gpu7")
        with pytest.raises(UsageError, match="limit"):
            await daemon.client.events(3600, limit=0)


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/api/v1/events?since=soon", 400, "since"),
        ("/api/v1/events?kind=fire", 400, "kind"),
        ("/api/v1/events?limit=0", 400, "limit"),
        ("/api/v1/events?limit=10001", 400, "limit"),
        ("/api/v1/events?device=", 400, "device"),
        ("/api/v1/events?device=gpu9", 404, "gpu9"),
        (
            "/api/v1/events?devcie=gpu0",
            400,
            "devcie: unknown query parameter; there are: since, device, kind, severity, limit",
        ),
        ("/api/v1/events?%1b%5b2J%0a", 400, "unknown query parameter"),
        ("/api/v1/history/metrics", 400, "metric"),
        ("/api/v1/history/metrics?metric=pover_w", 400, "no metric 'pover_w'; did you mean power_w"),
        ("/api/v1/history/metrics?metric=power_w&device=gpu9", 404, "gpu9"),
        ("/api/v1/history/metrics?metric=power_w&kind=x", 400, "kind: unknown query parameter"),
        ("/api/v1/history/latency?bucket=3", 400, "bucket: unknown query parameter; there are: since, device, buckets"),
        ("/api/v1/devices?device=gpu0", 400, "device: unknown query parameter; this path takes none"),
        ("/api/v1/stream?interval=3", 400, "interval: unknown query parameter"),
        ("/health?probe=1", 200, ""),
    ],
)
async def test_a_question_that_is_not_understood_names_the_field(target: str, status: int, words: str) -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        got, _, body = await daemon.ask("GET", target)
        assert got == status
        if words:
            message = json.loads(body)["error"]["message"]
            assert words in message
            assert not any(ord(letter) < 32 for letter in message)


async def test_a_metric_over_time() -> None:
    async with living(Oven()) as daemon:
        await daemon.client.snapshot()
        async with asyncio.timeout(20):
            while not (history := await daemon.client.metric("temperature_c", 3600, "gpu0")).series:
                await asyncio.sleep(0.02)
        (series,) = history.series
        assert (series.device, series.device_key, history.metric) == ("gpu0", KEY, "temperature_c")
        assert series.summary is not None
        assert (series.summary.min, series.summary.mean, series.summary.max) == (50.0, 50.0, 50.0)
        (without,) = (await daemon.client.metric("fan_ratio", 3600)).series
        assert (without.summary, without.absent) == (None, Absent.NOT_SUPPORTED)
