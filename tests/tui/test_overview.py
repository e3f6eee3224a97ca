from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.snapshot import Snapshot, SourceStatus
from hwdash.tui.app import HwdashApp
from hwdash.tui.detail import FactPane
from hwdash.tui.messages import PromptRequested
from hwdash.tui.overview import OverviewScreen
from hwdash.tui.row import SortOrder
from hwdash.tui.table import DeviceTable
from tests.tui.sample import gpu, lost, mixed_snapshot, snapshot_of, status
from tests.tui.screen_text import frame, shown, text, until

SIZES = [(80, 24), (160, 48), (40, 12), (20, 3), (300, 80), (1, 1)]


def make_app(*snapshots: Snapshot, ascii_only: bool = False) -> HwdashApp:
    client = FakeClient(snapshots or [mixed_snapshot()], interval_s=0.2)
    return HwdashApp(client, DashboardConfig(ascii=ascii_only), host="node7")


def table_of(app: HwdashApp) -> DeviceTable:
    return app.screen.query_one(DeviceTable)


def device_lines(app: HwdashApp) -> list[str]:
    """The ids in the order of the table."""
    words = [line[1:].split() for line in frame(app)]
    return [word[1] for word in words if len(word) > 2 and re.fullmatch(r"[gc]pu\d+", word[1])]


async def test_the_table_says_everything_that_fits_80_columns() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        lines = frame(app)
        assert all(len(line) == 80 for line in lines)
        row = next(line for line in lines if " gpu3 " in line)
        for words in ("100%", "130/140", " 54 ", "699/700", " 70% ", "THROTTLED power cap", "87.2"):
            assert words in row
        assert "8 devices · 1 lost · 1 stale · 2 throttled · 1 warm" in lines[0]


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (200, 40)])
async def test_what_a_source_cannot_read_is_said(size: tuple[int, int]) -> None:
    problem = "no permission to talk to the NVIDIA driver: this user needs access to /dev/nvidiactl [often] the group"
    found = replace(mixed_snapshot(), sources=(SourceStatus("nvml", 0, problem=problem),))
    app = make_app(found)
    async with app.run_test(size=size) as pilot:
        await shown(pilot, "nvml: no permission to talk")
        assert problem in text(app) or size[0] < 200
        assert ("more: hwdash status" in text(app)) == (size[0] == 80)


async def test_absent_is_never_drawn_as_zero() -> None:
    app = make_app(snapshot_of(lost(gpu(6))))
    async with app.run_test(size=(160, 30)) as pilot:
        await shown(pilot, "LOST")
        row = next(line for line in frame(app) if " gpu6 " in line)
        assert row.count("n/a") == 6
        assert "0" not in row.replace("H200", "")
        assert "device lost" in text(app)


async def test_the_order_is_the_ranking_and_excluded_devices_come_last_with_the_reason() -> None:
    app = make_app()
    async with app.run_test(size=(200, 40)) as pilot:
        await shown(pilot, "gpu0")
        assert device_lines(app) == ["gpu1", "gpu0", "gpu2", "gpu3", "gpu4", "cpu0", "gpu5", "gpu6"]
        assert "stale: no sample for 12 s" in text(app)


async def test_s_goes_through_the_orders() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "sorted by rank")
        firsts = {"name": "gpu0", "utilisation": "gpu3", "temperature": "gpu4", "memory": "gpu3"}
        for order in list(SortOrder)[1:]:
            await pilot.press("s")
            await shown(pilot, f"sorted by {order}")
            await until(pilot, lambda order=order: order == "name" or device_lines(app)[0] == firsts[order])  # type: ignore[misc]
        await pilot.press("s")
        await shown(pilot, "sorted by rank")


async def test_the_cursor_stays_on_its_device_when_the_order_changes() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("down", "down", "down")
        assert table_of(app).selected.status.device.id == "gpu3"  # type: ignore[union-attr]
        await pilot.press("s", "s")
        await shown(pilot, "sorted by utilisation")
        await until(pilot, lambda: device_lines(app)[0] == "gpu3")
        assert table_of(app).selected.status.device.id == "gpu3"  # type: ignore[union-attr]
        await shown(pilot, "power cap for 38 s")


@pytest.mark.parametrize(
    ("keys", "device"),
    [
        (["j"], "gpu0"),
        (["down", "k"], "gpu1"),
        (["up"], "gpu1"),
        (["G"], "gpu6"),
        (["end", "j"], "gpu6"),
        (["end", "home"], "gpu1"),
        (["G", "g"], "gpu1"),
        (["pagedown"], "gpu6"),
        (["pagedown", "pageup"], "gpu1"),
    ],
)
async def test_keys_move_the_cursor(keys: list[str], device: str) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press(*keys)
        await until(pilot, lambda: f" {device}  " in "\n".join(frame(app)[11:]))
        assert table_of(app).selected.status.device.id == device  # type: ignore[union-attr]


async def test_enter_asks_for_a_prompt_on_the_device() -> None:
    seen: list[str] = []

    class Listening(HwdashApp):
        async def on_prompt_requested(self, message: PromptRequested) -> None:
            message.prevent_default()
            seen.append(message.device)

    app = Listening(FakeClient([mixed_snapshot()]), host="node7")
    async with app.run_test() as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("j", "enter")
        await until(pilot, lambda: seen == ["gpu0"])


async def test_more_devices_than_rows_scroll_and_are_counted() -> None:
    app = make_app(snapshot_of(*(status(gpu(index)) for index in range(40))))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "of 40 devices")
        assert "gpu39" not in text(app)
        await pilot.press("G")
        await shown(pilot, "gpu39")
        await pilot.press("g")
        await until(pilot, lambda: "gpu39" not in text(app))


async def test_many_devices_on_a_wide_screen_stand_beside_the_detail() -> None:
    app = make_app(snapshot_of(*(status(gpu(index)) for index in range(40))))
    async with app.run_test(size=(200, 44)) as pilot:
        await shown(pilot, "gpu39")
        line = next(line for line in frame(app) if "slows down at" in line)
        assert line.index("slows down") > 120
        assert "utilisation" in text(app)


async def test_tab_moves_to_the_facts_and_the_keys_scroll_there() -> None:
    app = make_app()
    async with app.run_test(size=(80, 20)) as pilot:
        await shown(pilot, "gpu0")
        assert "fan: not supported" not in text(app)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, FactPane))
        await pilot.press("G")
        await shown(pilot, "fan: not supported")
        await pilot.press("home", "down", "pagedown", "up", "shift+tab")
        await until(pilot, lambda: isinstance(app.focused, DeviceTable))


async def test_the_mouse_selects_and_scrolls() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.click(DeviceTable, offset=(10, 4))
        await until(pilot, lambda: table_of(app).selected.status.device.id == "gpu3")  # type: ignore[union-attr]
        await shown(pilot, "power cap for 38 s")


@pytest.mark.parametrize(
    "name", ["[/x]", "[bold red]GPU", "\x1b]0;owned\x07", "x" * 500, "加速器" * 30, "", "a\u0301" * 50]
)
async def test_hostile_names_are_only_text(name: str) -> None:
    safe = "".join(char if char >= " " else "\ufffd" for char in name)
    device = replace(gpu(0, safe), driver=safe, pci=safe, key=f"k{safe}")
    app = make_app(snapshot_of(status(device, reasons=(safe,))))
    async with app.run_test(size=(160, 30)) as pilot:
        await shown(pilot, "gpu0")
        if name.startswith("["):
            assert name in text(app)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_every_size_draws_whole_lines(size: tuple[int, int], ascii_only: bool) -> None:
    app = make_app(ascii_only=ascii_only)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("j", "tab", "j", "s")
        await pilot.pause()
        assert {len(line) for line in frame(app)} == {size[0]}
        assert len(frame(app)) == size[1]


async def test_a_storm_of_resizes_in_every_state() -> None:
    rng = random.Random(5)
    client = FakeClient([mixed_snapshot()], interval_s=0.2)
    app = HwdashApp(client, host="node7")
    async with app.run_test(size=(80, 24)) as pilot:
        for step in range(16):
            size = rng.choice(SIZES)
            await pilot.resize_terminal(*size)
            await pilot.press(rng.choice(["j", "s", "t", "tab", "G", "question_mark", "escape"]))
            client.unreachable = step % 8 > 5
        client.unreachable = False
        await pilot.press("escape")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen) and "gpu0" in text(app))


async def test_no_devices_is_said() -> None:
    app = make_app(snapshot_of())
    async with app.run_test() as pilot:
        await shown(pilot, "no devices")
        assert "0 devices" in frame(app)[0]
        await pilot.press("j", "enter", "G", "s")
        await pilot.pause()


async def test_devices_come_and_go() -> None:
    app = make_app(snapshot_of(status(gpu(0)), status(gpu(1))))
    async with app.run_test() as pilot:
        await shown(pilot, "gpu1")
        client = app.client
        assert isinstance(client, FakeClient)
        client.snapshots.append(snapshot_of(status(gpu(1)), status(gpu(2)), status(gpu(3)), sequence=9))
        await shown(pilot, "gpu3")
        await until(pilot, lambda: device_lines(app) == [] or "gpu0" not in text(app))
