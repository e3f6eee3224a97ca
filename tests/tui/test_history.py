"""The history screen: what it asks for, when, and what it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import DaemonUnreachable, UnknownDevice
from hwdash.core.history import LatencyHistory
from hwdash.core.snapshot import LastRequest
from hwdash.tui.app import HwdashApp
from hwdash.tui.chart import Plan
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.history import HistoryScreen
from hwdash.tui.line import Line
from tests.tui.past import MODEL, bucket, busy_history, history, series
from tests.tui.sample import START, gpu, mixed_snapshot
from tests.tui.screen_text import text, until


class Daemon(FakeClient):
    """A fake whose history can fail."""

    history_failure: Exception | None = None

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        found = await super().latency(since_s, device, buckets)
        if self.history_failure is not None:
            failure, self.history_failure = self.history_failure, None
            raise failure
        return found


@asynccontextmanager
async def opened(
    found: LatencyHistory | None,
    size: tuple[int, int] = (80, 24),
    config: DashboardConfig | None = None,
    interval_s: float = 1.0,
) -> AsyncIterator[tuple[Pilot[None], Daemon, HistoryScreen]]:
    client = Daemon([mixed_snapshot()], history=found, interval_s=interval_s)
    app = HwdashApp(client, config, host="box")
    async with app.run_test(size=size) as pilot:
        await app.action_show("history")
        await until(pilot, lambda: bool(client.latency_calls))
        screen = app.screen
        assert isinstance(screen, HistoryScreen)
        yield pilot, client, screen


async def test_chart_and_table() -> None:
    async with opened(busy_history()) as (pilot, _, screen):
        await until(pilot, lambda: "■ p99\n" in text(pilot.app))
        on_screen = text(pilot.app)
        assert "throttled: power cap" in on_screen
        assert "03:06" in on_screen
        assert "0 ms" in on_screen
        assert all(label in on_screen for label in ("p50", "p95", "p99"))
        assert screen.chosen is not None
        assert screen.chosen.device == "gpu0"
        assert "156" in on_screen


async def test_metric_window_device_and_row() -> None:
    async with opened(busy_history()) as (pilot, client, screen):
        await until(pilot, lambda: screen.chosen is not None)
        await pilot.press("m")
        assert screen.figure == "itl"
        await until(pilot, lambda: "between tokens" in text(pilot.app))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: client.latency_calls[-1] == (3600, None))
        await pilot.press("left", "left")
        await until(pilot, lambda: client.latency_calls[-1] == (300, None))
        await pilot.press("left")
        assert screen.window.seconds == 300
        await pilot.press("down")
        assert screen.chosen is not None
        assert screen.chosen.device == "gpu3"
        await pilot.press("d")
        await until(pilot, lambda: client.latency_calls[-1] == (300, gpu(0).key))


async def test_the_series_with_the_most_to_show_is_charted_and_a_choice_stays() -> None:
    failed = series([bucket(30, None, requests=0, errors=9)], model="/broken")
    few, many = series([bucket(30, 0.1)], model="a"), series([bucket(60, 0.1), bucket(30, 0.1)], model="b")
    async with opened(history(failed, few, many)) as (pilot, client, screen):
        await until(pilot, lambda: screen.chosen == many)
        await pilot.press("up")
        assert screen.chosen == few
        client.history = history(failed, series([bucket(30, 0.1)], model="0"), few, many)
        asked = len(client.latency_calls)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: len(client.latency_calls) > asked)
        await pilot.pause()
        assert screen.chosen == few


async def test_nothing_yet() -> None:
    async with opened(history()) as (pilot, _, _screen):
        await until(pilot, lambda: "no prompts in the last 15 min: press 2 to send one" in text(pilot.app))


async def test_errors_only() -> None:
    async with opened(history(series([bucket(60, None, requests=3, errors=3)]))) as (pilot, _, _screen):
        await until(pilot, lambda: "3 failed" in text(pilot.app))


async def test_a_daemon_that_is_gone_leaves_the_old_chart() -> None:
    async with opened(busy_history()) as (pilot, client, _):
        await until(pilot, lambda: "■ p99\n" in text(pilot.app))
        client.history_failure = DaemonUnreachable("the daemon is gone: start it")
        await pilot.press("right")
        await until(pilot, lambda: "the daemon is gone: start it" in text(pilot.app))
        assert "■ p99\n" in text(pilot.app)


@pytest.mark.parametrize("failure", [UnknownDevice("gpu0"), RuntimeError("[/broken] \x1b[2J")])
async def test_a_failure_is_a_line(failure: Exception) -> None:
    async with opened(busy_history()) as (pilot, client, _):
        client.history_failure = failure
        await pilot.press("d")
        words = "not known any more" if isinstance(failure, UnknownDevice) else "reason is in the log"
        await until(pilot, lambda: words in text(pilot.app))


async def test_a_finished_prompt_is_looked_for_at_once() -> None:
    async with opened(busy_history(), interval_s=0.05) as (pilot, client, screen):
        await until(pilot, lambda: screen.chosen is not None)
        calls = len(client.latency_calls)
        snapshot = mixed_snapshot()
        last = LastRequest(MODEL, START.replace(hour=4), 0.01, 100.0)
        client.snapshots.append(replace(snapshot, devices=(replace(snapshot.devices[0], last_request=last),)))
        await until(pilot, lambda: len(client.latency_calls) > calls)


async def test_hidden_it_rests() -> None:
    async with opened(busy_history(), interval_s=0.05) as (pilot, client, screen):
        await until(pilot, lambda: screen.chosen is not None)
        await pilot.press("1")
        await pilot.pause()
        calls = len(client.latency_calls)
        snapshot = mixed_snapshot()
        last = LastRequest(MODEL, START.replace(hour=4), 0.01, 100.0)
        answered = replace(snapshot, devices=(replace(snapshot.devices[0], last_request=last),))
        client.snapshots.append(answered)
        app = pilot.app
        assert isinstance(app, HwdashApp)
        await until(pilot, lambda: app.feed.snapshot is not None and app.feed.snapshot.devices == answered.devices)
        await pilot.pause()  # what the snapshot set off is done
        assert len(client.latency_calls) == calls
        await app.action_show("history")
        await until(pilot, lambda: len(client.latency_calls) > calls)


@pytest.mark.parametrize("size", [(40, 12), (20, 3), (300, 80), (10, 1), (79, 23)], ids=str)
@pytest.mark.parametrize("config", [DashboardConfig(), DashboardConfig(ascii=True)], ids=["unicode", "ascii"])
async def test_sizes(size: tuple[int, int], config: DashboardConfig) -> None:
    async with opened(busy_history(), size, config) as (pilot, _, screen):
        await until(pilot, lambda: screen.chosen is not None)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await pilot.resize_terminal(*size)
        await pilot.pause()
        for strip in screen._compositor.render_strips():
            assert sum(segment.cell_length for segment in strip) <= size[0]
        if config.ascii:
            assert text(pilot.app).isascii()


async def test_the_chart_is_drawn_only_when_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(busy_history()) as (pilot, client, _):
        await until(pilot, lambda: "■ p99\n" in text(pilot.app))
        drawings: list[Plan] = []

        def drawn(plan: Plan, glyphs: Glyphs) -> tuple[Line, ...]:
            drawings.append(plan)
            return ()

        monkeypatch.setattr("hwdash.tui.chart.draw", drawn)
        calls = len(client.latency_calls)
        await pilot.press("d")
        await until(pilot, lambda: len(client.latency_calls) > calls)
        await pilot.pause()
        assert drawings == []


async def test_a_hostile_model_name_is_text() -> None:
    found = history(series([bucket(60, 0.05)], model="[/x][red]name"))
    async with opened(found, (120, 30)) as (pilot, _, _screen):
        await until(pilot, lambda: "[/x][red]name" in text(pilot.app))
