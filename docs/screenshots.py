"""The pictures of the README, taken from the running program: ``python -m docs.screenshots [DEVICE] [--replay FILE]``.

Attaches to the daemon that runs (or starts one), sends a prompt, and writes SVGs of the four screens and the why pane
at 80x24, and of overview, history and benches at 160x48, to ``docs/pictures``. With ``--replay`` it plays the recording instead, stops it two thirds in,
and writes the overview and the events of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", TEXTUAL_ANIMATIONS="none")
os.environ.pop("NO_COLOR", None)

from textual.pilot import Pilot

from hwdash.client.client import Client
from hwdash.client.launch import connect
from hwdash.core.paths import paths_from
from hwdash.core.replay import ReplayRequest
from hwdash.tui.app import HwdashApp

PICTURES = Path(__file__).parent / "pictures"
PROMPT = "Why is the sky blue? Answer in one sentence."
WATCH_S = 45.0
ANSWER_S = 120.0


async def main(device: str | None) -> None:
    """Take all pictures, with *device* selected where one is named."""
    PICTURES.mkdir(exist_ok=True)
    client = connect(paths_from(os.environ))
    try:
        await take(client, (80, 24), device, WATCH_S)
        await take(client, (160, 48), device, 5.0)
    finally:
        await client.close()


async def replay(path: str, device: str | None) -> None:
    """The pictures of a recording that is played, at 80x24 and 160x48."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        client = connect(paths_from(os.environ), socket=Path(folder) / "socket", daemon_args=("--replay", path))
        try:
            for size in ((80, 24), (160, 48)):
                await take_replay(client, size, device)
        finally:
            await client.close()


async def take_replay(client: Client, size: tuple[int, int], device: str | None) -> None:
    """Play two thirds of the recording, as fast as the traces allow, and stop there."""
    app = HwdashApp(client)
    async with app.run_test(size=size) as pilot:
        async with asyncio.timeout(ANSWER_S):
            while app.replay is None:
                await asyncio.sleep(0.2)
        await client.replay(ReplayRequest(seek_s=0.0, speed=8.0, paused=False))
        state = app.replay
        await asyncio.sleep(state.duration_s / 8.0 * 2 / 3)
        await client.replay(ReplayRequest(paused=True, speed=1.0))
        await select(pilot, app, device)
        await asyncio.sleep(2)
        save(app, "replay", size)
        await pilot.press("4")
        await asyncio.sleep(2)
        save(app, "replay-events", size)


async def take(client: Client, size: tuple[int, int], device: str | None, watch_s: float) -> None:
    """The pictures of one size: of the large one those that have more to show there."""
    app = HwdashApp(client)
    async with app.run_test(size=size) as pilot:
        await asyncio.sleep(watch_s)
        await select(pilot, app, device)
        save(app, "overview", size)
        if size[0] > 80:
            for key, name in (("3", "history"), ("5", "bench")):
                await pilot.press(key)
                await asyncio.sleep(3)
                save(app, name, size)
            return
        await pilot.press("w")
        await asyncio.sleep(1.5)
        save(app, "why", size)
        await pilot.press("w", "enter")
        await asyncio.sleep(0.5)
        await type_text(pilot, PROMPT)
        await pilot.press("enter")
        await answered(app)
        save(app, "prompt", size)
        await pilot.press("escape")
        await pilot.press("3")
        await asyncio.sleep(3)
        save(app, "history", size)
        await pilot.press("4")
        await asyncio.sleep(3)
        save(app, "events", size)


async def select(pilot: Pilot[None], app: HwdashApp, device: str | None) -> None:
    """Move the cursor to *device*, as far as there are devices."""
    snapshot = app.snapshot
    if device is None or snapshot is None or snapshot.ranking is None:
        return
    names = [item.device for item in snapshot.ranking.ranked] + [item.device for item in snapshot.ranking.excluded]
    await pilot.press("home", *["down"] * names.index(device))
    await asyncio.sleep(1.2)


async def type_text(pilot: Pilot[None], text: str) -> None:
    """Type *text* key by key."""
    for char in text:
        await pilot.press({" ": "space", "?": "question_mark", ".": "full_stop"}.get(char, char))


async def answered(app: HwdashApp) -> None:
    """Wait until the device has one finished request more."""

    def finished() -> set[object]:
        return {(status.device.key, status.last_request) for status in app.snapshot.devices} if app.snapshot else set()

    before = finished()
    async with asyncio.timeout(ANSWER_S):
        while finished() == before:
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)


def save(app: HwdashApp, name: str, size: tuple[int, int]) -> None:
    """Write what is on the screen."""
    path = PICTURES / f"{name}-{size[0]}x{size[1]}.svg"
    path.write_text(app.export_screenshot(simplify=True))
    print(path)


parser = argparse.ArgumentParser()
parser.add_argument("device", nargs="?")
parser.add_argument("--replay", metavar="FILE")
options = parser.parse_args()
asyncio.run(replay(options.replay, options.device) if options.replay else main(options.device))
