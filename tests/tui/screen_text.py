"""What stands on the screen, for assertions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot


def frame(app: App[Any]) -> list[str]:
    """The text of every line of the current screen."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def text(app: App[Any]) -> str:
    return "\n".join(frame(app))


async def until(pilot: Pilot[Any], condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Let the app run until *condition* holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s; on screen:\n{text(pilot.app)}")
        await pilot.pause()
        await asyncio.sleep(0.01)


async def shown(pilot: Pilot[Any], words: str) -> None:
    """Wait until *words* stand on the screen."""
    await until(pilot, lambda: words in text(pilot.app))
