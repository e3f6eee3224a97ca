"""The screen of events with the pilot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets._toast import Toast

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import DaemonUnreachable
from hwdash.core.event import Event, EventKind
from hwdash.core.history import EventHistory
from hwdash.core.snapshot import Snapshot
from hwdash.tui.app import HwdashApp
from hwdash.tui.event import EventScreen
from hwdash.tui.event_list import EventList
from hwdash.tui.table import DeviceTable
from tests.tui.occurrence import alert, past_events, reported
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import frame, shown, text, until


class Daemon(FakeClient):
    """A fake whose past can fail, and whose stream can be told to go on."""

    failure_of_events: Exception | None = None

    async def events(
        self, since_s: float, device: str | None = None, kind: EventKind | None = None, limit: int = 1000
    ) -> EventHistory:
        found = await super().events(since_s, device, kind, limit)
        if self.failure_of_events is not None:
            raise self.failure_of_events
        return found


@asynccontextmanager
async def opened(
    past: tuple[Event, ...] = (),
    *snapshots: Snapshot,
    size: tuple[int, int] = (80, 24),
    config: DashboardConfig | None = None,
    keys: tuple[str, ...] = ("4",),
) -> AsyncIterator[tuple[Pilot[None], Daemon, HwdashApp]]:
    client = Daemon(snapshots or [mixed_snapshot()], interval_s=0.1)
    client.past_events = past
    app = HwdashApp(client, config, host="node7")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press(*keys)
        yield pilot, client, app


def listed(app: HwdashApp) -> tuple[Event, ...]:
    return app.screen.query_one(EventList)._events


def event_screen(app: HwdashApp) -> EventScreen:
    assert isinstance(app.screen, EventScreen)
    return app.screen


async def test_past_events_newest_first_with_all_about_the_chosen_one() -> None:
    async with opened(past_events()) as (pilot, client, app):
        await shown(pilot, "XID 79")
        assert client.event_calls[0][0] == 3600
        lines = [line for line in frame(app) if " gpu" in line and ("WARNING" in line or "CRITICAL" in line)]
        assert "the device is gone" in lines[0]
        assert "XID 79" in lines[1]
        assert "ok → lost" in text(app)
        assert "last sample: 71 °C" in text(app)
        assert "found: ok" not in text(app), "older than the window"
        await pilot.press("right", "right")
        await until(pilot, lambda: client.event_calls[-1][0] == 86_400)
        await pilot.press("G")
        await shown(pilot, "power cap: clock 1395")
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: event_screen(app).window.title == "6 h")


async def test_filters_and_the_way_back() -> None:
    async with opened(past_events()) as (pilot, _, app):
        await shown(pilot, "XID 79")
        await pilot.press("v", "v")
        await until(pilot, lambda: len(listed(app)) == 2)
        assert "critical only" in text(app)
        await pilot.press("c", "c", "c")
        await shown(pilot, "none of 8 events of the last 1 h is kind alert, critical only: Esc shows all")
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)
        await pilot.press("d")
        await shown(pilot, "device gpu0")
        await pilot.press("escape", "slash", *"XiD")
        await until(pilot, lambda: len(listed(app)) == 1)
        await pilot.press("enter", "j", "k")
        assert isinstance(app.focused, EventList)
        assert "with “XiD”" in text(app)
        await pilot.press("slash", "escape")
        await until(pilot, lambda: len(listed(app)) == 8)


async def test_the_field_takes_every_character() -> None:
    async with opened(past_events()) as (pilot, _, app):
        await shown(pilot, "XID 79")
        typed = ("1", "q", "t", "question_mark", "left_square_bracket", "0", "plus", "space", "L", "slash")
        await pilot.press("slash", *typed)
        await until(pilot, lambda: event_screen(app).filter.text == "1qt?[0+ L/")
        assert app.is_running


async def test_moving_and_going_to_the_device() -> None:
    async with opened(past_events()) as (pilot, _, app):
        await shown(pilot, "XID 79")
        await pilot.press("down", "j", "pagedown", "pageup", "end", "home", "G", "k", "g", "j", "j")
        selected = app.screen.query_one(EventList).selected
        assert selected is not None
        assert selected.device == "gpu5"
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "overview")
        row = app.screen.query_one(DeviceTable).selected
        assert row is not None
        assert row.status.device.id == "gpu5"


async def test_a_device_that_is_gone_is_said() -> None:
    stranger = replace(reported(10, "gone"), key="nvidia:GPU-gone", device="gpu9")
    async with opened((stranger,)) as (pilot, _, app):
        await shown(pilot, "gpu9")
        await pilot.press("enter")
        await shown(pilot, "gpu9 is not there any more")
        assert app.current_mode == "events"


async def test_live_events_come_in_and_the_cursor_stays() -> None:
    async with opened(past_events()) as (pilot, client, app):
        await shown(pilot, "XID 79")
        await pilot.press("j")
        assert isinstance(client.snapshots, list)
        client.snapshots.append(replace(mixed_snapshot(2), events=(reported(0, "XID 13: fresh", 1, number=4),)))
        await shown(pilot, "XID 13: fresh")
        selected = app.screen.query_one(EventList).selected
        assert selected is not None
        assert selected.words.startswith("XID 79")
        assert len(listed(app)) == 9


async def test_empty_and_broken_are_words() -> None:
    async with opened() as (pilot, client, _):
        await shown(pilot, "no events in the last 1 h")
        client.failure_of_events = DaemonUnreachable("the store cannot be read: [/x]")
        await pilot.press("r")
        await shown(pilot, "the store cannot be read: [/x]")
        client.failure_of_events = RuntimeError("bug")
        await pilot.press("r")
        await shown(pilot, "the reason is in the log")
        client.failure_of_events = None
        await pilot.press("r")
        await shown(pilot, "no events in the last 1 h")


async def test_the_header_counts_what_nobody_looked_at() -> None:
    async with opened((), keys=()) as (pilot, client, app):
        await shown(pilot, "gpu0")
        events = (alert(1, number=1), reported(0, "XID 79", number=2), alert(0, active=False, number=3))
        client.snapshots.append(replace(mixed_snapshot(2), events=events))
        await shown(pilot, "2 new")
        await pilot.press("4")
        await until(pilot, lambda: "2 new" not in frame(app)[0])
        await pilot.press("1")
        await pilot.pause()
        assert "new" not in frame(app)[0]


async def test_an_alert_is_a_toast_and_a_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[bool] = []
    monkeypatch.setattr(HwdashApp, "bell", lambda self: rung.append(True))
    hostile = replace(alert(0, number=1), words="[/x][red]97 °C")
    async with opened((), keys=()) as (pilot, client, app):
        await shown(pilot, "gpu0")
        client.snapshots.append(replace(mixed_snapshot(2), events=(hostile,)))
        await until(pilot, lambda: bool(rung))
        await shown(pilot, "[/x][red]97 °C")
        assert len(rung) == 1
        assert len(app._notifications) == 1


async def test_toasts_leave_most_of_a_small_terminal_free() -> None:
    async with opened((), keys=(), size=(80, 24)) as (pilot, client, app):
        await shown(pilot, "gpu0")
        news = tuple(alert(0, number=number) for number in range(1, 9))
        client.snapshots.append(replace(mixed_snapshot(2), events=news))
        await shown(pilot, "7 more events: press 4")
        toasts = app.screen.query(Toast)
        assert len(toasts) == 2
        assert all(toast.outer_size.height == 2 and toast.outer_size.width <= 40 for toast in toasts)
        assert "memory temperature 97 °C, above" in text(app)


@pytest.mark.parametrize("size", [(40, 12), (20, 3), (300, 80), (10, 1), (79, 23), (60, 10)], ids=str)
@pytest.mark.parametrize("config", [DashboardConfig(), DashboardConfig(ascii=True)], ids=["unicode", "ascii"])
async def test_sizes(size: tuple[int, int], config: DashboardConfig) -> None:
    async with opened(past_events(), size=size, config=config) as (pilot, client, app):
        await until(pilot, lambda: bool(client.event_calls))
        await pilot.press("G", "slash", "x", "escape", "v")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert {len(line) for line in frame(app)} == {size[0]}
        if config.ascii:
            assert text(app).isascii()


async def test_hidden_it_rests_and_reads_again_when_it_comes_back() -> None:
    async with opened(past_events()) as (pilot, client, app):
        await shown(pilot, "XID 79")
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "overview")
        asked = len(client.event_calls)
        client.snapshots.append(replace(mixed_snapshot(2), events=(reported(0, "XID 13", 1, number=4),)))
        await until(pilot, lambda: len(app.events.events) > len(past_events()))
        assert len(client.event_calls) == asked
        await pilot.press("4")
        await shown(pilot, "XID 13")
        await until(pilot, lambda: len(client.event_calls) > asked)


async def test_nothing_is_drawn_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(past_events()) as (pilot, _, app):
        await shown(pilot, "XID 79")
        await pilot.pause()
        drawn: list[bool] = []
        monkeypatch.setattr(EventList, "redraw", lambda self: drawn.append(True))
        before = app.snapshot
        await until(pilot, lambda: app.snapshot is not before)
        await pilot.pause()
        assert drawn == []
