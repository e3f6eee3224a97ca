"""What reaches the terminal: after any row of updates it shows what a fresh drawing would show."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import RenderableType
from textual._compositor import ChopsUpdate, CompositorUpdate
from textual.pilot import Pilot
from textual.screen import Screen

from hwdash.client.fake import FakeClient
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.tui.app import HwdashApp
from hwdash.tui.canvas import changed_runs
from hwdash.tui.feed import Feed
from hwdash.tui.line import Line, Span, fit, joined, line_width, plain, sized, wrapped
from hwdash.tui.narrow import NarrowUpdate
from hwdash.tui.overview import OverviewScreen
from tests.tui.sample import gpu, mixed_devices, mixed_snapshot, ranking, status
from tests.tui.screen_text import shown


class MirroredApp(HwdashApp):
    """The dashboard with a terminal emulator that is fed what a driver would write."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(FakeClient([mixed_snapshot()], interval_s=3600), host="node7")
        self.mirror = pyte.Screen(*size)
        self._input = pyte.Stream(self.mirror)
        self.bytes_fed = 0

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        update: object = NarrowUpdate.of(renderable) if isinstance(renderable, ChopsUpdate) else renderable
        if isinstance(update, CompositorUpdate):
            data = update.render_segments(self.console)
            self.bytes_fed += len(data.encode())
            self._input.feed(data)
        super()._display(screen, renderable)

    def _each_second(self) -> None:
        """Time stands still, so that no snapshot grows old."""

    async def settle(self, pilot: Pilot[Any]) -> None:
        """Wait until two rounds of the loop sent nothing."""
        quiet = 0
        while quiet < 2:
            before = self.bytes_fed
            await pilot.pause(0.02)
            quiet = quiet + 1 if self.bytes_fed == before else 0

    def cells(self) -> list[list[tuple[str, str, str, bool]]]:
        """Character, colours and weight of every cell of the emulator."""
        rows = []
        for y in range(self.mirror.lines):
            line = self.mirror.buffer[y]
            rows.append([(line[x].data, line[x].fg, line[x].bg, line[x].bold) for x in range(self.mirror.columns)])
        return rows


def random_snapshot(rng: random.Random, number: int) -> Snapshot:
    def pick(*values: Reading) -> Reading:
        return rng.choice(values)

    devices: list[DeviceStatus] = []
    for base in mixed_devices():
        if rng.random() < 0.1:
            continue
        changes: dict[str, Reading] = {
            "utilization": pick(0.0, 1.0, rng.random(), Absent.TIMED_OUT),
            "temperature_c": pick(31.0, 91.0, rng.uniform(20, 100), Absent.NOT_SUPPORTED),
            "power_w": rng.uniform(0, 1500),
            "clock_hz": pick(1e9, rng.uniform(2e8, 4e9), Absent.FIRST_SAMPLE),
        }
        health = replace(base.health, state=rng.choice(list(HealthState)), reasons=("a reason",) * rng.randrange(3))
        name = rng.choice([base.device.name, "加速器 XL-9", "x" * 60])
        device = replace(base.device, name=name)
        devices.append(replace(base, device=device, readings=dict(base.readings) | changes, health=health))
    at = mixed_snapshot(number)
    return replace(at, devices=tuple(devices), ranking=ranking() if rng.random() < 0.8 else None)


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (45, 14)])
async def test_incremental_updates_show_what_a_fresh_drawing_shows(size: tuple[int, int]) -> None:
    rng = random.Random(3)
    app = MirroredApp(size)
    async with app.run_test(size=size) as pilot:
        await shown(pilot, "gpu0")
        for number in range(2, 25):
            app._publish(Feed(random_snapshot(rng, number), problem="gone" if rng.random() < 0.1 else ""))
            if rng.random() < 0.3:
                await pilot.press(rng.choice(["j", "k", "g", "G", "s", "tab"]))
            await app.settle(pilot)
            kept = app.cells()
            for widget in app.screen.query("*"):
                widget.refresh()
            await app.settle(pilot)
            differing = [
                (x, y, before, after)
                for y, (old, new) in enumerate(zip(kept, app.cells(), strict=True))
                for x, (before, after) in enumerate(zip(old, new, strict=True))
                if before != after
            ]
            assert differing == []


async def test_nothing_is_sent_when_nothing_changed() -> None:
    app = MirroredApp((80, 24))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await app.settle(pilot)
        before = app.bytes_fed
        app._publish(Feed(replace(mixed_snapshot(), sequence=2)))
        await app.settle(pilot)
        assert app.bytes_fed == before


async def test_one_changed_number_costs_a_few_bytes() -> None:
    app = MirroredApp((80, 24))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await app.settle(pilot)
        before = app.bytes_fed
        snapshot = mixed_snapshot()
        changed = replace(snapshot.devices[0], readings=dict(snapshot.devices[0].readings) | {"power_w": 299.0})
        app._publish(Feed(replace(snapshot, devices=(changed, *snapshot.devices[1:]))))
        await app.settle(pilot)
        assert 0 < app.bytes_fed - before < 80


async def test_a_hidden_screen_draws_nothing_and_catches_up() -> None:
    app = MirroredApp((80, 24))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, "gpu0")
        await pilot.press("question_mark")
        await shown(pilot, "Esc closes")
        app._publish(Feed(replace(mixed_snapshot(2), devices=(status(gpu(9), power=123.0),), ranking=None)))
        await pilot.press("escape")
        await shown(pilot, "gpu9")
        assert isinstance(app.screen, OverviewScreen)


spans = st.lists(
    st.builds(Span, st.text("ab 加é…", max_size=8), st.sampled_from(["text", "warm", "muted"])), max_size=6
).map(tuple)


@given(spans, st.integers(0, 40))
def test_a_sized_line_has_the_size(line: Line, width: int) -> None:
    assert line_width(sized(line, width)) == width


@given(spans, spans, st.integers(1, 40))
def test_everything_that_differs_lies_in_a_changed_run(one: Line, other: Line, width: int) -> None:
    old, new = sized(one, width), sized(other, width)
    runs = list(changed_runs(old, new))
    assert all(0 <= start < end <= width for start, end in runs)
    assert (not runs) == (old == new)
    outside = [x for x in range(width) if not any(start <= x < end for start, end in runs)]
    if plain(old).isascii() and plain(new).isascii():
        assert all(plain(old)[x] == plain(new)[x] for x in outside)


@given(st.text("ab 加é\u0301", max_size=30), st.integers(1, 20), st.booleans())
def test_fitted_text_has_the_width(text: str, width: int, right: bool) -> None:
    assert line_width((Span(fit(text, width, right=right)),)) == width


@given(st.lists(st.text("abc加", min_size=1, max_size=15), max_size=8), st.integers(2, 30))
def test_wrapping_keeps_every_letter_and_the_width(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width)
    assert "".join("".join(lines).split()) == "".join(words)
    assert all(line_width((Span(line),)) <= width for line in lines)


def test_neighbours_of_one_style_become_one() -> None:
    assert joined([Span("a"), Span(""), Span("b"), Span("c", "warm")]) == (Span("ab"), Span("c", "warm"))
