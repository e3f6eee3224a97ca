"""The prompt screen: what is sent, what is shown while it runs and after, how it ends, and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from rich.segment import Segment
from textual import events
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import DaemonUnreachable, HwdashError, NoSuitableDevice, UnknownModel
from hwdash.core.inference import (
    MAX_PROMPT_BYTES,
    FinishedEvent,
    FinishReason,
    PromptEvent,
    PromptRequest,
    Route,
    Stage,
    StageEvent,
    TokenEvent,
)
from hwdash.core.model import ModelInfo
from hwdash.tui.answer import Kind
from hwdash.tui.app import HwdashApp
from hwdash.tui.choice import ChoiceScreen
from hwdash.tui.field import PromptField
from hwdash.tui.prompt import PromptScreen
from hwdash.tui.transcript import TranscriptView
from tests.tui.answer_events import WAITING, answer, finished, tokens
from tests.tui.past import MODEL
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import shown, text, until


class Daemon(FakeClient):
    """A fake that stops after its events until it is let go on, and then fails or ends."""

    def __init__(self, sent: Sequence[PromptEvent] = (), *, hold: bool = False) -> None:
        models = [ModelInfo(MODEL, "/m", 270_000_000, ready=True), ModelInfo("org/half", "/h", 9, ready=False)]
        super().__init__([mixed_snapshot()], sent, models=models, interval_s=1.0)
        self.go = asyncio.Event()
        if not hold:
            self.go.set()

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        self._check()
        self.requests.append(request)
        try:
            for event in self.answer:
                yield event
            await self.go.wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def opened(
    client: Daemon, size: tuple[int, int] = (80, 24), config: DashboardConfig | None = None
) -> AsyncIterator[tuple[Pilot[None], PromptScreen]]:
    app = HwdashApp(client, config, host="box")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await app.action_show("prompt")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, PromptScreen)
        yield pilot, screen


async def send(pilot: Pilot[None], words: str) -> None:
    await pilot.press(*words, "enter")


def said(screen: PromptScreen, kind: Kind) -> str:
    return screen.query_one(TranscriptView).transcript.text(kind)


async def test_a_prompt_and_its_answer() -> None:
    client = Daemon(answer())
    async with opened(client) as (pilot, screen):
        await shown(pilot, "Each prompt stands alone")
        await send(pilot, "why slow?")
        await until(pilot, lambda: bool(client.requests) and not screen.busy)
        (request,) = client.requests
        assert request == PromptRequest(request.messages, MODEL)
        assert request.messages[0].content == "why slow?"
        on_screen = text(pilot.app).replace("\N{NO-BREAK SPACE}", " ")
        assert "> why slow?" in on_screen
        assert f"gpu1 · {MODEL}" in on_screen
        assert "stay within a" in on_screen
        assert "TTFT 41.0 ms" in on_screen
        assert "ITL p50 11.8 ms, p99 13.1 ms" in on_screen
        assert "12.3 J, 0.19 J/token (device)" in on_screen
        assert "throttled while it ran: power cap" in on_screen
        assert "why gpu1: 140 GiB free" in on_screen
        assert screen.query_one(PromptField).text == ""


async def test_each_prompt_stands_alone() -> None:
    client = Daemon(answer())
    async with opened(client) as (pilot, screen):
        for words in ("one", "two"):
            await send(pilot, words)
            await until(pilot, lambda: not screen.busy)
        assert [len(request.messages) for request in client.requests] == [1, 1]


@pytest.mark.parametrize(
    ("count", "words"), [(1, "queued"), (2, "starting worker"), (3, "loading model 40%"), (4, "reading the prompt")]
)
async def test_stages_are_named(count: int, words: str) -> None:
    async with opened(Daemon(WAITING[:count], hold=True)) as (pilot, _):
        await send(pilot, "x")
        await shown(pilot, words)


async def test_live_figures() -> None:
    async with opened(Daemon([*WAITING, *tokens(["a "] * 51)], hold=True)) as (pilot, _):
        await send(pilot, "x")
        await shown(pilot, "51 tokens")
        assert "TTFT 41.0 ms" in text(pilot.app)
        assert "83.3 tok/s" in text(pilot.app)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_cancelling_keeps_what_was_said(key: str) -> None:
    client = Daemon([*WAITING, *tokens(["partial ", "answer"])], hold=True)
    async with opened(client) as (pilot, screen):
        await send(pilot, "x")
        await shown(pilot, "partial answer")
        await pilot.press(key)
        await until(pilot, lambda: not screen.busy)
        assert client.cancelled == 1
        await shown(pilot, "cancelled after 2 tokens")
        assert said(screen, Kind.ANSWER) == "partial answer"
        await send(pilot, "y")
        await until(pilot, lambda: len(client.requests) == 2)


async def test_leaving_the_dashboard_ends_the_generation() -> None:
    client = Daemon([*WAITING, *tokens(["partial"])], hold=True)
    async with opened(client) as (pilot, _):
        await send(pilot, "x")
        await shown(pilot, "partial")
    assert client.cancelled == 1


async def test_one_at_a_time_and_nothing_typed_is_lost() -> None:
    client = Daemon(WAITING, hold=True)
    async with opened(client) as (pilot, screen):
        await send(pilot, "first")
        await until(pilot, lambda: screen.busy)
        await send(pilot, "second")
        await shown(pilot, "Esc stops it")
        assert screen.query_one(PromptField).text == "second"
        assert len(client.requests) == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (UnknownModel("no model 'x'"), f"hwdash models pull {MODEL}"),
        (NoSuitableDevice("no device has 9 GiB free"), "no device has 9 GiB free"),
        (HwdashError("broken [/red] \x1b[2J"), "broken [/red]"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_are_a_line_and_the_prompt_comes_back(failure: HwdashError, words: str) -> None:
    client = Daemon()
    client.failure = failure
    async with opened(client, (120, 24)) as (pilot, screen):
        await send(pilot, "my prompt")
        await shown(pilot, words)
        assert not screen.busy
        assert screen.query_one(PromptField).text == "my prompt"


async def test_a_daemon_that_is_gone() -> None:
    client = Daemon()
    async with opened(client) as (pilot, screen):
        client.unreachable = True
        await send(pilot, "x")
        await until(pilot, lambda: "gone" in said(screen, Kind.PROBLEM))
        await pilot.press("ctrl+o")
        await shown(pilot, "the daemon is gone")
    assert isinstance(DaemonUnreachable("x"), HwdashError)


async def test_a_failed_record_is_a_problem() -> None:
    client = Daemon([*WAITING, finished(0, FinishReason.ERROR, error="out of memory: choose another device")])
    async with opened(client) as (pilot, screen):
        await send(pilot, "x")
        await shown(pilot, "out of memory: choose another device")
        assert not screen.busy


async def test_a_fallback_is_told_with_its_reason() -> None:
    told = finished(1)
    why = ("gpu0 failed: out of [memory], 3.1 GiB more were needed; handed to gpu1", "best of 2 devices")
    route = Route("auto", why, "gpu0")
    handed = StageEvent(Stage.STARTING, "gpu1", "gpu0: out of memory; trying gpu1")
    client = Daemon([*WAITING[:2], handed, *tokens(["hi"]), FinishedEvent(replace(told.record, route=route))])
    async with opened(client) as (pilot, screen):
        await send(pilot, "hi")
        await until(pilot, lambda: "why gpu1" in said(screen, Kind.NOTE))
        words = " ".join(said(screen, Kind.PROBLEM).split())
        assert words == "fell back from gpu0: out of [memory], 3.1 GiB more were needed; handed to gpu1"
        assert "why gpu1: best of 2 devices" in said(screen, Kind.NOTE)


async def test_up_and_down_recall() -> None:
    async with opened(Daemon(answer())) as (pilot, screen):
        field = screen.query_one(PromptField)
        for words in ("one", "two"):
            await send(pilot, words)
            await until(pilot, lambda: not screen.busy)
        await pilot.press(*"draft", "up", "up")
        assert field.text == "one"
        await pilot.press("down", "down")
        assert field.text == "draft"


async def test_newline_and_empty() -> None:
    client = Daemon(answer())
    async with opened(client) as (pilot, _):
        await pilot.press("enter")
        await shown(pilot, "type a prompt first")
        await pilot.press("a", "ctrl+j", "b", "enter")
        await until(pilot, lambda: bool(client.requests))
        assert client.requests[0].messages[0].content == "a\nb"


async def test_device_model_and_sampling() -> None:
    client = Daemon(answer())
    async with opened(client) as (pilot, screen):
        await pilot.press("ctrl+d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceScreen))
        assert "throttled" in text(pilot.app)
        assert "9.80 GiB free" in text(pilot.app)
        await pilot.press("ctrl+d", "enter")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert screen.device == "gpu0"
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceScreen))
        assert "not complete" in text(pilot.app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("ctrl+n", "ctrl+t")
        await send(pilot, "x")
        await until(pilot, lambda: bool(client.requests))
        request = client.requests[0]
        assert (request.device, request.model) == ("gpu0", "org/half")
        assert (request.max_tokens, request.temperature) == (512, 0.3)


async def test_the_overviews_device_is_taken_over() -> None:
    async with opened(Daemon(answer())) as (pilot, screen):
        app = pilot.app
        assert isinstance(app, HwdashApp)
        await app.action_show("overview")
        await app.open_prompt("gpu3")
        await until(pilot, lambda: screen.device == "gpu3")
        assert app.screen is screen


async def test_escape_leaves_the_field_for_the_single_keys() -> None:
    async with opened(Daemon(answer())) as (pilot, screen):
        await pilot.press("3")
        assert screen.query_one(PromptField).text == "3"
        await pilot.press("escape", "3")
        await until(pilot, lambda: pilot.app.current_mode == "history")
        await pilot.press("2")
        await until(pilot, lambda: pilot.app.current_mode == "prompt")
        await pilot.press("q")
        await until(pilot, lambda: screen.query_one(PromptField).text == "3q")
        await pilot.press("escape", "enter", "4")
        await until(pilot, lambda: screen.query_one(PromptField).text == "3q4")


@pytest.mark.parametrize("size", [10 * 1024 * 1024, MAX_PROMPT_BYTES + 1])
async def test_a_paste_that_is_too_long_is_refused(size: int) -> None:
    async with opened(Daemon()) as (pilot, screen):
        pilot.app.post_message(events.Paste("x" * size))
        await shown(pilot, "a prompt takes at most")
        assert screen.query_one(PromptField).text == ""


async def test_a_long_paste_is_folded_and_sent_whole() -> None:
    client = Daemon(answer())
    pasted = "word " * 100_000
    async with opened(client) as (pilot, screen):
        await pilot.press(*"see ")
        pilot.app.post_message(events.Paste(pasted))
        await until(pilot, lambda: screen.query_one(PromptField).text == "see [paste 1: 488 KiB]")
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.requests) and not screen.busy)
        assert client.requests[0].messages[0].content == "see " + pasted
        assert "in all" in said(screen, Kind.PROMPT)


async def test_pasted_escapes_are_harmless() -> None:
    async with opened(Daemon(answer())) as (pilot, screen):
        pilot.app.post_message(events.Paste("a\x1b]0;pwned\x07\x1b[2J[/b]b\r\nc"))
        await until(pilot, lambda: "pwned" in screen.query_one(PromptField).text)
        assert "\x1b" not in screen.query_one(PromptField).text
        await pilot.press("enter")
        await until(pilot, lambda: "[/b]b" in said(screen, Kind.PROMPT))
        assert "\x1b" not in text(pilot.app)


async def test_hostile_answers_are_text() -> None:
    hostile = ["[/red]", "\x1b]0;pwned\x07", "\x1b[2J", "[link=x]", "\x9b1A"]
    async with opened(Daemon([*WAITING, *tokens(hostile), finished(5)])) as (pilot, screen):
        await send(pilot, "x")
        await until(pilot, lambda: not screen.busy)
        await shown(pilot, "[/red]")
        assert not set(text(pilot.app)) & {"\x1b", "\x07", "\x9b"}


async def test_a_long_answer_follows_until_the_user_scrolls() -> None:
    client = Daemon([*WAITING, *tokens([f"line {number}\n" for number in range(3000)])], hold=True)
    async with opened(client) as (pilot, screen):
        await send(pilot, "x")
        await shown(pilot, "line 2999")
        view = screen.query_one(TranscriptView)
        await pilot.press("pageup")
        await shown(pilot, "rows below")
        before = text(pilot.app).splitlines()[2:20]
        view.extend("more\n" * 50)
        await pilot.pause()
        assert text(pilot.app).splitlines()[2:20] == before
        view.action_scroll_last()
        view.extend("the very end")
        await shown(pilot, "the very end")


async def test_a_flush_repaints_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(Daemon()) as (pilot, screen):
        view = screen.query_one(TranscriptView)
        view.add(Kind.ANSWER, "first row\nsecond ")
        await pilot.pause()
        regions: list[int] = []
        monkeypatch.setattr(view, "refresh", lambda *changed, **_: regions.extend(region.area for region in changed))
        view.extend("row")
        assert regions == [3]


async def test_clearing_while_it_runs() -> None:
    client = Daemon([*WAITING, *tokens(["one "])], hold=True)
    async with opened(client) as (pilot, screen):
        await send(pilot, "x")
        await shown(pilot, "one")
        await pilot.press("ctrl+l")
        screen._take(TokenEvent("two", 2, 0.1), MODEL)
        await shown(pilot, "two")
        assert said(screen, Kind.ANSWER) == "two"


@pytest.mark.parametrize("size", [(40, 12), (20, 3), (300, 80), (10, 1), (79, 23)], ids=str)
@pytest.mark.parametrize("config", [DashboardConfig(), DashboardConfig(ascii=True)], ids=["unicode", "ascii"])
async def test_sizes(size: tuple[int, int], config: DashboardConfig) -> None:
    client = Daemon(answer())
    async with opened(client, size, config) as (pilot, screen):
        await send(pilot, "hello")
        await until(pilot, lambda: bool(client.requests) and not screen.busy)
        await pilot.resize_terminal(80, 24)
        await pilot.press("ctrl+d")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        for strip in pilot.app.screen._compositor.render_strips():
            assert sum(segment.cell_length for segment in strip if isinstance(segment, Segment)) <= size[0]
