"""The screen of benches and soaks: what it asks for, what it shows, how a bench is run from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.bench import BenchEvent, BenchFinished, BenchReport, BenchRequest, BenchStep
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import NoSuitableDevice
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.soak import SoakFinished
from hwdash.tui.app import HwdashApp
from hwdash.tui.bench import BenchScreen
from hwdash.tui.bench_view import View
from tests.tui.measured import bench, soak
from tests.tui.sample import gpu, mixed_snapshot
from tests.tui.screen_text import frame, shown, text, until


class Daemon(FakeClient):
    """Holds a bench before its last event until ``finish`` is set; tells when one was stopped."""

    def __init__(self) -> None:
        super().__init__([mixed_snapshot()], interval_s=1.0)
        self.finish = asyncio.Event()
        self.stopped_benches = 0

    async def bench(self, request: BenchRequest) -> AsyncGenerator[BenchEvent, None]:
        self.bench_requests.append(request)
        try:
            for event in self.bench_events:
                if isinstance(event, BenchFinished):
                    await self.finish.wait()
                    self.past_benches = (*self.past_benches, event.report)
                yield event
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped_benches += 1
            raise
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def opened(
    *reports: BenchReport, size: tuple[int, int] = (80, 24), config: DashboardConfig | None = None
) -> AsyncIterator[tuple[Pilot[None], Daemon, BenchScreen]]:
    client = Daemon()
    client.past_benches = reports
    client.soak_events = (SoakFinished(soak()),)
    app = HwdashApp(client, config, host="box")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("5")
        screen = app.screen
        assert isinstance(screen, BenchScreen)
        screen._choose(gpu(0).key)
        yield pilot, client, screen


async def test_chart_figures_and_comparison() -> None:
    async with opened(bench(), size=(160, 48)) as (pilot, _, screen):
        await shown(pilot, "12 % slower than its baseline of last week")
        await shown(pilot, "● bf16")
        on_screen = text(pilot.app)
        assert screen.report == bench()
        for words in (
            "tokens/s by batch",
            "▲ fp8",
            "132",
            "2.40 J/token",
            "55%",
            "fp8: throttled while it ran: power cap",
        ):
            assert words in on_screen
        assert "fp4: not on this device" in on_screen
        assert "import 3.10 s" in on_screen
        await until(pilot, lambda: any(line.split() == ["1", "4", "16", "32"] for line in frame(pilot.app)))


async def test_the_other_figures() -> None:
    async with opened(bench()) as (pilot, _, screen):
        await shown(pilot, "tokens/s by batch")
        await pilot.press("m")
        await shown(pilot, "between tokens by batch")
        await pilot.press("m")
        await until(pilot, lambda: "2048" in text(pilot.app) and "first token by prompt" in text(pilot.app))
        assert screen.view is View.TTFT


async def test_older_and_newer_reports() -> None:
    async with opened(bench(7), bench(1), bench(0)) as (pilot, _, screen):
        await shown(pilot, "3 of 3")
        await pilot.press("left", "left", "left")
        assert screen.report == bench(7)
        await shown(pilot, "1 of 3")
        await pilot.press("right")
        assert screen.report == bench(1)


async def test_the_device_under_the_cursor_is_shown_and_d_goes_on() -> None:
    async with opened(bench(device=1)) as (pilot, _, screen):
        await shown(pilot, "no bench of gpu0 yet: press r to run one")
        await pilot.press("d")
        await until(pilot, lambda: screen.report is not None)
        await pilot.press("1", "G")
        app = pilot.app
        assert isinstance(app, HwdashApp)
        snapshot = app.snapshot
        assert snapshot is not None
        await until(pilot, lambda: app.selected not in (None, gpu(0).key, gpu(1).key))
        name = snapshot.find(app.selected or "").device.id
        await pilot.press("5")
        await shown(pilot, f"no bench of {name} yet")


async def test_a_soak_is_curves_over_one_axis_of_time() -> None:
    async with opened(bench(), size=(120, 36)) as (pilot, _, screen):
        await until(pilot, lambda: screen.soak is not None)
        await pilot.press("m", "m", "m")
        await shown(pilot, "throttled after 2 min for heat")
        on_screen = text(pilot.app)
        for words in ("rate", "1200 tok/s → 1010 tok/s", "1980 MHz → 1620 MHz", "45 °C → 85 °C", "690 W"):
            assert words in on_screen
        axis = next(line for line in on_screen.splitlines() if "▲ throttled: " in line)
        marks = [place for place, char in enumerate(axis) if char == "▲"][1:]
        assert marks[0] == pytest.approx(120 * 0.4, abs=2)


async def test_a_bench_is_run_with_progress_and_its_report_shown() -> None:
    async with opened() as (pilot, client, screen):
        client.bench_events = (
            StageEvent(Stage.LOADING, "gpu0", "reading the weights", 0.5),
            BenchStep("gpu0", "bf16, batch 16 [/red]", 0.4),
            BenchFinished(bench()),
        )
        await shown(pilot, "press r to run one")
        await pilot.press("r")
        await shown(pilot, "bench of gpu0 40%: bf16, batch 16 [/red]")
        assert "Esc stops it" in text(pilot.app)
        await until(pilot, lambda: "press r" not in text(pilot.app))
        await pilot.press("r")
        assert len(client.bench_requests) == 1
        assert client.bench_requests[0].device == "gpu0"
        client.finish.set()
        await until(pilot, lambda: screen.report is not None)
        await shown(pilot, "12 % slower")
        assert "Esc stops it" not in text(pilot.app)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_bench_is_stopped(key: str) -> None:
    async with opened() as (pilot, client, _):
        client.bench_events = (BenchStep("gpu0", "bf16", 0.1), BenchFinished(bench()))
        await pilot.press("r")
        await shown(pilot, "bench of gpu0 10%")
        await pilot.press(key)
        await until(pilot, lambda: client.stopped_benches == 1)
        await shown(pilot, "bench stopped")
        await pilot.press("r")
        await until(pilot, lambda: len(client.bench_requests) == 2)


async def test_a_bench_that_fails_says_why() -> None:
    async with opened(bench()) as (pilot, client, _):
        client.failure = NoSuitableDevice("gpu0: somebody has it alone [/x]")
        await pilot.press("r")
        await shown(pilot, "bench: gpu0: somebody has it alone [/x]")
        await shown(pilot, "132")


async def test_a_hostile_report_is_text() -> None:
    hostile = replace(bench(), model="[/x]\x1b[2Jname", versions=(("[red]", "\x1b]0;x\x07"),))
    async with opened(hostile, size=(120, 48)) as (pilot, _, _screen):
        await shown(pilot, "[/x]")
        assert "\x1b" not in text(pilot.app)


@pytest.mark.parametrize("size", [(40, 12), (20, 3), (300, 80), (10, 1), (79, 23)], ids=str)
@pytest.mark.parametrize("config", [DashboardConfig(), DashboardConfig(ascii=True)], ids=["unicode", "ascii"])
async def test_sizes(size: tuple[int, int], config: DashboardConfig) -> None:
    async with opened(bench(), size=size, config=config) as (pilot, _, screen):
        await until(pilot, lambda: screen.report is not None)
        for _ in View:
            await pilot.pause()
            for strip in screen._compositor.render_strips():
                assert sum(segment.cell_length for segment in strip) <= size[0]
            if config.ascii:
                assert text(pilot.app).isascii()
            await pilot.press("m")
