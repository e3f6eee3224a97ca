"""Columns, cells, rows and traces as pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Limits
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent
from hwdash.core.snapshot import Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.tui import cell
from hwdash.tui.column import heading, plan, row_line
from hwdash.tui.fact import fact_lines, facts
from hwdash.tui.glyphs import ASCII, UNICODE, choose_glyphs
from hwdash.tui.line import line_width, plain
from hwdash.tui.row import Row, SortOrder, rows_of, state_words
from hwdash.tui.trace import TraceHistory, ceiling, draw_trace
from tests.tui.sample import START, gpu, lost, mixed_snapshot, snapshot_of, status

ROWS = rows_of(mixed_snapshot())


def test_the_columns_never_pass_the_width() -> None:
    for width in range(1, 320):
        columns, gap = plan(width, ROWS)
        total = sum(column.width for column in columns) + gap * max(0, len(columns) - 1)
        assert total <= width
        assert line_width(heading(columns, gap, SortOrder.RANK, UNICODE)) == total
        row = ROWS[width % len(ROWS)]
        assert line_width(row_line(row, columns, gap, UNICODE, old=False)) == total


def test_a_wider_table_never_loses_a_column() -> None:
    before: set[str] = set()
    for width in range(1, 320):
        names = {column.name for column in plan(width, ROWS)[0]}
        assert before <= names
        before = names
    assert before >= {
        "rank",
        "id",
        "name",
        "util",
        "memory",
        "temp",
        "left",
        "power",
        "clock",
        "state",
        "speed",
        "ttft",
    }


def test_power_has_room_for_kilowatts() -> None:
    device = replace(gpu(0), limits=Limits(power_w=1400.0))
    row = Row(status(device, power=1387.0))
    columns, gap = plan(79, (row,))
    assert "1387/1400" in plain(row_line(row, columns, gap, UNICODE, old=False))


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_has_its_width_and_grows_with_its_share(share: float, width: int) -> None:
    drawn = cell.bar(share, width, "bar", UNICODE)
    assert line_width(drawn) == width
    assert abs(len(drawn[0].text) - share * width) <= 1
    assert bool(drawn[0].text) == (share > 0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (HealthState.OK, "ok"),
        (HealthState.STALE, "stale 12 s"),
        (HealthState.LOST, "LOST"),
        (HealthState.WARM, "warm 35 °C left"),
    ],
)
def test_states_in_words(state: HealthState, words: str) -> None:
    assert state_words(Row(status(gpu(0), state=state, age_s=12.0))) == words


def test_throttling_names_the_longest_reason_and_counts_the_rest() -> None:
    throttle = (
        ThrottleActivity(ThrottleReason.THERMAL_HW, True, 0.2),
        ThrottleActivity(ThrottleReason.POWER_CAP, True, 0.9),
    )
    row = Row(status(gpu(0), state=HealthState.THROTTLED, throttle=throttle))
    assert state_words(row) == "THROTTLED power cap +1"
    assert state_words(row, short=True) == "THROTTLED power +1"
    assert state_words(Row(status(gpu(0), state=HealthState.THROTTLED))) == "THROTTLED"


def test_an_excluded_device_in_good_health_says_so() -> None:
    assert state_words(Row(status(gpu(0)), excluded=True)) == "ok, excluded"


@pytest.mark.parametrize("order", SortOrder)
def test_every_order_keeps_every_device(order: SortOrder) -> None:
    assert {row.key for row in rows_of(mixed_snapshot(), order)} == {row.key for row in ROWS}


def test_devices_without_a_number_come_last() -> None:
    rows = rows_of(mixed_snapshot(), SortOrder.TEMPERATURE)
    assert rows[0].status.device.id == "gpu4"
    assert {row.status.device.id for row in rows[-2:]} == {"gpu6", "cpu0"}


def test_without_a_ranking_the_devices_stand_in_their_own_order() -> None:
    rows = rows_of(replace(mixed_snapshot(), ranking=None))
    assert [row.status.device.id for row in rows] == [item.device.id for item in mixed_snapshot().devices]
    assert all(row.rank is None and not row.excluded for row in rows)


def test_the_facts_tell_what_is_absent_and_why() -> None:
    words = [fact.words for fact in facts(Row(lost(gpu(6))))]
    assert any("temperature" in line and line.endswith("device lost") for line in words)


@given(st.integers(1, 120))
def test_fact_lines_keep_the_width_from_20_on(width: int) -> None:
    for row in ROWS:
        assert all(line_width(line) <= max(width, 20) for line in fact_lines(row, width, UNICODE))


def test_a_trace_is_fixed_to_its_range_and_shows_gaps() -> None:
    assert draw_trace((1.0, 1.0, 0.5, 0.5, None, None, 0.0, 0.0), 0.0, 1.0, 1, UNICODE) == ["⣿⣤ ⣀"]
    assert draw_trace((1.0, 1.0, 0.5, 0.5, None, None, 0.0, 0.0), 0.0, 1.0, 1, ASCII) == ["#= ."]
    assert draw_trace((9.0, -9.0), 0.0, 1.0, 2, UNICODE) == ["⡇", "⣇"]


@given(st.lists(st.one_of(st.none(), st.floats(-10, 200)), max_size=40), st.integers(1, 9))
def test_a_trace_has_its_size(values: list[float | None], rows: int) -> None:
    values = values[: len(values) // 2 * 2]
    for glyphs in (UNICODE, ASCII):
        drawn = draw_trace(tuple(values), 0.0, 100.0, rows, glyphs)
        assert [len(line) for line in drawn] == [len(values) // 2] * rows


def at(second: float, utilization: float | Absent = 0.5, **more: object) -> Snapshot:
    snapshot = snapshot_of(status(gpu(0), utilization=utilization, **more))  # type: ignore[arg-type]
    return replace(snapshot, taken_at=START + timedelta(seconds=second))


def test_the_history_stands_right_and_keeps_gaps() -> None:
    history = TraceHistory()
    for second, value in ((0, 0.1), (2, 0.2), (8, 0.5)):
        history.add(at(second, value))
    points = history.window(gpu(0).key, 4)
    values = [None if point is None else point.values[0] for point in points]
    assert len(values) == 8
    assert [value for value in values if value is not None] == [0.1, 0.2, 0.5]
    first = values.index(0.1)
    assert values[first : first + 5] == [0.1, 0.2, None, None, 0.5]
    assert history.window("nobody", 3) == (None,) * 6


def test_a_stale_device_leaves_a_gap_and_throttling_is_kept_within_a_step() -> None:
    history = TraceHistory()
    history.add(at(0, state=HealthState.THROTTLED))
    history.add(at(1))
    history.add(at(2, state=HealthState.STALE))
    points = [point for point in history.window(gpu(0).key, 4) if point is not None]
    assert any(point.throttled for point in points)
    assert points[-1].values == (None,) * 4


def test_a_replay_that_goes_back_leaves_no_future() -> None:
    history = TraceHistory()
    for second, value in ((0, 0.1), (60, 0.9), (10, 0.3)):
        history.add(at(second, value))
    values = [point.values[0] for point in history.window(gpu(0).key, 60) if point is not None]
    assert values == [0.1, 0.3]


def test_a_slower_interval_widens_the_steps() -> None:
    history = TraceHistory()
    history.add(replace(at(0), interval_s=30.0))
    history.add(replace(at(30), interval_s=30.0))
    assert history.step_s == 30.0
    assert [point is not None for point in history.window(gpu(0).key, 2)][-3:].count(True) == 2


@given(st.floats(0.001, 1e12))
def test_a_ceiling_lies_above_its_values_and_near(value: float) -> None:
    assert value <= ceiling([value, None]) <= max(1.0, 2.5 * value)


@pytest.mark.parametrize(
    ("asked", "encoding", "term", "is_ascii"),
    [
        (False, "UTF-8", "xterm-256color", False),
        (True, "UTF-8", "xterm-256color", True),
        (False, "ANSI_X3.4-1968", "xterm-256color", True),
        (False, "utf8", "linux", True),
        (False, "no-such", "xterm", True),
    ],
)
def test_the_glyphs_fit_the_terminal(asked: bool, encoding: str, term: str, is_ascii: bool) -> None:
    assert choose_glyphs(asked, encoding, {"TERM": term}).ascii is is_ascii


@given(st.text(max_size=30))
def test_ascii_text_is_ascii_and_as_long(text: str) -> None:
    assert ASCII.text(text).isascii()
    assert len(ASCII.text(text)) == len(text)
