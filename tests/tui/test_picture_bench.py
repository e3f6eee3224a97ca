"""Pictures of the measurements, frozen: a change of their look is a change of a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from hwdash.core.config import DashboardConfig
from hwdash.core.soak import SoakFinished
from hwdash.tui.app import HwdashApp
from hwdash.tui.bench import BenchScreen
from tests.tui.measured import bench, soak
from tests.tui.sample import gpu
from tests.tui.screen_text import shown
from tests.tui.test_picture import StillApp, StillClient

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])


def app(**config: Any) -> HwdashApp:
    client = StillClient()
    client.past_benches = (bench(7), bench())
    client.soak_events = (SoakFinished(soak()),)
    return StillApp(client, DashboardConfig(**config), host="node7")


def after(words: str, *keys: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "03:12:45")
        await pilot.press("5")
        screen = pilot.app.screen
        assert isinstance(screen, BenchScreen)
        screen._choose(gpu(0).key)
        await shown(pilot, "2 of 2")
        await pilot.press(*keys)
        await shown(pilot, words)
        await pilot.pause()

    return ready


@SIZES
def test_bench(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=after("●"))


@SIZES
def test_soak(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=after("throttled after 2 min", "m", "m", "m"))


def test_in_ascii(snap_compare: Any) -> None:
    assert snap_compare(app(ascii=True), terminal_size=(80, 24), run_before=after("o bf16"))
