"""The screen of events: what happened to which device, live and from history."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from hwdash.core.errors import HwdashError
from hwdash.core.event import Event, Severity
from hwdash.core.text import sanitise_line
from hwdash.tui.cycle import after
from hwdash.tui.event_filter import EventFilter
from hwdash.tui.event_line import event_lines
from hwdash.tui.event_list import EventList
from hwdash.tui.event_log import LIMIT
from hwdash.tui.feed import Feed
from hwdash.tui.filter_field import FilterField
from hwdash.tui.line import Line, Span, line_width
from hwdash.tui.part import Part
from hwdash.tui.screen import FrameScreen
from hwdash.tui.window import WINDOWS, Window, stepped, window_bindings, with_windows

_log = logging.getLogger(__name__)

_PANE_ROWS = 8
_LEAST_LIST_ROWS = 5


class EventHead(Part):
    """How many events of which window, and what they are filtered by."""

    DEFAULT_CSS = "EventHead { height: 2; }"


class EventPane(Part):
    """All of the event under the cursor."""

    DEFAULT_CSS = "EventPane { height: 8; }"


class EventScreen(FrameScreen):
    """Events newest first, filtered, with all about the chosen one below."""

    MODE = "events"
    AUTO_FOCUS = "EventList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", tooltip="Only events with a text", id="events.search"),
        Binding("d", "device", "Device", tooltip="All devices, or one after the other", id="events.device"),
        Binding("c", "kind", "Kind", tooltip="All kinds, health, device, alert", id="events.kind"),
        Binding("v", "severity", "Severity", tooltip="All, warnings and worse, critical", id="events.severity"),
        *window_bindings("events"),
        Binding("escape", "show_all", "All", show=False, tooltip="Take all filters away", id="events.all"),
        Binding("r", "reload", "Reload", show=False, tooltip="Read the history again", id="events.reload"),
    ]
    DEFAULT_CSS = "EventScreen { overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._window = WINDOWS[2]
        self._filter = EventFilter()
        self._problem = ""
        self._loaded = False
        self._truncated = False
        self._was_cut_off = False
        self._shown_version = -1
        self._total = 0
        self._found: tuple[Event, ...] = ()
        self._list = EventList()
        self._pane = EventPane(self._pane_lines)
        self._head = EventHead(self._head_lines)
        self._field = FilterField()

    @property
    def filter(self) -> EventFilter:
        """What is asked for."""
        return self._filter

    @property
    def window(self) -> Window:
        """The stretch of time on screen."""
        return self._window

    # ------------------------------------------------------------------ frame

    def compose_body(self) -> ComposeResult:
        """Head, list, pane, and the field of the filter."""
        yield self._head
        yield self._list
        yield self._pane
        yield self._field

    def key_groups(self) -> Sequence[tuple[str, Sequence[BindingType]]]:
        """The keys of the screen and of the list."""
        return (*super().key_groups(), ("List of events", EventList.BINDINGS))

    def on_screen_resume(self) -> None:
        """Read what happened meanwhile."""
        self._shown_version = -1
        self.action_reload()

    def frame_resized(self) -> None:
        """Give the pane what the list can spare."""
        rows = self.body_height
        self._head.styles.height = 2 if rows >= 6 else 1
        pane = min(_PANE_ROWS, rows - 2 - _LEAST_LIST_ROWS)
        self._pane.display = pane >= 3
        self._pane.styles.height = max(pane, 0)

    def show_feed(self, feed: Feed) -> None:
        """Show what the stream told; read the history again when the daemon is back."""
        if self._was_cut_off and not feed.problem:
            self.action_reload()
        self._was_cut_off = bool(feed.problem)
        if self.dashboard.events.version != self._shown_version:
            self._show()

    @work(group="events", exclusive=True, exit_on_error=False)
    async def action_reload(self) -> None:
        """Read the window from history."""
        try:
            found = await self.dashboard.client.events(self._window.seconds, limit=LIMIT)
            self.dashboard.events.add(found.events)
            self._truncated = found.truncated
            self._problem = ""
        except HwdashError as error:
            self._problem = sanitise_line(error.message)
        except Exception:  # noqa: BLE001 - the boundary to the daemon: logged and shown, the screen stays
            _log.exception("events could not be read")
            self._problem = "past events could not be read; the reason is in the log"
        self._loaded = True
        self._show()

    # ------------------------------------------------------------------ show

    def _now(self) -> datetime:
        snapshot = self.dashboard.snapshot
        return snapshot.taken_at if snapshot is not None else datetime.now(UTC)

    def _show(self) -> None:
        log, now = self.dashboard.events, self._now()
        self._shown_version = log.version
        since = now - timedelta(seconds=self._window.seconds)
        # History may know what comes later in a recording that went back.
        until = now if self.dashboard.replay is not None else datetime.max.replace(tzinfo=UTC)
        within = [event for event in reversed(log.events) if since <= event.at <= until]
        self._total = len(within)
        self._found = tuple(event for event in within if self._filter.passes(event))
        self._list.show(self._found, self._empty_words(), now.astimezone().date())
        self._head.redraw()
        self._pane.redraw()

    def _empty_words(self) -> str:
        if self._total:
            return f"none of {self._total} events of the last {self._window.title} is {self._words()}: Esc shows all"
        if self._problem:
            return "no events to show: past ones could not be read"
        return f"no events in the last {self._window.title}" if self._loaded else ""

    def _words(self) -> str:
        return self._filter.words(self._names().get(self._filter.device or "", "") or "one device")

    def _head_lines(self, width: int, height: int) -> Sequence[Line]:
        count = f"{len(self._found)} of {self._total}" if len(self._found) != self._total else str(self._total)
        left = (Span(" Events", "title"), Span(f"  {count}", "strong"))
        line = with_windows((*left, Span("  ")), self._window, width)
        lines = [line or (*left, Span(f"  [{self._window.title}]", "key"))]
        if self._problem:
            lines.insert(int(height > 1), (Span(f" {self.dashboard.glyphs.alert} {self._problem}", "lost"),))
        elif not self._filter.is_open:
            only = (Span(" only ", "label"), Span(self._words(), "key"))
            way_back = Span("  Esc shows all", "label")
            lines.append((*only, way_back) if line_width((*only, way_back)) <= width else only)
        else:
            lines.append((Span(f" {self._counts()}", "label"),))
        return lines

    def _counts(self) -> str:
        counts = Counter(event.severity for event in self._found)
        parts = [f"{counts[Severity.CRITICAL]} critical"] if counts[Severity.CRITICAL] else []
        if warnings := counts[Severity.WARNING]:
            parts.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
        if self._truncated:
            parts.append(f"the newest {LIMIT} only: choose a shorter stretch of time")
        return ", ".join(parts)

    def _pane_lines(self, width: int, height: int) -> Sequence[Line]:
        if (event := self._list.selected) is None:
            return ()
        lines = event_lines(event, width, self.dashboard.glyphs)
        if len(lines) > height:
            more = len(lines) - height + 1
            lines[height - 1 :] = [(Span(f" {more} more lines: make the terminal taller", "label"),)]
        return lines

    def _names(self) -> dict[str, str]:
        events = self.dashboard.events.events
        return self.dashboard.feed.device_names((event.key, event.device or event.key) for event in events)

    # ------------------------------------------------------------------ actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a recording is played, or a text is typed, the keys that serve for it do nothing else."""
        if action in ("span", "search") and self._field.has_focus:
            return False
        return action != "span" or self.dashboard.replay is None

    def on_event_list_selected(self) -> None:
        """Show all of the event under the cursor."""
        self._pane.redraw()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter while the user types."""
        message.stop()
        self._filtered(replace(self._filter, text=sanitise_line(message.value)))

    def on_filter_field_left(self) -> None:
        """Back to the list."""
        self._list.focus()

    def _filtered(self, wanted: EventFilter) -> None:
        self._filter = wanted
        self._show()

    def action_search(self) -> None:
        """Ask for a text."""
        self._field.open()

    def action_show_all(self) -> None:
        """Take all filters away."""
        self._field.value = ""
        self._filtered(EventFilter())

    def action_device(self) -> None:
        """Only the next device; after the last one all."""
        keys: list[str | None] = [None, *self._names()]
        self._filtered(replace(self._filter, device=after(keys, self._filter.device)))

    def action_kind(self) -> None:
        """Only the next kind; after the last one all."""
        self._filtered(self._filter.with_next_kind())

    def action_severity(self) -> None:
        """Only more severe events; after the most severe all."""
        self._filtered(self._filter.with_next_severity())

    def action_window(self, step: int) -> None:
        """Change to a shorter or longer window."""
        wanted = stepped(self._window, step)
        if wanted != self._window:
            self._window = wanted
            self._show()
            self.action_reload()

    def action_span(self, step: int) -> None:
        """The same, by the keys that steer a recording while one is played."""
        self.action_window(step)
