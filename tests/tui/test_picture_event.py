"""Pictures of the events and of a replay, frozen: a change of their look is a change of a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.health import HealthState
from hwdash.core.replay import ReplayState
from hwdash.tui.app import HwdashApp
from hwdash.tui.table import DeviceTable
from tests.tui.machine import full_machine
from tests.tui.occurrence import alert, health, past_events, reported
from tests.tui.past import busy_history, throttled
from tests.tui.sample import START, mixed_snapshot
from tests.tui.screen_text import shown
from tests.tui.test_picture import StillApp

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
REPLAY = ReplayState("h200-power-cap.jsonl.gz", START, 38.0, 120.0, 4.0, paused=True, loop=True)


def app(replay: ReplayState | None = None, **config: Any) -> HwdashApp:
    client = FakeClient([replace(mixed_snapshot(), replay=replay)], (), busy_history(), interval_s=60.0)
    client.past_events = past_events()
    return StillApp(client, DashboardConfig(**config), host="node7")


def events_after(*keys: str, words: str = "XID 79") -> Callable[[Pilot[None]], Awaitable[None]]:
    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "8 devices")
        await pilot.app.run_action("show('events')")
        await pilot.press(*keys)
        await shown(pilot, words)
        await pilot.pause()

    return ready


async def replaying(pilot: Pilot[None]) -> None:
    await shown(pilot, "0:38/2:00")


@SIZES
def test_events(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=events_after("j"))


def test_events_in_ascii(snap_compare: Any) -> None:
    assert snap_compare(app(ascii=True), terminal_size=(80, 24), run_before=events_after("j", "j", "j"))


def test_filtered_events_in_a_narrow_terminal(snap_compare: Any) -> None:
    ready = events_after("v", "slash", *"xid", words="only warnings")
    assert snap_compare(app(theme="hwdash-light"), terminal_size=(44, 16), run_before=ready)


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (220, 50)])
def test_a_machine_with_everything(snap_compare: Any, size: tuple[int, int]) -> None:
    client = FakeClient([full_machine()], interval_s=60.0)
    dashboard = StillApp(client, host="node7")

    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "gpu1.2")
        for _ in full_machine().devices:
            if (row := pilot.app.screen.query_one(DeviceTable).selected) and row.status.device.id == "gpu0":
                break
            await pilot.press("j")
        await pilot.pause()

    assert snap_compare(dashboard, terminal_size=size, run_before=ready)


def test_history_with_events_and_a_suspicion(snap_compare: Any) -> None:
    dashboard = app()
    client = dashboard.client
    assert isinstance(client, FakeClient)
    assert client.history is not None
    client.history = replace(client.history, throttled=(throttled(430, 255, "power_cap"), throttled(120, 60)))
    client.past_events = (
        health(120, 0, HealthState.OK, HealthState.THROTTLED, "clock", suspected=True),
        health(680, 0, HealthState.OK, HealthState.LOST, "gone"),
        reported(690, "XID 79", 0),
        alert(300, 0),
        health(560, 0, HealthState.OK, HealthState.STALE, "no sample"),
    )

    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "8 devices")
        await pilot.app.run_action("show('history')")
        await shown(pilot, "reported by the device")
        await pilot.pause()

    assert snap_compare(dashboard, terminal_size=(100, 30), run_before=ready)


@SIZES
def test_a_replay(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(REPLAY), terminal_size=size, run_before=replaying)
