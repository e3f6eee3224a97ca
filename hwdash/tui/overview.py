"""The screen of all devices."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.css.query import NoMatches
from textual.geometry import Size

from hwdash.tui.canvas import Canvas
from hwdash.tui.detail import FactPane, TracePane
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span
from hwdash.tui.messages import DeviceSelected, SortChanged
from hwdash.tui.row import rows_of
from hwdash.tui.screen import FrameScreen
from hwdash.tui.table import DeviceTable
from hwdash.tui.trace import TraceHistory

_DETAIL_ROWS = 8
"""The table gives up rows until the detail has as many."""
_SIDE_WIDTH = 140
"""From this width on the detail can stand beside a long table."""
_FACTS_WIDTH = 62
_NARROW = 64


class Waiting(Canvas):
    """What is there before the first snapshot."""

    DEFAULT_CSS = "Waiting { height: 1fr; }"

    def draw(self, width: int, height: int) -> list[Line]:
        """One sentence in the middle."""
        words = "waiting for the daemon" + self.glyphs.ellipsis
        return [()] * (max(0, height - 1) // 2) + [(Span(" " * max(0, (width - len(words)) // 2) + words, "label"),)]


class OverviewScreen(FrameScreen):
    """All devices, ranked, live, with the detail of the one under the cursor."""

    MODE = "overview"
    AUTO_FOCUS = "DeviceTable"

    def __init__(self) -> None:
        super().__init__()
        self._history = TraceHistory()
        self._table = DeviceTable()
        self._facts = FactPane()
        self._traces = TracePane(self._history)

    def compose_body(self) -> ComposeResult:
        """Table above, detail below."""
        yield Waiting()
        with Container(id="body"):
            yield self._table
            with Container(id="detail"):
                yield self._facts
                yield self._traces

    def on_mount(self) -> None:
        """Follow the feed also while hidden, for the traces."""
        self.dashboard.feed_signal.subscribe(self, self._remember, immediate=True)

    def _remember(self, feed: Feed) -> None:
        if feed.snapshot is not None and not feed.is_old:
            self._history.add(feed.snapshot)

    def show_feed(self, feed: Feed) -> None:
        """Show the newest snapshot."""
        if feed.snapshot is None:
            return
        rows = rows_of(feed.snapshot, self._table.order)
        is_first = not self.has_class("-ready")
        count_before = self._table.wanted_height
        self._table.show(rows, old=feed.is_old)
        if is_first or count_before != self._table.wanted_height:
            self.add_class("-ready")
            self._arrange(self.size)
        self._show_detail()

    def on_device_selected(self, message: DeviceSelected) -> None:
        """Show the detail of the device under the cursor."""
        self._show_detail()

    def on_sort_changed(self, message: SortChanged) -> None:
        """Sort again."""
        self.show_feed(self.dashboard.feed)

    def _show_detail(self) -> None:
        row = self._table.selected
        self._facts.show(row)
        self._traces.show(row)

    def frame_resized(self) -> None:
        """Share the new size out."""
        self._arrange(self.size)

    def key_groups(self) -> Sequence[tuple[str, Sequence[BindingType]]]:
        """The keys of the table and of the facts."""
        return (("Device table", DeviceTable.BINDINGS), ("Detail", FactPane.BINDINGS))

    def select(self, key: str) -> None:
        """Put the cursor on the device with this stable key."""
        self._table.select(key)
        self._table.focus()

    def _arrange(self, size: Size) -> None:
        try:
            body = self.query_one("#body")
        except NoMatches:
            return
        room = self.body_height
        wanted = self._table.wanted_height
        beside = size.width >= _SIDE_WIDTH and room - wanted < _DETAIL_ROWS
        with_detail = beside or room >= _DETAIL_ROWS + 3
        body.set_class(beside, "-beside")
        body.set_class(not with_detail, "-alone")
        self._table.styles.height = "1fr" if beside or not with_detail else min(wanted, room - _DETAIL_ROWS)
        alone = not beside and size.width < _NARROW
        self.query_one("#detail").set_class(alone, "-stacked")
        self._facts.styles.width = "1fr" if beside or alone else min(_FACTS_WIDTH, size.width // 2)
