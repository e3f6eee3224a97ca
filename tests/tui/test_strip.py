"""Clock and probes below the latency chart, on its axis of time; probes among the facts of a device."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hwdash.core.history import MetricBucket, MetricHistory, MetricSeries
from hwdash.core.probe import ProbeOutcome
from hwdash.tui import chart
from hwdash.tui.chart import Figure, Plan
from hwdash.tui.glyphs import ASCII, UNICODE
from hwdash.tui.line import line_width, plain
from hwdash.tui.row import Row
from hwdash.tui.strip import clock_rows, probe_row
from hwdash.tui.uptime import up_text, uptime_facts
from tests.tui.measured import probe, uptime
from tests.tui.past import busy_history, throttled
from tests.tui.sample import START, gpu, mixed_snapshot
from tests.tui.screen_text import shown, text, until
from tests.tui.test_history import opened


def clock(device: int = 0) -> MetricHistory:
    """15 minutes, slower while `busy_history` throttled (430 s to 255 s before the end), with a gap at the beginning."""
    buckets = tuple(
        MetricBucket(START - timedelta(seconds=at), 15, 0.0, 1.4e9 if 255 < at <= 430 else 1.95e9, 0.0)
        for at in range(825, 0, -15)
    )
    series = MetricSeries(f"gpu{device}", gpu(device).key, buckets)
    return MetricHistory("clock_hz", START - timedelta(seconds=900), START, 15.0, (series,))


def planned(width: int = 100, height: int = 16) -> Plan:
    found = busy_history()
    made = chart.plan(found, found.series[0], Figure.ITL, width, height)
    assert made is not None
    return made


def test_the_clock_falls_in_the_columns_in_which_it_throttled() -> None:
    made = planned()
    lines = clock_rows(made, clock(), gpu(0).key, 2, UNICODE)
    left, right = chart.margins(made)
    top, bottom = (plain(line) for line in lines)
    assert top.startswith("2000".rjust(left - 1))
    assert bottom.startswith("1300".rjust(left - 1))
    assert "MHz" in top
    canvas = top[left : left + made.columns]
    (band,) = made.bands
    assert set(canvas[band.start + 1 : band.end - 1]) == {" "}
    assert " " not in canvas[band.end + 1 : -1]
    gap = made.columns * 60 // 900
    assert canvas[:gap].strip() == ""
    assert all(line_width(line) == made.width for line in lines)
    assert right > 0


def test_the_clock_of_another_device_is_not_shown() -> None:
    assert clock_rows(planned(), clock(3), gpu(0).key, 2, UNICODE) == []


def test_the_worst_probe_of_a_column_is_its_mark() -> None:
    made = planned(60)
    since = START - timedelta(seconds=900)
    probes = [
        probe(14.9),
        probe(7.5),
        probe(7.45, ProbeOutcome.FAILED),
        probe(7.4),
        probe(1.0, ProbeOutcome.WRONG),
        probe(600.0, ProbeOutcome.FAILED),
    ]
    (line,) = probe_row(made, probes, since, START, ASCII)
    left, _ = chart.margins(made)
    canvas = plain(line)[left : left + made.columns]
    assert canvas.split() == ["-", "x", "?"]
    assert canvas.index("x") == int(made.columns * 453 / 900)
    assert line_width(line) == made.width
    assert probe_row(made, probes[-1:], since, START, ASCII) == []


async def test_latency_and_clock_stand_on_one_axis() -> None:
    async with opened(busy_history(), (100, 30)) as (pilot, client, _):
        client.past_metrics = clock().series
        client.past_uptime = replace(uptime(), since=START - timedelta(seconds=900))
        await pilot.press("m", "left", "right")
        await until(pilot, lambda: ("clock_hz", 900, None) in client.metric_calls)
        await shown(pilot, "MHz")
        lines = text(pilot.app).splitlines()
        clock_line = next(line for line in lines if line.rstrip().endswith("MHz"))
        probes = next(line for line in lines if " probe " in f" {line}")
        marks = next(line for line in lines if "▼" in line)
        first, last = marks.index("▼"), marks.rindex("▼")
        assert clock_line[first + 1 : last - 1].strip() == ""
        assert "×" in probes
        assert "?" in probes


async def test_a_small_terminal_keeps_its_chart() -> None:
    async with opened(busy_history(), (60, 14)) as (pilot, client, _):
        client.past_metrics = clock().series
        await pilot.press("m", "left", "right")
        await shown(pilot, "p99")
        await until(pilot, lambda: len(client.metric_calls) > 1)
        await pilot.pause()
        assert "MHz" not in text(pilot.app)


def test_uptime_among_the_facts_of_a_device() -> None:
    status = mixed_snapshot().find("gpu0")
    facts = list(uptime_facts(uptime(), Row(status).key, UNICODE))
    assert facts[0].words.endswith("UP 99.86% of 24 h, newest ok, first token 21.0 ms, 7% slower than usual")
    assert facts[1].words == "·······×··?····"
    assert list(uptime_facts(uptime(), gpu(1).key, UNICODE)) == []
    assert list(uptime_facts(None, gpu(0).key, UNICODE)) == []


def test_a_failed_probe_says_why_and_is_no_full_uptime() -> None:
    (found,) = uptime().uptimes
    failed = replace(found, last=probe(0, ProbeOutcome.FAILED, "the worker died \x1b[2J"))
    facts = list(uptime_facts(replace(uptime(), uptimes=(failed,)), gpu(0).key, ASCII))
    assert "newest failed" in facts[0].words
    assert facts[-1].words.startswith("the worker died")
    assert "\x1b" not in facts[-1].words
    nearly = replace(found, windows=tuple(replace(item, up_ratio=0.99999) for item in found.windows))
    assert up_text(nearly) == "UP 99.99% of 24 h"
    half = replace(found, windows=tuple(replace(item, up_ratio=57 / 100) for item in found.windows))
    assert up_text(half) == "UP 57% of 24 h"
    assert up_text(nearly, 7200.0) == ""


async def test_the_detail_tells_of_probes() -> None:
    async with opened(busy_history(), (160, 48), interval_s=0.05) as (pilot, client, _):
        client.past_uptime = uptime()
        app = pilot.app
        app._ask_status()  # type: ignore[attr-defined]
        await pilot.press("1", "g")
        app.screen.select(gpu(0).key)  # type: ignore[attr-defined]
        await shown(pilot, "UP 99.86% of 24 h")


def test_a_period_is_only_known_as_such() -> None:
    """The bands that the strips take over are those of the device of the chart."""
    found = replace(busy_history(), throttled=(throttled(430, 255, "power_cap", device=3),))
    made = chart.plan(found, found.series[0], Figure.ITL, 100, 16)
    assert made is not None
    assert all("%" not in span.style for line in clock_rows(made, clock(), gpu(0).key, 2, UNICODE) for span in line)
