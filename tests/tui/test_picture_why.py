"""Pictures of the explanation of a ranking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.requirement import Policy
from hwdash.core.snapshot import Snapshot
from hwdash.tui.app import HwdashApp
from tests.tui.explained import explained, explained_snapshot
from tests.tui.screen_text import shown
from tests.tui.test_picture import StillApp

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])


class _OnceClient(FakeClient):
    """One snapshot, then nothing."""

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        yield self.snapshots[0]
        await asyncio.Event().wait()


def app(**config: Any) -> HwdashApp:
    client = _OnceClient([explained_snapshot()])
    client.rankings = {policy: explained(policy) for policy in Policy}
    return StillApp(client, DashboardConfig(**config), host="node7")


def after(words: str, *keys: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "03:12:45")
        await pilot.press("w", *keys)
        await shown(pilot, words)
        await pilot.pause()

    return ready


@SIZES
def test_why(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=after("rank 2 of 6", "j"))


@SIZES
def test_another_policy(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=after("ranked for throughput", "P", "P"))


def test_an_excluded_device(snap_compare: Any) -> None:
    assert snap_compare(app(), terminal_size=(80, 24), run_before=after("excluded · balanced", "G"))


def test_in_ascii(snap_compare: Any) -> None:
    assert snap_compare(app(ascii=True), terminal_size=(80, 24), run_before=after("rank 2 of 6", "j"))


def test_in_a_narrow_terminal(snap_compare: Any) -> None:
    assert snap_compare(app(theme="high-contrast"), terminal_size=(60, 20), run_before=after("rank 1 of 6"))
