"""The field for the text that events are filtered by."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class FilterField(Input):
    """Where the text to look for is typed; there only while it is."""

    DEFAULT_CSS = """
    FilterField, FilterField:focus {
        height: 1; border: none; padding: 0 1; background: $panel; color: $hw-text; display: none;
    }
    FilterField.-shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "leave(True)", "Keep", key_display="Enter", tooltip="Keep the filter", id="filter.keep"),
        Binding("escape", "leave(False)", "Clear", tooltip="Filter by no text", id="filter.clear"),
    ]

    class Left(Message):
        """The user is done."""

    def __init__(self) -> None:
        super().__init__(placeholder="text to look for; Enter keeps it, Esc shows all", select_on_focus=False)
        self.cursor_blink = False

    def open(self) -> None:
        """Come up with the focus."""
        self.add_class("-shown")
        self.focus()

    def action_leave(self, keep: bool) -> None:
        """Go away, with or without what was typed."""
        if not keep:
            self.value = ""
        self.remove_class("-shown")
        self.post_message(self.Left())
