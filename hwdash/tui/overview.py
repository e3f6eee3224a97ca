"""The screen of all devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.css.query import NoMatches
from textual.geometry import Size
from textual.worker import Worker

from hwdash.core.errors import HwdashError
from hwdash.core.ranking import Ranking
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.core.text import sanitise_line
from hwdash.tui.canvas import Canvas
from hwdash.tui.cycle import after
from hwdash.tui.detail import FactPane, TracePane
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span
from hwdash.tui.messages import DeviceSelected, SortChanged
from hwdash.tui.row import rows_of
from hwdash.tui.screen import FrameScreen
from hwdash.tui.table import DeviceTable
from hwdash.tui.trace import TraceHistory
from hwdash.tui.why import WhyPane

_DETAIL_ROWS = 8
"""The table gives up rows until the detail has as many."""
_SIDE_WIDTH = 140
"""From this width on the detail can stand beside a long table."""
_FACTS_WIDTH = 62
_NARROW = 64
_WHY_WIDTH = 120
"""From this width on the facts stay beside the explanation."""
_WHY_ROWS = 6
"""The explanation gets as many rows, where the table can keep three."""


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
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "why", "Why", tooltip="Why the device stands where it does, and back", id="overview.why"),
        Binding("P", "policy", "Policy", tooltip="While Why is open: rank for the next policy", id="overview.policy"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._history = TraceHistory()
        self._table = DeviceTable()
        self._facts = FactPane()
        self._traces = TracePane(self._history)
        self._why = WhyPane()
        self._explains = False
        self._policy = Policy.BALANCED
        self._ranking: Ranking | None = None
        self._problem = ""
        self._asking: Worker[None] | None = None

    def compose_body(self) -> ComposeResult:
        """Table above, detail below."""
        yield Waiting()
        with Container(id="body"):
            yield self._table
            with Container(id="detail"):
                yield self._facts
                yield self._traces
                yield self._why

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
        snapshot = self._as_ranked(feed.snapshot)
        if self._policy is not Policy.BALANCED and not feed.is_old and (not self._asking or self._asking.is_finished):
            self._asking = self._ask()
        rows = rows_of(snapshot, self._table.order)
        is_first = not self.has_class("-ready")
        count_before = self._table.wanted_height
        policy = snapshot.ranking.policy if snapshot.ranking is not None else ""
        self._table.show(rows, old=feed.is_old, policy=policy if self._policy is not Policy.BALANCED else "")
        if is_first or count_before != self._table.wanted_height:
            self.add_class("-ready")
            self._arrange(self.size)
        self._why.tell(self._table.selected, snapshot.ranking, self._problem)
        self._facts.tell(feed.uptime)
        self._show_detail()

    def _as_ranked(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot* with the newest ranking under the policy that was asked for, its own until that came in."""
        if self._policy is Policy.BALANCED or self._ranking is None:
            return snapshot
        return replace(snapshot, ranking=self._ranking)

    @work(group="rank", exclusive=True, exit_on_error=False)
    async def _ask(self) -> None:
        """Ask the daemon for the ranking under the chosen policy."""
        try:
            self._ranking = await self.dashboard.client.rank(Requirements(policy=self._policy))
            self._problem = ""
        except HwdashError as error:
            self._ranking = None
            self._problem = f"no ranking for {self._policy}: {sanitise_line(error.message, 200)}"
        if self.is_current:
            self.show_feed(self.dashboard.feed)

    def on_device_selected(self, message: DeviceSelected) -> None:
        """Show the detail of the device under the cursor."""
        self._show_detail()

    def on_sort_changed(self, message: SortChanged) -> None:
        """Sort again."""
        self.show_feed(self.dashboard.feed)

    def _show_detail(self) -> None:
        row = self._table.selected
        self.dashboard.selected = None if row is None else row.key
        self._facts.show(row)
        self._traces.show(row)
        self._why.show(row)

    def frame_resized(self) -> None:
        """Share the new size out."""
        self._arrange(self.size)

    def key_groups(self) -> Sequence[tuple[str, Sequence[BindingType]]]:
        """The keys of the table and of the panes below it."""
        return (
            ("Device table", DeviceTable.BINDINGS),
            ("Ranking", OverviewScreen.BINDINGS),
            ("Detail", FactPane.BINDINGS),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Policies are gone through while the explanation is open."""
        return action != "policy" or self._explains

    def action_why(self) -> None:
        """Open the explanation, or close it; closed, the ranking is the daemon's own again."""
        self._explains = not self._explains
        if not self._explains:
            self._choose(Policy.BALANCED)
        self._arrange(self.size)
        self.refresh_bindings()
        self.show_feed(self.dashboard.feed)

    def action_policy(self) -> None:
        """Rank for the next policy."""
        self._choose(after(list(Policy), self._policy))
        self.show_feed(self.dashboard.feed)

    def _choose(self, policy: Policy) -> None:
        """Rank for *policy*; what was asked for another one does not count any more."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._policy, self._ranking, self._problem = policy, None, ""

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
        least = _WHY_ROWS if self._explains else _DETAIL_ROWS
        beside = size.width >= _SIDE_WIDTH and room - wanted < _DETAIL_ROWS
        with_detail = beside or room >= least + 3
        body.set_class(beside, "-beside")
        body.set_class(not with_detail, "-alone")
        self._table.styles.height = "1fr" if beside or not with_detail else min(wanted, max(3, room - _DETAIL_ROWS))
        detail = self.query_one("#detail")
        alone = not beside and size.width < _NARROW
        detail.set_class(alone, "-stacked")
        detail.set_class(self._explains, "-why")
        detail.set_class(self._explains and size.width < _WHY_WIDTH, "-why-alone")
        self._facts.styles.width = "1fr" if beside or alone else min(_FACTS_WIDTH, size.width // 2)
        self._keep_focus()

    def _keep_focus(self) -> None:
        """The keys go back to the table when the pane that had them is not shown any more."""
        if self.focused is not None and not self.focused.display:
            self._table.focus()
