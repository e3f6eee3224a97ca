"""The field that a prompt is typed into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from hwdash.core.format import bytes_text
from hwdash.core.inference import MAX_PROMPT_BYTES
from hwdash.core.text import sanitise

FOLD_CHARACTERS = 4000
"""A longer paste stands in the field as one word and is put in when the prompt is sent: the editor is slow with more."""


class PromptField(TextArea):
    """Enter sends, Ctrl+J breaks the line, Up and Down at the edges recall what was sent before."""

    DEFAULT_CSS = """
    PromptField, PromptField:focus {
        height: auto; min-height: 1; max-height: 6; border: none; padding: 0 1;
        background: $panel; color: $hw-text; scrollbar-size: 0 0;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", tooltip="Send the prompt", id="prompt.send"),
        Binding("ctrl+j", "newline", "New line", show=False, tooltip="Break the line", id="prompt.newline"),
    ]

    @dataclass
    class Sent(Message):
        """The user sent *text*."""

        text: str

    @dataclass
    class Refused(Message):
        """Something could not be taken in; *words* say what and why."""

        words: str

    def __init__(self) -> None:
        super().__init__(compact=True, highlight_cursor_line=False, placeholder="Type a prompt; Enter sends it")
        self.cursor_blink = False
        self._said: list[str] = []
        self._place = 0
        self._draft = ""
        self._folded: dict[str, str] = {}

    @property
    def full_text(self) -> str:
        """The text with folded pastes put in."""
        text = self.text
        for name, paste in self._folded.items():
            text = text.replace(name, paste)
        return text

    def remember(self, text: str) -> None:
        """Let Up recall *text* from now on."""
        if text and (not self._said or self._said[-1] != text):
            self._said.append(text)
        self._place = len(self._said)

    def put(self, text: str) -> None:
        """Replace what is in the field; a long *text* is folded."""
        self._folded.clear()
        self.text = self._fold(text) if len(text) > FOLD_CHARACTERS else text
        self.move_cursor(self.document.end)

    def action_send(self) -> None:
        """Send what was typed, if it is neither empty nor too long."""
        text = self.full_text
        if not text.strip():
            self.post_message(self.Refused("type a prompt first"))
        elif (size := len(text.encode(errors="replace"))) > MAX_PROMPT_BYTES:
            self.post_message(self.Refused(_too_long(size)))
        else:
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Break the line."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """Up, or to an earlier prompt from the first line."""
        if select or not self.cursor_at_first_line or self._place == 0:
            super().action_cursor_up(select)
            return
        if self._place == len(self._said):
            self._draft = self.full_text
        self._place -= 1
        self.put(self._said[self._place])

    def action_cursor_down(self, select: bool = False) -> None:
        """Down, or to a later prompt from the last line."""
        if select or not self.cursor_at_last_line or self._place >= len(self._said):
            super().action_cursor_down(select)
            return
        self._place += 1
        self.put(self._draft if self._place == len(self._said) else self._said[self._place])

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            # The editor would break the line before the binding is looked at.
            event.prevent_default()

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        # A character has at least one byte: what is far too long need not be encoded to be refused.
        size = len(event.text) if len(event.text) > MAX_PROMPT_BYTES else len(event.text.encode(errors="replace"))
        if size > MAX_PROMPT_BYTES:
            self.post_message(self.Refused(_too_long(size)))
            return
        text = sanitise(event.text).replace("\r", "\n")
        self.insert(self._fold(text) if len(text) > FOLD_CHARACTERS else text)

    def _fold(self, text: str) -> str:
        name = f"[paste {len(self._folded) + 1}: {bytes_text(len(text.encode(errors='replace')))}]"
        self._folded[name] = text
        return name


def _too_long(size: int) -> str:
    return f"{bytes_text(size)} is too long: a prompt takes at most {bytes_text(MAX_PROMPT_BYTES)}"
