"""The screen that sends a prompt and shows its answer while it is made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.worker import Worker

from hwdash.core.errors import HwdashError
from hwdash.core.format import bytes_text
from hwdash.core.inference import AUTO, FinishedEvent, Message, PromptEvent, PromptRequest, TokenEvent
from hwdash.core.text import sanitise_line
from hwdash.tui import setting
from hwdash.tui.answer import Kind
from hwdash.tui.choice import ChoiceScreen
from hwdash.tui.feed import Feed
from hwdash.tui.field import PromptField
from hwdash.tui.line import Line, Span, line_width
from hwdash.tui.part import Part
from hwdash.tui.progress import Progress, error_words, progress_line, record_notes
from hwdash.tui.screen import FrameScreen
from hwdash.tui.transcript import TranscriptView

_log = logging.getLogger(__name__)

FLUSH_S = 0.125
"""Seconds between two repaints of a growing answer, whatever the speed of the tokens."""
_ECHO_CHARACTERS = 2000
_ECHO_LINES = 12
WELCOME = (
    "Each prompt stands alone: nothing that was said before is sent again, so that latencies can be compared. "
    "Enter sends, Esc stops an answer or leaves the field, Up recalls, Ctrl+D chooses the device, Ctrl+O the model."
)


class SettingBar(Part):
    """Where prompts go and with which settings."""

    DEFAULT_CSS = "SettingBar { height: 1; }"


class StatusBar(Part):
    """What goes on."""

    DEFAULT_CSS = "StatusBar { height: 1; }"


class PromptScreen(FrameScreen):
    """A field, a transcript, and the state of the prompt that runs."""

    MODE = "prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape", "stop", "Stop", tooltip="Stop the answer, or leave the field", id="prompt.stop", priority=True
        ),
        Binding("ctrl+d", "device", "Device", tooltip="Choose the device", id="prompt.device", priority=True),
        Binding("ctrl+o", "model", "Model", tooltip="Choose the model", id="prompt.model", priority=True),
        Binding("ctrl+n", "tokens", "Limit", tooltip="Change the token limit", id="prompt.tokens", priority=True),
        Binding("ctrl+t", "temperature", "Temp", tooltip="Change the temperature", id="prompt.heat", priority=True),
        Binding("ctrl+l", "clear", "Clear", tooltip="Clear the transcript", id="prompt.clear", priority=True),
        Binding("pageup", "page(-1)", "Back", show=False, tooltip="One page back", id="prompt.back", priority=True),
        Binding("pagedown", "page(1)", "On", show=False, tooltip="One page on", id="prompt.on", priority=True),
        Binding("enter,i", "write", "Write", tooltip="Back into the field", id="prompt.write"),
        Binding("f1", "app.show('overview')", "Overview", show=False, tooltip="All devices", id="prompt.overview"),
        Binding("f3", "app.show('history')", "History", show=False, tooltip="Latency over time", id="prompt.history"),
        Binding("f4", "app.show('events')", "Events", show=False, tooltip="What happened", id="prompt.events"),
    ]

    DEFAULT_CSS = "PromptScreen { overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._device = AUTO
        self._sampling = setting.Sampling()
        self._settings = SettingBar(self._setting_lines)
        self._view = TranscriptView(WELCOME)
        self._status = StatusBar(self._status_lines)
        self._field = PromptField()
        self._answerer: Worker[None] | None = None
        self._progress = Progress(AUTO)
        self._sent_at = 0.0
        self._pending: list[str] = []
        self._headed = ""
        self._answering = False
        self._hint = ""

    # ------------------------------------------------------------------ frame

    def compose_body(self) -> ComposeResult:
        """Settings, transcript, state, field."""
        yield self._settings
        yield self._view
        yield self._status
        yield self._field

    def on_mount(self) -> None:
        """Put the cursor into the field."""
        super().on_mount()
        self._flushing = self.set_interval(FLUSH_S, self._flush, pause=True)
        self._field.focus()

    def on_screen_resume(self) -> None:
        """Take over the device that another screen asked for, and show what came in meanwhile."""
        super().on_screen_resume()
        if self.dashboard.chosen_device is not None:
            self._device, self.dashboard.chosen_device = self.dashboard.chosen_device, None
            self._field.focus()
        self._redraw()

    def enter(self) -> None:
        """What is typed next is a prompt, not keys of the dashboard."""
        self._field.focus()

    def on_resize(self) -> None:
        """Give small terminals to transcript and field."""
        height = self.size.height
        self._field.styles.max_height = max(1, min(6, height // 4))
        self._settings.display = height >= 7
        self._status.display = height >= 5

    def show_feed(self, feed: Feed) -> None:
        """Show the chosen device's newest state."""
        self._settings.redraw()

    def on_descendant_focus(self) -> None:
        """Show the keys of what has the focus."""
        self._hint = ""
        self._status.redraw()

    @property
    def busy(self) -> bool:
        """True while an answer is made."""
        return self._answerer is not None

    @property
    def device(self) -> str:
        """The id of the device that prompts go to, or ``auto``."""
        return self._device

    @property
    def sampling(self) -> setting.Sampling:
        """The settings of the next prompt."""
        return self._sampling

    def _redraw(self) -> None:
        for part in (self._settings, self._view, self._status):
            part.redraw()

    def _say(self, words: str) -> None:
        self._hint = words
        self._status.redraw()

    def _setting_lines(self, width: int, height: int) -> Sequence[Line]:
        app = self.dashboard
        return [setting.setting_line(app.snapshot, self._device, app.model, self._sampling, app.glyphs, width)]

    def _status_lines(self, width: int, height: int) -> Sequence[Line]:
        below = self._view.below
        right = f"{below} rows below, PgDn " if below else ""
        if self._hint:
            left: Line = (Span(f" {self._hint}", "warm"),)
        elif self.busy:
            left = progress_line(self._progress, time.monotonic() - self._sent_at, self.dashboard.glyphs)
            right = right or "Esc stops "
        elif self._field.has_focus:
            left = (Span(" each prompt stands alone", "label"),)
            right = right or "Esc leaves the field "
        else:
            left = (Span(" Enter: back into the field", "label"),)
        gap = width - line_width(left) - len(right)
        return [left if gap < 1 else (*left, Span(" " * gap), Span(right, "label"))]

    # ------------------------------------------------------------------ the answer

    def on_prompt_field_sent(self, message: PromptField.Sent) -> None:
        """Send the prompt, unless one is being answered."""
        if self.busy:
            self._say("an answer is being made: Esc stops it")
            return
        self._field.remember(message.text)
        self._field.put("")
        self._view.action_scroll_last()
        if self._view.transcript.rows:
            self._view.add(Kind.NOTE)
        self._view.add(Kind.PROMPT, _echo(message.text))
        self._progress = Progress(self._device)
        self._headed, self._answering, self._hint = "", False, ""
        self._sent_at = time.monotonic()
        self._answerer = self._answer(
            PromptRequest(
                (Message("user", message.text),),
                self.dashboard.model,
                self._device,
                max_tokens=self._sampling.max_tokens,
                temperature=self._sampling.temperature,
            )
        )
        self._flushing.resume()
        self._status.redraw()

    def on_prompt_field_refused(self, message: PromptField.Refused) -> None:
        """Say why."""
        self._say(message.words)

    @work(group="answer", exit_on_error=False)
    async def _answer(self, request: PromptRequest) -> None:
        problem = ""
        try:
            # Leaving the block closes the stream, and that ends the generation.
            async with contextlib.aclosing(self.dashboard.client.prompt(request)) as stream:
                async for event in stream:
                    self._take(event, request.model)
        except HwdashError as error:
            problem = error_words(error, request.model)
        except asyncio.CancelledError:
            count = self._progress.tokens
            self._end(Kind.NOTE, f"cancelled after {count} token{'' if count == 1 else 's'}")
            raise
        except Exception:  # noqa: BLE001 - the boundary to the daemon: logged and shown, the screen stays
            _log.exception("a prompt failed")
            problem = "the prompt failed; the reason is in the log"
        self._end(Kind.PROBLEM, problem)
        if problem and not self._progress.tokens and not self._field.text:
            self._field.put(request.messages[-1].content)

    def _take(self, event: PromptEvent, model: str) -> None:
        self._progress = self._progress.after(event)
        device = event.record.device if isinstance(event, FinishedEvent) else self._progress.device
        if device != self._headed:
            self._flush()
            self._headed, self._answering = device, False
            name, dot = sanitise_line(device, 40), self.dashboard.glyphs.dot
            self._view.add(Kind.HEAD, f"{name} {dot} {sanitise_line(model)}")
        if isinstance(event, TokenEvent):
            self._pending.append(event.text)
        elif isinstance(event, FinishedEvent):
            self._flush()
            for kind, text in record_notes(event.record, self.dashboard.glyphs):
                self._view.add(kind, text)

    def _flush(self) -> None:
        """Show the tokens that came in since the last time."""
        text = "".join(self._pending)
        self._pending.clear()
        if text and not self._answering:
            self._view.add(Kind.ANSWER)
            self._answering = True
        if text:
            self._view.extend(text)
        self._status.redraw()

    def _end(self, kind: Kind, words: str) -> None:
        self._flushing.pause()
        self._flush()
        self._answerer = None
        if words:
            self._view.add(kind, words)
        self._status.redraw()

    # ------------------------------------------------------------------ actions

    def interrupt(self) -> bool:
        """Stop the answer, else empty the field; False when there was nothing to do."""
        if self._answerer is not None:
            self._answerer.cancel()
            return True
        if self._field.text:
            self._field.put("")
            return True
        return False

    def action_stop(self) -> None:
        """Stop the answer; where there is none, leave the field so that single keys reach the dashboard."""
        if self._answerer is not None:
            self._answerer.cancel()
        else:
            self._view.focus()

    def action_write(self) -> None:
        """Put the cursor into the field."""
        self._field.focus()

    def action_clear(self) -> None:
        """Empty the transcript; an answer that is being made goes on in a fresh one."""
        self._view.clear()
        self._headed, self._answering = "", False

    def action_page(self, pages: int) -> None:
        """Scroll the transcript."""
        self._view.action_scroll_pages(pages)
        self._status.redraw()

    def action_tokens(self) -> None:
        """Change to the next token limit."""
        self._sampling = self._sampling.with_next_limit()
        self._say(f"at most {self._sampling.max_tokens} tokens an answer")
        self._settings.redraw()

    def action_temperature(self) -> None:
        """Change to the next temperature."""
        self._sampling = self._sampling.with_next_temperature()
        heat = self._sampling.temperature
        self._say(f"temperature {heat:g}" + ("" if heat else ": always the likeliest token"))
        self._settings.redraw()

    @work(group="choice", exclusive=True, exit_on_error=False)
    async def action_device(self) -> None:
        """Choose the device from a list."""
        entries = setting.device_entries(self.dashboard.snapshot, self.dashboard.glyphs)
        chosen = await self.app.push_screen_wait(ChoiceScreen("Device", entries, self._device))
        if chosen is not None:
            self._device = chosen
        self._redraw()

    @work(group="choice", exclusive=True, exit_on_error=False)
    async def action_model(self) -> None:
        """Choose the model from the store's list."""
        try:
            models = await self.dashboard.client.models()
        except HwdashError as error:
            self._say(sanitise_line(error.message))
            return
        entries = setting.model_entries(models, self.dashboard.model)
        chosen = await self.app.push_screen_wait(ChoiceScreen("Model", entries, self.dashboard.model))
        if chosen is not None:
            self.dashboard.model = chosen
        self._redraw()


def _echo(prompt: str) -> str:
    """The prompt as the transcript repeats it: its beginning, when it is long."""
    text = "\n".join(prompt[:_ECHO_CHARACTERS].split("\n")[:_ECHO_LINES])
    if len(text) == len(prompt):
        return text
    return f"{text}\n… {bytes_text(len(prompt.encode(errors='replace')))} in all"
