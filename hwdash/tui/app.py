"""The dashboard: one stream of snapshots, four screens, themes."""

from __future__ import annotations

import asyncio
import contextlib
import locale
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import RenderableType
from textual import work
from textual._compositor import ChopsUpdate
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.signal import Signal

from hwdash.client.client import Client
from hwdash.core.config import DEFAULT_MODEL, DEFAULT_THEME, DashboardConfig
from hwdash.core.errors import HwdashError
from hwdash.core.paths import paths_from
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.snapshot import Snapshot
from hwdash.core.text import sanitise_line
from hwdash.tui import replay, theme
from hwdash.tui.announcer import LOW_ROWS, MOST, MOST_LOW, Announcer, toast_row
from hwdash.tui.cycle import after
from hwdash.tui.event_list import EventList
from hwdash.tui.event_log import EventLog
from hwdash.tui.feed import Feed
from hwdash.tui.glyphs import choose_glyphs
from hwdash.tui.keyboard import CalmDriver
from hwdash.tui.life import terminal_is_gone, watch_signals
from hwdash.tui.messages import PromptRequested
from hwdash.tui.narrow import NarrowUpdate
from hwdash.tui.overview import OverviewScreen
from hwdash.tui.screen import FrameScreen

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Seconds between two attempts to reach a daemon that does not answer."""
STATUS_S = 10
"""Seconds between two questions for what the daemon calls degraded."""
UPTIME_S = 3600.0
"""Seconds of which the probes are shown one by one."""


def _prompt_screen() -> Screen[None]:
    from hwdash.tui.prompt import PromptScreen

    return PromptScreen()


def _history_screen() -> Screen[None]:
    from hwdash.tui.history import HistoryScreen

    return HistoryScreen()


def _event_screen() -> Screen[None]:
    from hwdash.tui.event import EventScreen

    return EventScreen()


def _bench_screen() -> Screen[None]:
    from hwdash.tui.bench import BenchScreen

    return BenchScreen()


def _key(key: str, action: str, words: str, tooltip: str, *, show: bool = False, display: str | None = None) -> Binding:
    return Binding(
        key,
        action,
        words,
        tooltip=tooltip,
        show=show,
        key_display=display,
        id="app." + action.removeprefix("show('").removesuffix("')"),
    )


class HwdashApp(App[None]):
    """The dashboard over *client*.

    ``feed`` is the newest `Feed`, published by ``feed_signal`` at every change; ``chosen_device`` is the id that the
    prompt screen should open on, None for its own choice; ``selected`` is the stable key of the device that the overview
    stands on; ``model`` is the model that prompts go to; ``events`` are all
    that happened while the dashboard runs, and what was read from history.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "hwdash"
    ENABLE_COMMAND_PALETTE = True
    DEFAULT_MODE = "overview"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "overview": OverviewScreen,
        "prompt": _prompt_screen,
        "history": _history_screen,
        "events": _event_screen,
        "bench": _bench_screen,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("1,o", "show('overview')", "Overview", "All devices, ranked, live", display="1"),
        _key("2,p", "show('prompt')", "Prompt", "Send a prompt to a device", show=True, display="2"),
        _key("3", "show('history')", "History", "Latency over time, with throttled periods", show=True, display="3"),
        _key("4", "show('events')", "Events", "What happened to which device", show=True, display="4"),
        _key(
            "5", "show('bench')", "Bench", "How fast a device is, and how it stands full load", show=True, display="5"
        ),
        _key("t", "next_theme", "Theme", "Change to the next colour theme", show=True),
        _key("ctrl+p", "command_palette", "Commands", "Find a command by typing", show=True, display="^p"),
        _key("question_mark", "help", "Help", "All keys, badges and colours", show=True, display="?"),
        _key("q", "quit", "Quit", "Leave the dashboard", show=True),
        Binding("ctrl+q", "quit", "Quit", tooltip="Leave, whatever has the focus", show=False, priority=True),
        Binding("ctrl+c", "interrupt", "Quit", tooltip="Stop the answer, or leave", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "Suspend", tooltip="Back to the shell; fg returns here", show=False),
        *replay.BINDINGS,
    ]

    def __init__(
        self,
        client: Client,
        config: DashboardConfig | None = None,
        model: str = DEFAULT_MODEL,
        *,
        host: str | None = None,
    ) -> None:
        super().__init__(
            driver_class=None if "TEXTUAL_DRIVER" in os.environ else CalmDriver,
            ansi_color=True if "NO_COLOR" in os.environ else None,
        )
        self.client = client
        self.config = config = config or DashboardConfig()
        self.model = model
        self.host = sanitise_line(platform.node() if host is None else host, 40)
        self.glyphs = choose_glyphs(config.ascii, locale.getpreferredencoding(False), os.environ)
        self.feed = Feed()
        self.feed_signal: Signal[Feed] = Signal(self, "feed")
        self.chosen_device: str | None = None
        self.selected: str | None = None
        self.events = EventLog()
        self.animation_level = "none"
        self._announcer = Announcer(self.events)
        self._seconds = 0
        self._received = 0.0
        self._theme_problems = self._register_themes(paths_from(os.environ).config)

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None until the daemon answered for the first time."""
        return self.feed.snapshot

    @property
    def replay(self) -> ReplayState | None:
        """Where the replay stands; None while hardware is watched."""
        return self.feed.replay

    # ------------------------------------------------------------------ themes

    def _register_themes(self, config_dir: Path) -> tuple[str, ...]:
        themes, problems = theme.load_themes((theme.shipped_folder(), theme.user_folder(config_dir)))
        for name in self.available_themes:
            self.unregister_theme(name)
        for item in themes.values():
            self.register_theme(theme.build_theme(item))
        self.register_theme(theme.terminal_theme())
        if "NO_COLOR" in os.environ or self.console.color_system in (None, "standard"):
            self.theme = theme.TERMINAL_THEME
        elif self.config.theme in self.available_themes:
            self.theme = self.config.theme
        else:
            problems = (*problems, f"no theme {self.config.theme!r}; there are: {', '.join(self.available_themes)}")
            self.theme = DEFAULT_THEME if DEFAULT_THEME in themes else theme.TERMINAL_THEME
        return problems

    def get_css_variables(self) -> dict[str, str]:
        """Textual's variables, with every ``$hw-*`` that the theme leaves out."""
        variables = super().get_css_variables()
        self.theme_variables = theme.variable_defaults(variables) | variables
        return self.theme_variables

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        self.theme = after(list(self.available_themes), self.theme)

    # ------------------------------------------------------------------ life

    def on_mount(self) -> None:
        """Start the stream and the watch over signals and terminal."""
        watch_signals(self.exit)
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))
        self._follow()
        self.set_interval(1.0, self._each_second)
        if self._theme_problems:
            more = f" (and {len(self._theme_problems) - 1} more)" if len(self._theme_problems) > 1 else ""
            self.notify(self._theme_problems[0] + more, title="Theme", severity="warning", markup=False)

    def _each_second(self) -> None:
        if not self.is_headless and terminal_is_gone():
            self.exit()
        elif self.feed.snapshot is not None:
            aged = replace(self.feed, age_s=time.monotonic() - self._received)
            if aged.is_old or self.feed.is_old:
                self._publish(aged)
            if self._seconds % STATUS_S == 0 and not self.feed.problem:
                self._ask_status()
            self._seconds += 1

    @work(group="feed", exclusive=True, exit_on_error=False)
    async def _follow(self) -> None:
        """Keep `feed` at the newest snapshot, whatever happens to the daemon."""
        while True:
            try:
                async with contextlib.aclosing(self.client.stream()) as snapshots:
                    async for snapshot in snapshots:
                        self._take(snapshot)
                problem = "the daemon closed the stream"
            except HwdashError as error:
                problem = error.message
            except Exception:  # noqa: BLE001 - the boundary to foreign data; logged, shown and tried again
                _log.exception("the stream of snapshots failed")
                problem = "the stream of snapshots failed; the reason is in the log"
            age = time.monotonic() - self._received if self.feed.snapshot is not None else 0.0
            text = f"daemon not reachable: {sanitise_line(problem)}; retrying"
            self._publish(replace(self.feed, problem=text, age_s=age))
            await asyncio.sleep(RETRY_S)

    def _take(self, snapshot: Snapshot) -> None:
        self._received = time.monotonic()
        most = MOST_LOW if self.size.height < LOW_ROWS else MOST
        announcement = self._announcer.take(snapshot, self._received, looking=self.current_mode == "events", most=most)
        for toast in announcement.toasts:
            title, words = (
                toast_row(item, self.size.width, self.glyphs.ellipsis) for item in (toast.title, toast.words)
            )
            self.notify(words, title=title, severity=toast.level, markup=False)
        if announcement.rings:
            self.bell()
        self._publish(replace(self.feed, snapshot=snapshot, problem="", age_s=0.0, unseen=self._announcer.unseen))

    def _publish(self, feed: Feed) -> None:
        steered = (feed.replay is None) != (self.feed.replay is None)
        self.feed = feed
        self.feed_signal.publish(feed)
        if steered:
            self.screen.refresh_bindings()

    @work(group="status", exclusive=True, exit_on_error=False)
    async def _ask_status(self) -> None:
        """Learn what the daemon calls degraded, and how devices stand their probes; that it does not answer shows in the stream."""
        with contextlib.suppress(HwdashError):
            status = await self.client.status()
            troubles = tuple(sanitise_line(problem, 400) for problem in status.problems)
            uptime = self.feed.uptime
            with contextlib.suppress(HwdashError):
                uptime = await self.client.uptime(UPTIME_S)
            if troubles != self.feed.troubles or uptime != self.feed.uptime:
                self._publish(replace(self.feed, troubles=troubles, uptime=uptime))

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if isinstance(renderable, ChopsUpdate):
            renderable = NarrowUpdate.of(renderable)
        super()._display(screen, renderable)

    # ------------------------------------------------------------------ actions

    async def action_show(self, mode: str) -> None:
        """Change to the screen *mode*."""
        if len(self.screen_stack) == 1:
            if mode != self.current_mode:
                await self.switch_mode(mode)
            if mode == "events" and self._announcer.unseen:
                self._announcer.unseen = 0
                self._publish(replace(self.feed, unseen=0))
            if isinstance(self.screen, FrameScreen):
                self.screen.enter()

    async def open_prompt(self, device: str | None) -> None:
        """Open the prompt screen on *device* (an id), None for automatic choice."""
        self.chosen_device = device
        await self.action_show("prompt")

    async def on_prompt_requested(self, message: PromptRequested) -> None:
        """Open the prompt screen on the device that was asked for."""
        await self.open_prompt(message.device)

    async def open_device(self, key: str, name: str) -> None:
        """Show the device with the stable *key* among all devices; *name* is for saying that it is not there."""
        if self.snapshot is None or all(status.device.key != key for status in self.snapshot.devices):
            self.notify(f"{name} is not there any more", severity="warning", markup=False)
            return
        await self.action_show("overview")
        if isinstance(self.screen, OverviewScreen):
            self.screen.select(key)

    async def on_event_list_device_wanted(self, message: EventList.DeviceWanted) -> None:
        """Show the device of an event."""
        await self.open_device(message.key, message.device)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a replay do nothing, and are not told of, while hardware is watched."""
        return action != "replay" or self.replay is not None

    def action_replay(self, what: str) -> None:
        """Steer the replay."""
        if (state := self.replay) is not None:
            self._steer(replay.steering(what, state))

    @work(group="replay", exit_on_error=False)
    async def _steer(self, request: ReplayRequest) -> None:
        try:
            state = await self.client.replay(request)
        except HwdashError as error:
            self.notify(sanitise_line(error.message), title="Replay", severity="error", markup=False)
            return
        if self.snapshot is not None and self.replay is not None:
            self._publish(replace(self.feed, snapshot=replace(self.snapshot, replay=state)))

    def action_help(self) -> None:
        """Open the help, or close it."""
        from hwdash.tui.help import HelpScreen

        if isinstance(self.screen, HelpScreen):
            self.pop_screen()
        else:
            behind = self.screen.key_groups() if isinstance(self.screen, FrameScreen) else ()
            self.push_screen(HelpScreen(behind, replay=self.replay is not None))

    async def action_interrupt(self) -> None:
        """Let the screen stop what it does (``action_interrupt`` of the screen returns True when it did), else quit."""
        stop = getattr(self.screen, "interrupt", None)
        if stop is None or not stop():
            self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The commands of the palette: screens, devices, themes."""
        yield SystemCommand("Overview", "All devices, ranked, live", lambda: self.run_action("show('overview')"))
        yield SystemCommand("Prompt", "Send a prompt", lambda: self.run_action("show('prompt')"))
        yield SystemCommand("History", "Latency over time", lambda: self.run_action("show('history')"))
        yield SystemCommand("Events", "What happened", lambda: self.run_action("show('events')"))
        yield SystemCommand("Bench", "How fast a device is", lambda: self.run_action("show('bench')"))
        for status in self.snapshot.devices if self.snapshot else ():
            device = status.device.id
            yield SystemCommand(f"Prompt {device}", status.device.name, lambda name=device: self.open_prompt(name))
        for name in self.available_themes:
            yield SystemCommand(f"Theme {name}", "Colours", lambda name=name: setattr(self, "theme", name))
        for binding in replay.BINDINGS if self.replay is not None else ():
            action = binding.action
            yield SystemCommand(
                f"Replay {binding.description}", binding.tooltip, lambda act=action: self.run_action(act)
            )
        yield SystemCommand("Help", "All keys, badges and colours", self.action_help)
        yield SystemCommand("Quit", "Leave the dashboard", self.action_quit)
