"""Pictures of the prompt and history screens, frozen: a change of their look is a change of a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.tui.app import HwdashApp
from tests.tui.answer_events import answer
from tests.tui.past import busy_history
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import shown, until
from tests.tui.test_picture import StillApp

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])


def app(**config: Any) -> HwdashApp:
    client = FakeClient([mixed_snapshot()], answer(), busy_history(), interval_s=60.0)
    dashboard = StillApp(client, DashboardConfig(**config), host="node7")
    dashboard.theme = "hwdash"
    return dashboard


def history_with(words: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "every 1 s")
        await pilot.app.run_action("show('history')")
        await shown(pilot, words)
        await pilot.pause()

    return ready


async def answered(pilot: Pilot[None]) -> None:
    await shown(pilot, "every 1 s")
    await pilot.app.run_action("show('prompt')")
    await until(pilot, lambda: pilot.app.focused is not None)
    await pilot.press(*"Why is gpu3 slow?", "enter")
    await shown(pilot, "why gpu1")
    await shown(pilot, "each prompt stands alone")
    await pilot.pause()


@SIZES
def test_history(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=history_with(" p99\n"))


def test_history_in_ascii(snap_compare: Any) -> None:
    assert snap_compare(app(ascii=True), terminal_size=(80, 24), run_before=history_with(" p99\n"))


@SIZES
def test_prompt(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=answered)
