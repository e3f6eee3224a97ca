"""Events on the axis of the history's chart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from hwdash.core.event import Event
from hwdash.core.health import HealthState
from hwdash.tui import chart
from hwdash.tui.chart import Figure
from hwdash.tui.glyphs import ASCII, UNICODE, Glyphs
from hwdash.tui.line import Line, line_width, plain
from hwdash.tui.note import Note, note_of, placed
from tests.tui.occurrence import alert, health, past_events, reported
from tests.tui.past import busy_history, throttled
from tests.tui.sample import START


def drawn(*events: Event, height: int = 20, glyphs: Glyphs = UNICODE, suspected: bool = False) -> list[Line]:
    history = busy_history()
    if suspected:
        history = replace(history, throttled=(throttled(430, 255),))
    planned = chart.plan(history, history.series[0], Figure.TTFT, 80, height, UTC, events=events)
    assert planned is not None
    return list(chart.draw(planned, glyphs))


def test_what_is_marked() -> None:
    marks = [note_of(event) for event in past_events()]
    assert marks == [None, None, None, Note.ALERT, None, None, Note.STALE, Note.DEVICE, Note.LOST]


def test_one_mark_a_column_the_most_urgent() -> None:
    assert placed([(5, Note.STALE), (5, Note.LOST), (2, Note.ALERT)]) == ((2, Note.ALERT), (5, Note.LOST))


@pytest.mark.parametrize(("glyphs", "lost"), [(UNICODE, "×"), (ASCII, "x")])
def test_marks_stand_on_the_axis_and_are_explained(glyphs: Glyphs, lost: str) -> None:
    events = (
        health(450, 0, HealthState.OK, HealthState.LOST, "gone"),
        alert(200, 0),
        reported(100, "XID 13", 0),
        reported(50, "of another device", 3),
        reported(5000, "before the window", 0),
    )
    lines = [plain(line) for line in drawn(*events, glyphs=glyphs)]
    assert len(lines) == 20
    assert lines[-1].strip() == f"{lost} lost  * reported by the device  ! alert"
    axis = lines[-3]
    assert [axis.count(mark) for mark in (lost, "!", "*")] == [1, 1, 1]
    assert axis.index(lost) < axis.index("!") < axis.index("*")
    assert {line_width(line) for line in drawn(*events)[:-1]} == {80}


def test_a_low_chart_has_no_marks_and_one_without_events_no_legend() -> None:
    assert len(drawn(alert(200, 0), height=6)) == 6
    assert "alert" not in plain(drawn(alert(200, 0), height=6)[-1])
    assert "03:" in plain(drawn()[-1])


def test_a_suspected_period_looks_different() -> None:
    began = health(430, 0, HealthState.OK, HealthState.THROTTLED, "clock", suspected=True)
    top = plain(drawn(replace(began, at=began.at + timedelta(seconds=0.4)), suspected=True)[0])
    assert "suspected" in top
    assert "?" in top
    assert "▼" not in top
    assert "suspected" not in plain(drawn()[0])
    flagged = replace(throttled(430, None), suspected=True, end=START)
    history = replace(busy_history(), throttled=(flagged,))
    planned = chart.plan(history, history.series[0], Figure.TTFT, 80, 20, UTC)
    assert planned is not None
    assert planned.bands[0].suspected
