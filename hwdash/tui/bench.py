"""The screen of measurements: what a device did in benches, precision by precision, and how it stood its soaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.worker import Worker

from hwdash.core.bench import BenchFinished, BenchReport, BenchRequest, BenchStep
from hwdash.core.errors import HwdashError, UnknownDevice
from hwdash.core.soak import SoakReport
from hwdash.core.text import sanitise_line
from hwdash.tui import plot
from hwdash.tui.bench_view import View, curves, legend, report_lines, scale
from hwdash.tui.cursor import arrows
from hwdash.tui.cycle import after
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span, fit, line_width
from hwdash.tui.part import Part
from hwdash.tui.picture import Picture
from hwdash.tui.plot import Plot
from hwdash.tui.screen import FrameScreen
from hwdash.tui.scroll import ScrollCanvas, scroll_bindings
from hwdash.tui.soak_view import soak_lines

_log = logging.getLogger(__name__)

REPORTS = 20
"""Reports of a device that are asked for, the newest."""


class BenchHead(Part):
    """What is shown, and what a running bench does."""

    DEFAULT_CSS = "BenchHead { height: 2; }"


class Report(ScrollCanvas, can_focus=True):
    """The figures of one report, which scroll."""

    DEFAULT_CSS = "Report { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [*scroll_bindings("report")]

    def __init__(self) -> None:
        super().__init__()
        self._report: BenchReport | None = None

    def show(self, report: BenchReport | None) -> None:
        """Show *report*; another one starts at the top."""
        if report is not self._report:
            self.top = 0
        self._report = report
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[Line]:
        """As many lines as fit; the first one says how many are out of sight."""
        if self._report is None:
            return []
        head, *rest = report_lines(self._report, width - 1, self.glyphs)
        lines, below = self.in_sight(rest, max(1, height - 1))
        if self.top or below > 0:
            tail = f" {max(below, 0)} more {arrows(self.top, below, self.glyphs)}"
            room = max(0, width - line_width(head) - len(tail))
            head = (*head, Span(" " * room + tail, "title" if self.has_focus else "label"))
        return [head, *lines]


class BenchScreen(FrameScreen):
    """Benches of one device as a chart and a table, its soaks as curves; a bench can be run from here."""

    MODE = "bench"
    AUTO_FOCUS = "Report"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "view", "Metric", tooltip="Tokens/s, gaps between tokens, first token, soak", id="bench.view"),
        Binding("d", "device", "Device", tooltip="The next device", id="bench.device"),
        Binding("r", "run", "Run", tooltip="Bench this device with the dashboard's model", id="bench.run"),
        Binding("escape", "cancel", "Stop", tooltip="Stop the bench that runs", id="bench.cancel"),
        Binding("left", "report(-1)", "Older", show=False, tooltip="The report before", id="bench.older"),
        Binding("right", "report(1)", "Newer", show=False, tooltip="The report after", id="bench.newer"),
    ]
    DEFAULT_CSS = "BenchScreen { overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._view = View.RATE
        self._device: str | None = None
        self._benches: tuple[BenchReport, ...] = ()
        self._soaks: tuple[SoakReport, ...] = ()
        self._back = 0
        self._problem = ""
        self._asked = False
        self._doing = ""
        self._measuring: Worker[None] | None = None
        self._plan: Plot | None = None

    # ------------------------------------------------------------------ frame

    def compose_body(self) -> ComposeResult:
        """Head, chart, figures."""
        yield BenchHead(self._head)
        yield Picture()
        yield Report()

    def enter(self) -> None:
        """Show the device that the overview stands on."""
        if (chosen := self.dashboard.selected) is not None and chosen != self._device:
            self._choose(chosen)
        else:
            self._reload()

    def frame_resized(self) -> None:
        """Share the rows out anew."""
        self._show()

    def show_feed(self, feed: Feed) -> None:
        """Take the first device that there is, unless one was chosen."""
        if self._device is None and feed.snapshot is not None and feed.snapshot.devices:
            self._choose(feed.snapshot.devices[0].device.key)

    # ------------------------------------------------------------------ data

    @property
    def view(self) -> View:
        """What is on screen."""
        return self._view

    @property
    def report(self) -> BenchReport | None:
        """The report of a bench on screen."""
        return self._benches[-1 - self._back] if self._back < len(self._benches) else None

    @property
    def soak(self) -> SoakReport | None:
        """The report of a soak on screen."""
        return self._soaks[-1 - self._back] if self._back < len(self._soaks) else None

    def _choose(self, key: str) -> None:
        self._device, self._back, self._benches, self._soaks, self._asked = key, 0, (), (), False
        self._reload()

    @work(group="reports", exclusive=True, exit_on_error=False)
    async def _reload(self) -> None:
        device, client = self._device, self.dashboard.client
        try:
            benches = (await client.benches(device, limit=REPORTS)).reports
            soaks = (await client.soaks(device, limit=REPORTS)).reports
            self._benches, self._soaks, self._asked, self._problem = benches, soaks, True, ""
        except UnknownDevice:
            self._asked = True
        except HwdashError as error:
            self._problem = sanitise_line(error.message, 400)
        except Exception:  # noqa: BLE001 - the boundary to the daemon: logged and shown, the screen stays
            _log.exception("reports could not be read")
            self._problem = "reports could not be read; the reason is in the log"
        self._show()

    @work(group="bench", exit_on_error=False)
    async def _run(self, device: str) -> None:
        """Bench the device with this id, and show what comes of it."""
        request = BenchRequest(self.dashboard.model, device)
        try:
            async with aclosing(self.dashboard.client.bench(request)) as events:
                async for event in events:
                    if isinstance(event, BenchFinished):
                        self._doing = ""
                        self._back, self._asked = 0, False
                        self._reload()
                    elif isinstance(event, BenchStep):
                        self._tell(device, event.words, event.progress)
                    else:
                        self._tell(device, event.detail or f"{event.stage}", event.progress)
            self._problem = ""
        except HwdashError as error:
            self._problem = f"bench: {sanitise_line(error.message, 400)}"
        except Exception:  # noqa: BLE001 - the boundary to the daemon: logged and shown, the screen stays
            _log.exception("the bench failed")
            self._problem = "the bench failed; the reason is in the log"
        finally:
            self._doing = ""
            self._measuring = None
            self.refresh_bindings()
            self._show()

    def _tell(self, device: str, words: str, progress: float | None) -> None:
        share = "" if progress is None else f" {progress:.0%}"
        self._doing = f"bench of {device}{share}: {sanitise_line(words, 200)}"
        self.query_one(BenchHead).redraw()

    # ------------------------------------------------------------------ show

    def _show(self) -> None:
        if not self.is_mounted:
            return
        report, picture = self.query_one(Report), self.query_one(Picture)
        with_report = self._view is not View.SOAK and self.body_height >= 8
        report.display = with_report
        picture.styles.height = max(6, self.body_height // 2 - 1) if with_report else "1fr"
        report.show(self.report)
        self.query_one(BenchHead).redraw()
        # The height that is left for the chart holds after the layout.
        self.call_after_refresh(self._show_chart)

    def _head(self, width: int, height: int) -> Sequence[Line]:
        glyphs, shown = self.dashboard.glyphs, self.soak if self._view is View.SOAK else self.report
        title: list[Span] = [Span(f" {self._view.words}", "title"), Span(f"  {self._device_name()}", "strong")]
        if shown is not None:
            count = len(self._soaks if self._view is View.SOAK else self._benches)
            at = shown.started_at.astimezone().strftime("%Y-%m-%d %H:%M")
            title.append(Span(f"  {count - self._back} of {count} {glyphs.dot} {at}", "label"))
        second: Line = ()
        if self._doing:
            second = (Span(f" {glyphs.play} {self._doing}", "warm"), Span("  Esc stops it", "label"))
        elif self._problem:
            second = (Span(f" {glyphs.alert} {self._problem}", "lost"),)
        elif shown is not None:
            model = Span(f"{fit(sanitise_line(shown.model, 60), min(len(shown.model), 60))}", "label")
            marks = () if self._view is View.SOAK or self.report is None else legend(self._curves(), glyphs)
            second = (Span(" "), *marks, model)
        return [tuple(title), second] if height > 1 else [second or tuple(title)]

    def _curves(self) -> tuple[plot.Curve, ...]:
        return () if self.report is None else curves(self.report, self._view)

    def on_picture_resized(self) -> None:
        """Plan the chart for the new size."""
        self._show_chart()

    def _show_chart(self) -> None:
        picture = self.query_one(Picture)
        width, height = picture.size
        self._plan, planned = None, None
        if self._view is View.SOAK:
            if self.soak is not None:
                picture.show(tuple(soak_lines(self.soak, width, height, self.dashboard.glyphs)))
                return
        else:
            found = self._curves()
            planned = plot.plan(found, scale(found, self._view, height - 2), width, height)
        if planned is None and self._view is not View.SOAK and self.report is None and self._doing:
            picture.show(())
        elif planned is None:
            picture.say(self._empty_words())
        else:
            self._plan = planned
            self._draw(planned)

    def _empty_words(self) -> str:
        if self._problem or not self._asked:
            return ""
        if self._view is View.SOAK:
            return f"no soak of {self._device_name()} yet: run hwdash soak --device {self._device_name()}"
        if self.report is None:
            return f"no bench of {self._device_name()} yet: press r to run one, some minutes long"
        return "nothing to chart: not measured, or too small a terminal; press m for another metric"

    @work(group="chart", exclusive=True, exit_on_error=False)
    async def _draw(self, planned: Plot) -> None:
        lines = await asyncio.to_thread(plot.draw, planned, self.dashboard.glyphs)
        if planned == self._plan:
            self.query_one(Picture).show(lines)

    def _names(self) -> dict[str, str]:
        return self.dashboard.feed.device_names()

    def _device_name(self) -> str:
        return "" if self._device is None else self._names().get(self._device, "one device")

    # ------------------------------------------------------------------ actions

    def interrupt(self) -> bool:
        """Stop the bench that runs; False where none does."""
        if self._measuring is None:
            return False
        self._measuring.cancel()
        self._problem = "bench stopped: nothing of it is kept"
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A bench is run where none runs, and stopped where one does."""
        if action in ("run", "cancel"):
            return (self._measuring is not None) == (action == "cancel")
        return True

    def action_view(self) -> None:
        """Change to the next view."""
        self._view, self._back = after(list(View), self._view), 0
        self._show()

    def action_device(self) -> None:
        """Change to the next device."""
        if keys := list(self._names()):
            self._choose(after(keys, self._device) if self._device in keys else keys[0])

    def action_report(self, step: int) -> None:
        """Show another report of the device."""
        count = len(self._soaks if self._view is View.SOAK else self._benches)
        self._back = min(max(self._back - step, 0), max(count - 1, 0))
        self._show()

    def action_run(self) -> None:
        """Bench the device."""
        name = self._names().get(self._device or "")
        if self._measuring is None and name is not None:
            self._problem = ""
            self._doing = f"bench of {name}: asking the daemon"
            self._measuring = self._run(name)
            self.refresh_bindings()
            self._show()

    def action_cancel(self) -> None:
        """Stop the bench."""
        self.interrupt()
