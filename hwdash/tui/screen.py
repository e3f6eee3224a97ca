"""The frame that every screen of the dashboard stands in: header, banner, body, keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from hwdash.tui.feed import Feed
from hwdash.tui.header import Banner, HeaderBar
from hwdash.tui.keybar import KeyBar
from hwdash.tui.replay import ReplayBar

if TYPE_CHECKING:
    from hwdash.tui.app import HwdashApp


class FrameScreen(Screen[None]):
    """A screen of the dashboard.

    Subclasses implement `compose_body` and may override `show_feed`, which is called with the newest feed when the
    screen comes up and on every change while it is visible, never while it is hidden.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-wide"), (120, "-xwide")]  # noqa: RUF012 - as the base declares it
    MODE = ""
    """The app's mode that this is the screen of."""

    def __init__(self) -> None:
        super().__init__()
        self._header = HeaderBar(self.dashboard.host, self.MODE)
        self._banner = Banner()
        self._replay_bar = ReplayBar()
        self._body_height = 0

    @property
    def dashboard(self) -> HwdashApp:
        """The app, as the type it is."""
        return cast("HwdashApp", self.app)

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        yield self._header
        yield self._banner
        yield from self.compose_body()
        yield self._replay_bar
        yield KeyBar()

    @property
    def body_height(self) -> int:
        """The rows between header and keys that banner and replay leave."""
        taken = 2 + self._banner.has_class("-shown") + self._replay_bar.has_class("-shown")
        return max(0, self.size.height - taken)

    def frame_resized(self) -> None:
        """The body has another size now; called before the layout of it."""

    def on_resize(self) -> None:
        """Tell the body."""
        self._body_height = self.body_height
        self.frame_resized()

    def compose_body(self) -> ComposeResult:
        """What stands between banner and keys."""
        yield from ()

    def show_feed(self, feed: Feed) -> None:
        """Show the newest state; *feed* may have no snapshot yet."""

    def enter(self) -> None:
        """The user went to this screen; not called when a dialog above it closes."""

    def key_groups(self) -> Sequence[tuple[str, Sequence[BindingType]]]:
        """The keys of this screen and of its parts, each group with a title, for the help."""
        return (("This screen", type(self).__dict__.get("BINDINGS", ())),)

    def on_mount(self) -> None:
        """Follow the app's feed."""
        self.dashboard.feed_signal.subscribe(self, self._take_feed, immediate=True)

    def on_screen_resume(self) -> None:
        """Catch up with what happened while hidden."""
        self._take_feed(self.dashboard.feed)

    def _take_feed(self, feed: Feed) -> None:
        if not self.is_current:
            return
        self._header.show(feed)
        self._banner.show(feed)
        self._replay_bar.show(feed.replay)
        if self._body_height != (height := self.body_height):
            self._body_height = height
            self.frame_resized()
        self.show_feed(feed)
