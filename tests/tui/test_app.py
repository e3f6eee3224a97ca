from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import RenderableType
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.binding import Binding
from textual.screen import Screen

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.snapshot import Snapshot, SourceStatus
from hwdash.core.status import DaemonStatus
from hwdash.tui.app import HwdashApp
from hwdash.tui.detail import FactPane
from hwdash.tui.event import EventScreen
from hwdash.tui.event_list import EventList
from hwdash.tui.filter_field import FilterField
from hwdash.tui.history import HistoryScreen
from hwdash.tui.table import DeviceTable
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import frame, shown, text, until


def make_app(client: FakeClient | None = None, config: DashboardConfig | None = None) -> HwdashApp:
    return HwdashApp(client or FakeClient([mixed_snapshot()], interval_s=0.2), config, host="node7")


class SilentClient(FakeClient):
    """A daemon that never answers."""

    def __init__(self) -> None:
        super().__init__([mixed_snapshot()])

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        import asyncio

        await asyncio.Event().wait()
        yield self.snapshots[0]


class BrokenClient(FakeClient):
    """A client with a bug."""

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        if self.snapshots:
            raise RuntimeError("[/oops]")
        yield self.snapshots[0]


async def test_the_first_frame_does_not_wait_for_the_daemon() -> None:
    app = make_app(SilentClient())
    async with app.run_test() as pilot:
        await shown(pilot, "waiting for the daemon")
        assert frame(app)[0].startswith(" hwdash")
        assert "q Quit" in frame(app)[-1]


async def test_a_lost_daemon_is_said_and_the_data_marked_old() -> None:
    client = FakeClient([mixed_snapshot()], interval_s=0.2)
    app = make_app(client)
    async with app.run_test() as pilot:
        await shown(pilot, "gpu3")
        client.unreachable = True
        await shown(pilot, "daemon not reachable: the daemon is gone; retrying")
        assert "OLD" in frame(app)[0]
        assert "OLD DATA" in text(app)
        assert "gpu3" in text(app)
        client.unreachable = False
        await until(pilot, lambda: "not reachable" not in text(app) and "OLD" not in text(app))


async def test_a_broken_client_is_a_sentence_and_not_a_crash() -> None:
    app = make_app(BrokenClient([mixed_snapshot()]))
    async with app.run_test() as pilot:
        await shown(pilot, "daemon not reachable")


async def test_q_quits_and_so_does_ctrl_c() -> None:
    for key in ("q", "ctrl+q", "ctrl+c"):
        app = make_app()
        async with app.run_test() as pilot:
            await shown(pilot, "gpu0")
            await pilot.press(key)
        assert app.return_code == 0


async def test_help_lists_every_key_and_every_badge() -> None:
    app = make_app()
    async with app.run_test(size=(100, 100)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("question_mark")
        await shown(pilot, "Esc closes")
        page = text(app)
        for words in ("Ctrl-p", "Shift-Tab", "PgDn", "THROTTLED", "stale", "LOST", "n/a", "Prompt the device under"):
            assert words in page
        await pilot.press("escape")
        await until(pilot, lambda: "Esc closes" not in text(app))


async def test_help_shows_the_keys_of_the_open_screen() -> None:
    app = make_app()
    async with app.run_test(size=(100, 100)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("4", "question_mark")
        await shown(pilot, "Esc closes")
        for words in ("List of events", "Only events with a text", "All, warnings and worse, critical", "[, -"):
            assert words in text(app)
        assert "Device table" not in text(app)


def test_no_two_bindings_share_an_id() -> None:
    owners = (HwdashApp, DeviceTable, FactPane, EventList, EventScreen, FilterField, HistoryScreen)
    ids = [item.id for owner in owners for item in owner.BINDINGS if isinstance(item, Binding) and item.id]
    assert len(ids) == len(set(ids))


class DegradedClient(FakeClient):
    """A daemon that calls things degraded."""

    problems: tuple[str, ...] = ()
    asked = 0

    async def status(self) -> DaemonStatus:
        self.asked += 1
        return replace(await super().status(), problems=self.problems)


async def test_what_the_daemon_calls_degraded_is_said_once_and_goes_again() -> None:
    source = SourceStatus("nvml", 0, problem="no permission")
    client = DegradedClient([replace(mixed_snapshot(), sources=(source,))], interval_s=0.2)
    client.problems = ("nvml: no permission", "the store cannot write: [/disk] is full")
    app = make_app(client)
    async with app.run_test(size=(120, 30)) as pilot:
        await shown(pilot, "the store cannot write: [/disk] is full")
        assert text(app).count("no permission") == 1
        client.problems = ()
        app._seconds = 0
        await until(pilot, lambda: "the store cannot write" not in text(app))
        assert "no permission" in text(app)
        assert client.asked <= 3


@pytest.mark.parametrize("size", [(80, 24), (20, 3)])
async def test_help_scrolls_and_fits(size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("question_mark", "pagedown", "G", "up", "home")
        await shown(pilot, "Help")


def test_every_binding_has_an_id_words_and_a_tooltip() -> None:
    for owner in (HwdashApp, DeviceTable, FactPane, EventList, EventScreen, FilterField, HistoryScreen):
        for binding in owner.BINDINGS:
            assert isinstance(binding, Binding)
            assert binding.description, binding
            assert binding.tooltip, binding
            assert binding.id or "ctrl" in binding.key, binding


async def test_the_keys_fit_80_columns_and_keep_help_and_quit() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        assert frame(app)[-1].rstrip().endswith("? Help  q Quit")
        assert "Enter Prompt" in frame(app)[-1]


async def test_a_click_on_a_key_runs_it() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.click("KeyBar", offset=(frame(app)[-1].index("Help"), 0))
        await shown(pilot, "Esc closes")


async def test_the_palette_knows_devices_and_themes() -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await shown(pilot, "gpu0")
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Overview", "Prompt", "History", "Prompt gpu0", "Prompt cpu0", "Theme amber", "Quit"} <= set(titles)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("escape")


async def test_t_changes_the_theme_and_comes_round() -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await shown(pilot, "gpu0")
        seen = []
        for _ in app.available_themes:
            seen.append(app.theme)
            await pilot.press("t")
            await pilot.pause()
        assert app.theme == "hwdash"
        assert sorted(seen) == sorted(app.available_themes)
        assert "gpu0" in text(app)


async def test_without_colour_nothing_but_default_colours_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app()
    async with app.run_test() as pilot:
        await shown(pilot, "THROTTLED power cap")
        assert app.theme == "terminal"
        segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
        for line_filter in app._filters:
            segments = line_filter.apply(segments, app.background_colors[1]) if line_filter.enabled else segments
        colours = {
            colour.name
            for segment in segments
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None
        }
        assert colours <= {"default"}


async def test_ascii_draws_ascii_only() -> None:
    app = make_app(config=DashboardConfig(ascii=True))
    async with app.run_test(size=(160, 40)) as pilot:
        await shown(pilot, "THROTTLED thermal slowdown")
        assert text(app).isascii()
        await pilot.press("question_mark")
        await shown(pilot, "Esc closes")
        assert text(app).isascii()


def start_demo() -> tuple[subprocess.Popen[bytes], int]:
    main, worker = pty.openpty()
    env = dict(os.environ) | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tui.demo"],
        stdin=worker,
        stdout=worker,
        stderr=worker,
        env=env,
        cwd=Path(__file__).parent.parent.parent,
        start_new_session=True,
    )
    os.close(worker)
    return process, main


def read_until(descriptor: int, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        seen += os.read(descriptor, 65536)
    return seen


def test_sigterm_leaves_the_terminal_in_order() -> None:
    process, main = start_demo()
    read_until(main, b"gpu0")
    process.send_signal(signal.SIGTERM)
    read_until(main, b"\x1b[?1049l")
    assert process.wait(10) == 0
    os.close(main)


def test_a_lost_terminal_ends_the_dashboard() -> None:
    process, main = start_demo()
    read_until(main, b"gpu0")
    os.close(main)
    process.wait(20)


class PaintedApp(HwdashApp):
    """Remembers which rows were sent to the terminal."""

    painted: set[int]

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if isinstance(renderable, ChopsUpdate):
            self.painted.update(y for y, *_ in renderable.spans)
        elif isinstance(renderable, LayoutUpdate):
            self.painted.update(range(renderable.region.height))
        super()._display(screen, renderable)


async def test_coming_back_from_the_shell_repaints_every_row() -> None:
    app = PaintedApp(FakeClient([mixed_snapshot()], interval_s=60.0))
    app.painted = set()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.pause()
        assert app.active_bindings["ctrl+z"].binding.action == "suspend_process"
        app.painted.clear()
        app.app_resume_signal.publish(app)
        await until(pilot, lambda: app.painted == set(range(24)))
