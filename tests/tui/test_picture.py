"""Pictures of the screens at fixed sizes with fixed data."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.snapshot import Snapshot
from hwdash.tui.app import HwdashApp
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import shown


def past() -> list[Snapshot]:
    """A few minutes in which utilisation, power and heat rise and fall, then the mixed snapshot."""
    end = mixed_snapshot()
    snapshots = []
    for second in range(-240, 0, 2):
        share = abs((second % 120) - 60) / 60
        devices = tuple(
            item
            if item.number("power_w") is None
            else replace(item, readings=dict(item.readings) | {"utilization": share, "power_w": 80 + 600 * share})
            for item in end.devices
        )
        snapshots.append(replace(end, devices=devices, taken_at=end.taken_at + timedelta(seconds=second)))
    return [*snapshots, end]


class StillClient(FakeClient):
    """Everything at once, then nothing."""

    def __init__(self) -> None:
        super().__init__(past(), interval_s=0.0)

    async def stream(self) -> Any:
        import asyncio

        for snapshot in self.snapshots:
            yield snapshot
        await asyncio.Event().wait()


class StillApp(HwdashApp):
    """The dashboard in which no time passes."""

    def _each_second(self) -> None:
        pass


async def settled(pilot: Pilot[Any]) -> None:
    await shown(pilot, "03:12:45")


@pytest.mark.parametrize(
    ("size", "theme", "keys"),
    [
        ((80, 24), "hwdash", ("j", "j", "j")),
        ((160, 48), "hwdash", ("j", "j", "j", "j")),
        ((40, 12), "hwdash", ()),
        ((120, 36), "hwdash-light", ("j", "j")),
        ((80, 24), "high-contrast", ("G",)),
        ((80, 24), "terminal", ("s", "s")),
        ((100, 40), "amber", ("question_mark",)),
    ],
)
def test_pictures(snap_compare: Any, size: tuple[int, int], theme: str, keys: tuple[str, ...]) -> None:
    app = StillApp(StillClient(), DashboardConfig(theme=theme), host="node7")
    assert snap_compare(app, press=keys, terminal_size=size, run_before=settled)


def test_a_picture_in_ascii(snap_compare: Any) -> None:
    app = StillApp(StillClient(), DashboardConfig(ascii=True), host="node7")
    assert snap_compare(app, press=("j",), terminal_size=(80, 24), run_before=settled)
