"""The screen of past latency: percentiles over time, throttled periods on the same axis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from hwdash.core.errors import HwdashError, UnknownDevice
from hwdash.core.event import Event
from hwdash.core.history import LatencyHistory, LatencySeries, MetricHistory
from hwdash.core.probe import UptimeHistory
from hwdash.core.text import sanitise_line
from hwdash.tui import chart, summary
from hwdash.tui.chart import Figure, Plan
from hwdash.tui.cycle import after
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span
from hwdash.tui.messages import PromptRequested
from hwdash.tui.part import Part
from hwdash.tui.picture import Picture
from hwdash.tui.screen import FrameScreen
from hwdash.tui.strip import clock_rows, probe_row
from hwdash.tui.window import WINDOWS, Window, stepped, window_bindings

_log = logging.getLogger(__name__)

REFRESH_S = 5.0
"""Seconds between two looks at history while the screen is visible."""
ALL = "all devices"
_STRIPS_FROM = 12
"""Rows from which on clock and probes stand below the chart."""
_EVENTS = 500
"""Events that are looked at for marks; the newest, when there are more."""


class Head(Part):
    """What is shown, and its percentiles."""

    DEFAULT_CSS = "Head { height: 2; }"


class SeriesTable(Part):
    """All devices and models of the window."""

    DEFAULT_CSS = "SeriesTable { height: 4; }"


class HistoryScreen(FrameScreen):
    """Latency over time: one device and model as a chart, all of them in a table below it."""

    MODE = "history"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "figure", "Metric", tooltip="TTFT, between tokens, or whole answer", id="history.figure"),
        Binding("d", "device", "Device", tooltip="All devices, or one after the other", id="history.device"),
        *window_bindings("history"),
        Binding("up,k", "row(-1)", "Up", show=False, tooltip="Chart the series above", id="history.up"),
        Binding("down,j", "row(1)", "Down", show=False, tooltip="Chart the series below", id="history.down"),
        Binding("enter", "prompt", "Prompt it", show=False, tooltip="Prompt this device", id="history.prompt"),
    ]

    DEFAULT_CSS = "HistoryScreen { overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._figure = Figure.TTFT
        self._window = WINDOWS[1]
        self._device: str | None = None
        self._wanted: tuple[str, str] | None = None
        self._history: LatencyHistory | None = None
        self._events: tuple[Event, ...] = ()
        self._problem = ""
        self._answered: datetime | None = None
        self._plan: tuple[Plan, tuple[Line, ...]] | None = None
        self._clock: MetricHistory | None = None
        self._uptime: UptimeHistory | None = None

    # ------------------------------------------------------------------ frame

    def compose_body(self) -> ComposeResult:
        """Head, chart, table."""
        yield Head(self._head)
        yield Picture()
        yield SeriesTable(self._table)

    def on_mount(self) -> None:
        """Look at history now and then while visible."""
        super().on_mount()
        self._timer = self.set_interval(REFRESH_S, self._reload, pause=True)

    def on_screen_resume(self) -> None:
        """Look again at once."""
        super().on_screen_resume()
        self._timer.resume()
        self.call_after_refresh(self._reload)

    def on_screen_suspend(self) -> None:
        """Rest while hidden."""
        self._timer.pause()

    def frame_resized(self) -> None:
        """Share out the rows anew."""
        self._lay_out()

    def on_resize(self) -> None:
        """Ask for as many stretches of time as there are columns."""
        if self.is_current:
            self._timer.reset()
            self.call_after_refresh(self._reload)

    def show_feed(self, feed: Feed) -> None:
        """Look at history as soon as a prompt was answered, by whomever."""
        requests = (
            [status.last_request for status in feed.snapshot.devices if status.last_request] if feed.snapshot else []
        )
        newest = max((request.finished_at for request in requests), default=None)
        if newest != self._answered:
            self._answered = newest
            self._reload()

    # ------------------------------------------------------------------ data

    @property
    def window(self) -> Window:
        """The stretch of time on screen."""
        return self._window

    @property
    def figure(self) -> Figure:
        """The latency on screen."""
        return self._figure

    @property
    def chosen(self) -> LatencySeries | None:
        """The device and model whose chart is shown: the user's choice, else the one with the most to show."""
        series = self._history.series if self._history else ()
        wanted = next((item for item in series if (item.device_key, item.model) == self._wanted), None)
        return wanted or max(series, key=_answered, default=None)

    @work(group="history", exclusive=True, exit_on_error=False)
    async def _reload(self) -> None:
        columns = max(self.query_one(Picture).size.width - 12, 20)
        try:
            client = self.dashboard.client
            self._history = await client.latency(self._window.seconds, self._device, min(columns, 240))
            self._events = (await client.events(self._window.seconds, self._device, limit=_EVENTS)).events
            with contextlib.suppress(HwdashError):
                self._clock = await client.metric("clock_hz", self._window.seconds, self._device, min(columns, 240))
                self._uptime = await client.uptime(self._window.seconds, self._device)
            self._problem = ""
        except UnknownDevice:
            self._device = None
            self._problem = "that device is not known any more: all devices are shown"
        except HwdashError as error:
            self._problem = sanitise_line(error.message)
        except Exception:  # noqa: BLE001 - the boundary to the daemon: logged and shown, the screen stays
            _log.exception("history could not be read")
            self._problem = "history could not be read; the reason is in the log"
        self._show()

    # ------------------------------------------------------------------ show

    def _lay_out(self) -> None:
        body = self.body_height
        rows = len(self._history.series) if self._history else 0
        table = min(rows + 1, max(body // 4, 2)) if rows and body >= 8 else 0
        self.query_one(Head).styles.height = 2 if body >= 6 else 1
        self.query_one(SeriesTable).styles.height = table
        self.query_one(SeriesTable).display = table > 0

    def _show(self) -> None:
        self._lay_out()
        self.query_one(Head).redraw()
        self.query_one(SeriesTable).redraw()
        # The height that is left for the chart holds after the layout.
        self.call_after_refresh(self._show_chart)

    def _head(self, width: int, height: int) -> Sequence[Line]:
        glyphs, series = self.dashboard.glyphs, self.chosen
        lines = [summary.window_line(self._figure, self._window, self._device_name(), width)]
        if self._problem:
            lines.insert(int(height > 1), (Span(f" {glyphs.alert} {self._problem}", "lost"),))
        elif series is not None:
            lines.append(summary.legend_line(series, self._figure, glyphs, width))
        return lines

    def _table(self, width: int, height: int) -> Sequence[Line]:
        if (history := self._history) is None:
            return ()
        return summary.table(history, self._figure, self.chosen, self.dashboard.glyphs, width, height)

    def on_picture_resized(self) -> None:
        """Plan the chart for the new size."""
        self._show_chart()

    def _show_chart(self) -> None:
        picture = self.query_one(Picture)
        history, series = self._history, self.chosen
        if history is None:
            picture.say("no history to show: the daemon does not answer" if self._problem else "")
            return
        width, height = picture.size
        planned = chart.plan(history, series, self._figure, width, height, events=self._events)
        below = self._strips(planned, height)
        if below:
            # Fewer rows have fewer marks upwards, whose labels may be narrower: the strips follow the chart.
            planned = chart.plan(history, series, self._figure, width, height - len(below), events=self._events)
            below = self._strips(planned, height)
        if planned is None:
            self._plan = None
            picture.say(summary.empty_words(history, series, self._figure, self._window))
        elif (planned, below) != self._plan:
            self._plan = planned, below
            self._draw(planned, below)

    def _strips(self, planned: Plan | None, height: int) -> tuple[Line, ...]:
        """Clock and probes of the device of the chart, where there is room for them below it."""
        series, clock, uptime, glyphs = self.chosen, self._clock, self._uptime, self.dashboard.glyphs
        if planned is None or series is None or height < _STRIPS_FROM:
            return ()
        lines = [] if clock is None else clock_rows(planned, clock, series.device_key, 2 + (height >= 24), glyphs)
        if uptime is not None:
            own = [item for item in uptime.probes if item.device_key == series.device_key]
            lines += probe_row(planned, own, uptime.since, uptime.until, glyphs)
        return tuple(lines)

    @work(group="chart", exclusive=True, exit_on_error=False)
    async def _draw(self, planned: Plan, below: tuple[Line, ...]) -> None:
        lines = await asyncio.to_thread(chart.draw, planned, self.dashboard.glyphs)
        if (planned, below) == self._plan:
            self.query_one(Picture).show(lines + below)

    def _device_name(self) -> str:
        return ALL if self._device is None else self._names().get(self._device, "one device")

    def _names(self) -> dict[str, str]:
        series = self._history.series if self._history else ()
        return self.dashboard.feed.device_names((item.device_key, item.device) for item in series)

    # ------------------------------------------------------------------ actions

    def action_figure(self) -> None:
        """Change to the next figure."""
        self._figure = after(list(Figure), self._figure)
        self._show()

    def action_window(self, step: int) -> None:
        """Change to a shorter or longer window."""
        wanted = stepped(self._window, step)
        if wanted != self._window:
            self._window = wanted
            self._reload()

    def action_span(self, step: int) -> None:
        """The same, by the keys that steer a recording while one is played."""
        self.action_window(step)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a recording is played its keys steer the recording."""
        return not (action == "span" and self.dashboard.replay is not None)

    def action_device(self) -> None:
        """Change to the next device; after the last one to all."""
        keys: list[str | None] = [None, *self._names()]
        self._device = after(keys, self._device if self._device in keys else None)
        self._wanted = None
        self._reload()

    def action_row(self, step: int) -> None:
        """Chart another row of the table."""
        series = self._history.series if self._history else ()
        if (chosen := self.chosen) is not None:
            row = min(max(series.index(chosen) + step, 0), len(series) - 1)
            self._wanted = (series[row].device_key, series[row].model)
            self._show()

    def action_prompt(self) -> None:
        """Open the prompt screen on the device of the chart."""
        if (series := self.chosen) is not None:
            self.post_message(PromptRequested(series.device))


def _answered(series: LatencySeries) -> tuple[bool, int]:
    """How much of *series* there is to chart: one of errors alone comes last."""
    return series.summary.total is not None, series.summary.requests
