"""The line on a terminal that says what prompts wait for."""

from __future__ import annotations

import shutil
import sys
import time

from hwdash.core.inference import PromptEvent, Stage, StageEvent, TokenEvent

_REPAINT_S = 0.1
"""Tokens are counted no oftener than this."""


class Progress:
    """One line on stderr, cut to the terminal's width. With *quiet*, or without a terminal, there is none."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._words: dict[str, str] = {}
        self._painted_s: float | None = None

    def show(self, event: PromptEvent, asked: str = "") -> None:
        """Tell of *event* of the prompt to the device *asked*; empty where there is one prompt only."""
        if self._quiet:
            return
        if isinstance(event, TokenEvent):
            self._words[asked] = f"{asked}: {event.tokens} tokens"
            if self._painted_s is not None and time.monotonic() - self._painted_s < _REPAINT_S:
                return
        elif isinstance(event, StageEvent) and event.stage is not Stage.PREFILL:
            share = "" if event.progress is None else f" {event.progress:.0%}"
            detail = f": {event.detail}" if event.detail else ""
            self._words[asked] = f"{event.device}: {event.stage}{share}{detail}"
        else:
            return
        self._paint()

    def say(self, words: str) -> None:
        """Tell *words*, where there is nothing but them to tell."""
        if not self._quiet:
            self._words[""] = words
            self._paint()

    def done(self, asked: str) -> None:
        """The prompt to the device *asked* needs no place in the line any more; the line goes until the next event."""
        self._words.pop(asked, None)
        self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._painted_s is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._painted_s = None

    def _paint(self) -> None:
        room = shutil.get_terminal_size().columns - 1
        line = " · ".join(self._words.values())
        sys.stderr.write(f"\r\x1b[K{line if len(line) <= room else line[: max(0, room - 1)] + '…'}")
        sys.stderr.flush()
        self._painted_s = time.monotonic()
