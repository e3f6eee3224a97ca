"""The latency chart: every bucket visible, gaps kept, bands where they belong, any size and any value."""

from __future__ import annotations

import itertools
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.color import Color

from hwdash.core.history import LatencyHistory
from hwdash.tui.axis import latency_scale, time_marks
from hwdash.tui.chart import Figure, Plan, draw, plan, symbols
from hwdash.tui.glyphs import ASCII, UNICODE, Glyphs
from hwdash.tui.line import Line, line_width, plain
from hwdash.tui.palette import ON_BAND, resolve
from hwdash.tui.summary import throttled_share
from hwdash.tui.window import WINDOWS
from tests.tui.past import bucket, busy_history, history, series, throttled
from tests.tui.sample import START, gpu

GLYPHS = pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])


def planned(found: LatencyHistory, width: int = 80, height: int = 20, number: int = 0) -> Plan:
    result = plan(found, found.series[number], Figure.TTFT, width, height, UTC)
    assert result is not None
    return result


def canvas(lines: tuple[Line, ...], chart: Plan) -> list[str]:
    """The rows of the canvas alone."""
    above = len(lines) - chart.rows - 2
    left = chart.width - 4 - chart.columns
    return [plain(line)[left : left + chart.columns] for line in lines[above : above + chart.rows]]


@GLYPHS
def test_a_lone_bucket_is_a_point(glyphs: Glyphs) -> None:
    chart = planned(history(series([bucket(450, 0.05)])))
    rows = canvas(draw(chart, glyphs), chart)
    text = "".join(rows)
    assert all(text.count(symbol) == 1 for symbol in symbols(glyphs))
    assert len(text.strip()) > 0
    assert {row.find(symbols(glyphs)[0]) for row in rows} - {-1} == {round(chart.runs[0][0].column)}


@GLYPHS
def test_gaps_stay_gaps(glyphs: Glyphs) -> None:
    chart = planned(history(series([bucket(at, 0.05) for at in (885, 870, 855, 60, 45, 30)])))
    assert [len(run) for run in chart.runs] == [3, 3]
    first, second = round(chart.runs[0][-1].column), round(chart.runs[1][0].column)
    for row in canvas(draw(chart, glyphs), chart):
        assert not row[first + 1 : second - 1].strip()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 58), st.floats(1e-6, 1e4)), min_size=1, max_size=40, unique_by=lambda pair: pair[0]
    ),
    st.integers(24, 160),
    st.integers(4, 40),
)
def test_every_bucket_with_data_is_visible(data: list[tuple[int, float]], width: int, height: int) -> None:
    buckets = [bucket(885 - 15 * number, value) for number, value in sorted(data)]
    chart = plan(found := history(series(buckets)), found.series[0], Figure.TTFT, width, height, UTC)
    if chart is None:
        return
    rows = canvas(draw(chart, UNICODE), chart)
    for run in chart.runs:
        for point in run:
            column = round(point.column)
            near = {max(column - 1, 0), column, min(column + 1, chart.columns - 1)}
            assert any(row[place] != " " for row in rows for place in near)


@settings(deadline=None, max_examples=40)
@given(st.floats(1, 900), st.floats(0, 900), st.integers(30, 200))
def test_bands_cover_their_columns(start: float, end: float, width: int) -> None:
    start, end = max(start, end), min(start, end)
    chart = planned(history(series([bucket(450, 0.05)]), periods=(throttled(start, end, "power_cap"),)), width)
    (band,) = chart.bands
    assert 0 <= band.start < band.end <= chart.columns
    assert band.start == pytest.approx((900 - start) / 900 * chart.columns, abs=1.01)
    assert band.end == pytest.approx((900 - end) / 900 * chart.columns, abs=1.01)
    left = chart.width - 4 - chart.columns
    for line in draw(chart, UNICODE)[1 : 1 + chart.rows]:
        cells = [style for text, style in line for _ in text][left : left + chart.columns]
        assert {column for column, style in enumerate(cells) if style.endswith(ON_BAND)} == set(
            range(band.start, band.end)
        )


@GLYPHS
def test_bands_are_marked_in_words_too(glyphs: Glyphs) -> None:
    chart = planned(busy_history(), 100)
    top = plain(draw(chart, glyphs)[0])
    assert "throttled: power cap" in top
    assert top.count(glyphs.down) >= 4


def test_another_devices_throttling_is_not_shown() -> None:
    assert [band.words for band in planned(busy_history()).bands] == ["power cap"]
    assert [band.words for band in planned(busy_history(), number=1).bands] == ["thermal slowdown"]


@pytest.mark.parametrize(
    "values", [(0.05,), (0.05, 0.05, 0.05), (0.0, 0.0), (1e12, 3.0), (1e-9,), (float("inf"), 0.2)], ids=str
)
@pytest.mark.parametrize("size", [(20, 3), (24, 4), (36, 6), (80, 20), (300, 78), (1, 1), (9, 30)], ids=str)
@GLYPHS
def test_any_value_at_any_size(
    values: tuple[float, ...], size: tuple[int, int], glyphs: Glyphs, capfd: pytest.CaptureFixture[str]
) -> None:
    found = history(series([bucket(600 - 15 * number, value) for number, value in enumerate(values)]))
    chart = plan(found, found.series[0], Figure.TTFT, *size, UTC)
    if chart is not None:
        lines = draw(chart, glyphs)
        assert len(lines) <= size[1]
        assert {line_width(line) for line in lines} == {size[0]}
        if glyphs.ascii:
            assert all(plain(line).isascii() for line in lines)
    assert capfd.readouterr().out == ""


def test_nothing_to_draw() -> None:
    empty = history()
    assert plan(empty, None, Figure.TTFT, 80, 20) is None
    errors = history(series([bucket(60, None, errors=3)]))
    assert plan(errors, errors.series[0], Figure.TTFT, 80, 20) is None


def test_equal_data_give_equal_plans() -> None:
    assert planned(busy_history()) == planned(busy_history())


@given(st.floats(1e-9, 1e9), st.integers(1, 60))
def test_the_scale_holds_the_largest_value(largest: float, rows: int) -> None:
    scale = latency_scale(largest, rows)
    assert scale.top >= largest * (1 - 1e-9)
    assert scale.marks[0].at == 0
    assert len({len(mark.label) for mark in scale.marks}) == 1
    assert len(scale.marks) <= max(3, rows // 3 + 2)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.title)
@pytest.mark.parametrize("columns", [10, 30, 70, 150])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Europe/Berlin"])
def test_time_marks_are_round_and_apart(window: tuple[float, str], columns: int, zone: str) -> None:
    marks = time_marks(START - timedelta(seconds=window[0]), START, columns, ZoneInfo(zone))
    places = [mark.at * columns for mark in marks]
    assert all(0 <= mark.at <= 1 for mark in marks)
    assert all(later - earlier >= 6 for earlier, later in itertools.pairwise(places))
    assert all(mark.label.count(":") == 1 or mark.label[:3].isalpha() for mark in marks)


def test_overlapping_periods_count_once() -> None:
    periods = [throttled(90, 40, "power_cap"), throttled(60, 10, "thermal_sw"), throttled(50, None, "x", device=3)]
    share = throttled_share(periods, gpu(0).key, START - timedelta(seconds=100), START)
    assert share == pytest.approx(0.8)


def test_a_band_has_another_ground_but_on_terminal_colours() -> None:
    rich = dict.fromkeys(("hw-text", "hw-cursor"), "#ffffff") | {"hw-chart-band": "#ff0000"}
    dark = Color.parse("#000000")
    assert resolve("text" + ON_BAND, rich, dark).bgcolor != resolve("text", rich, dark).bgcolor
    plain_colours = dict.fromkeys(("hw-text", "hw-cursor", "hw-chart-band"), "ansi_red")
    ground = Color.parse("ansi_default")
    assert resolve("text" + ON_BAND, plain_colours, ground).bgcolor == resolve("text", plain_colours, ground).bgcolor
