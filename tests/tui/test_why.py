"""The pane that explains the ranking, and the policies it goes through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from textual import events
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import HwdashError
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from hwdash.tui.app import HwdashApp
from hwdash.tui.explanation import explanation_lines
from hwdash.tui.glyphs import ASCII, UNICODE
from hwdash.tui.line import line_width, plain
from hwdash.tui.row import Row, rows_of
from hwdash.tui.table import DeviceTable
from hwdash.tui.why import WhyPane
from tests.tui.explained import PARTS, REASONS, WEIGHTS, explained, explained_snapshot
from tests.tui.sample import gpu, snapshot_of, status
from tests.tui.screen_text import frame, shown, text, until
from tests.tui.test_overview import device_lines, table_of

SIZES = [(80, 24), (160, 48), (119, 30), (120, 30), (40, 12), (60, 16), (20, 3), (300, 80), (1, 1)]


def client() -> FakeClient:
    fake = FakeClient([explained_snapshot(), explained_snapshot(2)], interval_s=0.1)
    fake.rankings = {policy: explained(policy) for policy in Policy}
    return fake


def make_app(fake: FakeClient | None = None, **config: Any) -> HwdashApp:
    return HwdashApp(fake or client(), DashboardConfig(**config), host="node7")


def row_of(device: str) -> Row:
    return next(row for row in rows_of(explained_snapshot()) if row.status.device.id == device)


async def opened(pilot: Pilot[None]) -> None:
    await shown(pilot, "gpu0")
    await pilot.press("w")
    await shown(pilot, "because")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_score_parts_expectation_and_reasons_are_there(size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        said = text(app)
        for name in (
            *list(PARTS)[:-1],
            "35%",
            "score",
            "expected",
            "rank 1 of 6 · balanced",
            "0.94",
        ):
            assert name in said
        beside = size[0] == 160  # the detail, which has the reasons too
        assert said.count("TTFT 18.2 ms, 312 tok/s") == 1 + beside
        await pilot.press("down", "down", "down")
        await shown(pilot, "rank 4 of 6")
        assert "estimated" in text(app)
        assert isinstance(app.focused, DeviceTable)


async def test_an_excluded_device_says_why() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("G")
        await shown(pilot, "needs 40.0 GiB, 21.3 GiB free in its largest pool")
        assert "gpu6  excluded · balanced" in text(app)


async def test_w_closes_it_again_and_nothing_moves() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "temperature")
        before = frame(app)
        await opened(pilot)
        assert frame(app)[1:11] == before[1:11]
        await pilot.press("w")
        await until(pilot, lambda: "because" not in text(app))
        assert isinstance(app.focused, DeviceTable)


async def test_the_focus_returns_when_the_pane_that_has_it_closes() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, WhyPane))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.focused, DeviceTable))
        await pilot.press("tab")
        await until(pilot, lambda: not isinstance(app.focused, DeviceTable))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.focused, DeviceTable))


async def test_the_wheel_and_the_keys_scroll_it() -> None:
    app = make_app()
    async with app.run_test(size=(80, 20)) as pilot:
        await opened(pilot)
        assert "the model is loaded" not in text(app)
        for _ in range(8):
            app.screen._forward_event(events.MouseScrollDown(None, 2, 16, 0, 1, 0, False, False, False))
            await pilot.pause()
        await shown(pilot, "the model is loaded")
        await pilot.press("tab", "home")
        await until(pilot, lambda: "the model is loaded" not in text(app))
        await pilot.press("G")
        await shown(pilot, "the model is loaded")


async def test_live_figures_keep_focus_cursor_and_scrolling() -> None:
    fake = client()
    app = make_app(fake)
    async with app.run_test(size=(80, 20)) as pilot:
        await opened(pilot)
        await pilot.press("j", "tab", "G")
        await shown(pilot, "the model needs")
        first, *rest = explained().ranked[1:]
        changed = replace(explained(), ranked=(explained().ranked[0], replace(first, score=0.777), *rest))
        fake.snapshots.append(replace(explained_snapshot(9), ranking=changed))
        await pilot.press("home")
        await shown(pilot, "0.78")
        assert isinstance(app.focused, WhyPane)
        assert table_of(app).selected.status.device.id == "gpu0"  # type: ignore[union-attr]


async def test_policies_are_gone_through_and_sort_the_ranks() -> None:
    fake = client()
    app = make_app(fake)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("P")
        await pilot.pause()
        assert not fake.rank_calls
        assert "Policy" not in frame(app)[-1]
        await opened(pilot)
        assert "Policy" in frame(app)[-1]
        assert device_lines(app)[0] == "gpu1"
        await pilot.press("P")
        await shown(pilot, "ranked for latency · sorted by rank")
        await pilot.press("P")
        await shown(pilot, "ranked for throughput")
        await until(pilot, lambda: device_lines(app)[0] == "gpu3")
        assert "gpu1  rank 2 of 6 · throughput" in text(app)
        asked = len(fake.rank_calls)
        await until(pilot, lambda: len(fake.rank_calls) > asked + 2)
        assert fake.rank_calls[-1] == Requirements(policy=Policy.THROUGHPUT)
        await pilot.press("P", "P")
        await until(pilot, lambda: "ranked for" not in text(app) and device_lines(app)[0] == "gpu1")
        await pilot.press("P", "P")
        await shown(pilot, "ranked for throughput")
        await pilot.press("w")
        await until(pilot, lambda: "ranked for" not in text(app) and device_lines(app)[0] == "gpu1")


async def test_a_daemon_that_cannot_rank_is_said_and_the_dashboard_goes_on() -> None:
    class Refusing(FakeClient):
        async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
            raise HwdashError("no [ranking] today")

    app = make_app(Refusing([explained_snapshot()], interval_s=0.1))
    async with app.run_test(size=(110, 24)) as pilot:
        await opened(pilot)
        await pilot.press("P")
        await shown(pilot, "balanced · no ranking for latency: no [ranking] today")
        await pilot.press("w")
        await until(pilot, lambda: "no ranking for" not in text(app))


@pytest.mark.parametrize("name", ["[/x]", "[bold red]GPU", "x" * 500, "加速器" * 30, "a\u0301" * 50])
@pytest.mark.parametrize("size", [(80, 24), (160, 40)])
async def test_hostile_words_are_only_text(name: str, size: tuple[int, int]) -> None:
    device = replace(gpu(0), id=name[:40], name=name)
    order = Ranking("balanced", {}, (RankedDevice(name[:40], 0.5, {name: 0.5, "x": 0.2}, (name,)),), ())
    fake = FakeClient([snapshot_of(status(device), order=order)], interval_s=0.1)
    app = make_app(fake)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("w")
        await shown(pilot, "because")
        assert all(cell_len(line) == size[0] for line in frame(app))
        if name.startswith("["):
            assert text(app).count(name) >= 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_every_size_draws_whole_lines(size: tuple[int, int], ascii_only: bool) -> None:
    app = make_app(ascii=ascii_only)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("w", "P", "j", "tab", "G", "s")
        await pilot.resize_terminal(100, 30)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert {len(line) for line in frame(app)} == {size[0]}
        assert len(frame(app)) == size[1]
        assert app.focused is not None
        if ascii_only:
            assert text(app).isascii()


async def test_a_small_terminal_keeps_some_rows_of_the_table() -> None:
    app = make_app()
    async with app.run_test(size=(60, 12)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("w")
        await shown(pilot, "rank 1 of 6")
        assert "gpu1" in frame(app)[2]


@pytest.mark.parametrize("width", [1, 8, 20, 45, 69, 70, 91, 92, 100, 300])
@pytest.mark.parametrize("device", ["gpu1", "cpu0", "gpu6"])
def test_no_line_is_too_long(width: int, device: str) -> None:
    for glyphs in (UNICODE, ASCII):
        lines = explanation_lines(row_of(device), WEIGHTS, width, glyphs)
        assert lines
        if width >= 20:
            assert max(map(line_width, lines)) <= width


def test_parts_of_any_name_have_bars() -> None:
    item = RankedDevice("gpu0", 1.0, {"some_new_part_with_a_long_name": 0.5, "": 1.5, "x": -1.0}, ())
    lines = explanation_lines(Row(status(gpu(0)), 1, 1.0, ranked=item), {}, 100, UNICODE)
    assert "some new" in plain(lines[1])
    assert len(lines) == 4


def test_without_a_ranking_that_is_said() -> None:
    assert "has not ranked it" in plain(explanation_lines(Row(status(gpu(0))), {}, 60, UNICODE)[0])
    left_out = Ranking("balanced", {}, (), (ExcludedDevice("gpu0", ("too small", "too hot")),))
    row = rows_of(replace(snapshot_of(status(gpu(0))), ranking=left_out))[0]
    assert [plain(line).strip() for line in explanation_lines(row, {}, 60, UNICODE)] == [
        "excluded too small",
        "too hot",
    ]


def test_all_reasons_are_told() -> None:
    said = " ".join(
        " ".join(plain(line)[36:].split()) for line in explanation_lines(row_of("gpu1"), WEIGHTS, 80, UNICODE)
    )
    for reason in REASONS:
        assert reason in said


def test_a_cold_start_stands_beside_the_time_to_first_token() -> None:
    cold, loaded = (
        " ".join(" ".join(plain(line) for line in explanation_lines(row_of(device), {}, 60, UNICODE)).split())
        for device in ("gpu0", "gpu1")
    )
    assert "30 layers) after a cold start of 3.20 s because" in cold
    assert "after a cold start" not in loaded


async def test_an_order_that_is_not_by_score_is_explained() -> None:
    app = make_app()
    async with app.run_test(size=(160, 48)) as pilot:
        await opened(pilot)
        assert "Close scores" not in text(app)
        await pilot.press("P", "P")
        await shown(pilot, "Close scores keep the order they had")
