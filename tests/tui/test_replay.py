"""The replay: its bar, and its keys on every screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from hwdash.client.fake import FakeClient
from hwdash.core.errors import HwdashError
from hwdash.core.replay import SPEEDS, ReplayRequest, ReplayState
from hwdash.tui.app import HwdashApp
from hwdash.tui.glyphs import ASCII, UNICODE
from hwdash.tui.line import line_width, plain
from hwdash.tui.prompt import PromptScreen
from hwdash.tui.replay import BINDINGS, place_text, replay_line, steering
from tests.tui.sample import START, mixed_snapshot
from tests.tui.screen_text import frame, shown, text, until

STATE = ReplayState("h200-power-cap.jsonl.gz", START + timedelta(hours=1), 38.0, 120.0)


@asynccontextmanager
async def replaying(
    state: ReplayState | None = STATE, size: tuple[int, int] = (80, 24), interval_s: float = 60.0
) -> AsyncIterator[tuple[Pilot[None], FakeClient, HwdashApp]]:
    client = FakeClient([replace(mixed_snapshot(), replay=state)], interval_s=interval_s)
    client.replay_state = state
    app = HwdashApp(client, host="node7")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        yield pilot, client, app


@pytest.mark.parametrize("mode", ["overview", "history", "events"])
async def test_every_key_steers_on_every_screen(mode: str) -> None:
    async with replaying() as (pilot, client, app):
        await app.action_show(mode)
        await shown(pilot, "playing 0:38/2:00")
        keys = ("space", "right_square_bracket", "left_square_bracket", "right_curly_bracket", "left_curly_bracket")
        for number, key in enumerate((*keys, "plus", "minus", "L", "0"), start=1):
            await pilot.press(key)
            await until(pilot, lambda number=number: len(client.replay_requests) == number)  # type: ignore[misc]
        assert client.replay_requests == [
            ReplayRequest(paused=True),
            ReplayRequest(skip_s=10.0),
            ReplayRequest(skip_s=-10.0),
            ReplayRequest(skip_s=60.0),
            ReplayRequest(skip_s=-60.0),
            ReplayRequest(speed=2.0),
            ReplayRequest(speed=1.0),
            ReplayRequest(loop=True),
            ReplayRequest(seek_s=0.0),
        ]
        await shown(pilot, "paused 0:00/2:00")
        assert " loop" in text(app)


async def test_a_recording_is_not_of_this_machine() -> None:
    async with replaying(size=(160, 30)) as (_, _, app):
        assert "8 devices" in frame(app)[0]
        assert "node7" not in frame(app)[0]
    async with replaying(None, size=(160, 30)) as (_, _, app):
        assert "node7" in frame(app)[0]


async def test_without_a_replay_the_keys_do_nothing_and_the_windows_have_them() -> None:
    async with replaying(None) as (pilot, client, app):
        await pilot.press("space", "0", "L")
        await app.action_show("history")
        await until(pilot, lambda: bool(client.latency_calls))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: client.latency_calls[-1][0] == 3600)
        assert client.replay_requests == []
        assert "playing" not in text(app)
        await pilot.press("question_mark")
        await shown(pilot, "Esc closes")
        assert "Play faster" not in text(app)


async def test_a_prompt_keeps_its_characters() -> None:
    async with replaying() as (pilot, client, app):
        await app.action_show("prompt")
        await until(pilot, lambda: app.focused is not None)
        keys = ("a", "space", "left_square_bracket", "plus", "minus", "L", "0", "right_curly_bracket")
        await pilot.press(*keys)
        assert isinstance(app.screen, PromptScreen)
        assert app.screen._field.text == "a [+-L0}"
        await pilot.press("escape", "space")
        await until(pilot, lambda: client.replay_requests == [ReplayRequest(paused=True)])


async def test_the_clock_is_that_of_the_recording_and_help_lists_the_keys() -> None:
    async with replaying(size=(100, 120)) as (pilot, _, app):
        await shown(pilot, "04:12:45")
        assert "recorded" in frame(app)[0]
        await pilot.press("question_mark")
        await shown(pilot, "Play faster")
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Replay Pause", "Replay Loop", "Events"} <= set(titles)


async def test_a_paused_replay_is_not_old() -> None:
    async with replaying(replace(STATE, paused=True), interval_s=0.1) as (pilot, _, app):
        await shown(pilot, "paused")
        before = app.snapshot
        await until(pilot, lambda: app.snapshot is not before)
        app._each_second()
        assert not app.feed.is_old


async def test_a_refusal_is_a_sentence() -> None:
    async with replaying() as (pilot, client, _):
        await shown(pilot, "playing")

        async def refuse(request: ReplayRequest) -> ReplayState:
            raise HwdashError("the recording is broken: [/x]")

        client.replay = refuse  # type: ignore[method-assign]
        await pilot.press("space")
        await shown(pilot, "the recording is broken: [/x]")


async def test_the_bar_comes_and_goes_with_the_replay() -> None:
    async with replaying(None, interval_s=0.05) as (pilot, client, app):
        await shown(pilot, "gpu0")
        client.snapshots.append(replace(mixed_snapshot(2), replay=STATE))
        await shown(pilot, "playing 0:38/2:00")
        client.snapshots.append(mixed_snapshot(3))
        await until(pilot, lambda: "playing" not in text(app))


def test_steering_follows_the_state() -> None:
    assert steering("pause", replace(STATE, paused=True)) == ReplayRequest(paused=False)
    assert steering("pause", replace(STATE, ended=True, paused=True)) == ReplayRequest(seek_s=0.0, paused=False)
    assert steering("faster", replace(STATE, speed=SPEEDS[-1])) == ReplayRequest(speed=SPEEDS[-1])
    assert steering("slower", replace(STATE, speed=0.1)) == ReplayRequest(speed=SPEEDS[0])
    assert steering("slower", replace(STATE, speed=1.7)) == ReplayRequest(speed=1.0)
    assert all(binding.tooltip and binding.description and binding.id for binding in BINDINGS)


def test_places() -> None:
    assert [place_text(at) for at in (0, 9.9, 61, 3727, -1)] == ["0:00", "0:09", "1:01", "1:02:07", "0:00"]


@given(st.integers(1, 200), st.text(max_size=80), st.booleans(), st.booleans())
def test_the_bar_fits(width: int, name: str, paused: bool, ended: bool) -> None:
    state = replace(STATE, name=name, paused=paused, ended=ended)
    for glyphs in (UNICODE, ASCII):
        line = replay_line(state, width, glyphs)
        assert line_width(line) <= max(width, 12)
        assert ("ended" if ended else "paused" if paused else "playing") in plain(line)
