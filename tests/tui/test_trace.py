"""The traces of the last minutes, and bars: what they show of numbers at and beyond their edges."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.health import Health, HealthState
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.tui.cell import bar
from hwdash.tui.glyphs import UNICODE
from hwdash.tui.line import plain
from hwdash.tui.trace import TraceHistory, TracePoint, draw_trace
from tests.tui.sample import START, gpu, lost, snapshot_of, status


def test_a_number_far_beyond_the_edge_is_drawn_at_the_edge() -> None:
    assert draw_trace((1e308, 1e308), 0.0, 1.0, 3, UNICODE) == draw_trace((1.0, 1.0), 0.0, 1.0, 3, UNICODE)
    assert draw_trace((-1e308, None), 0.0, 1.0, 3, UNICODE) == draw_trace((0.0, None), 0.0, 1.0, 3, UNICODE)
    assert bar(1e308, 10, "bar", UNICODE) == bar(1.0, 10, "bar", UNICODE)
    assert plain(bar(-1e308, 10, "bar", UNICODE)) == plain(bar(0.0, 10, "bar", UNICODE))


def point(*found: DeviceStatus) -> TracePoint:
    """The point of one step in which the rows *found* were seen."""
    traces = TraceHistory()
    for row in found:
        traces.add(snapshot_of(row))
    newest = next(item for item in reversed(traces.window(gpu(0).key, 1)) if item is not None)
    assert newest.step == int(START.timestamp() / traces.step_s)
    return newest


def with_health(state: HealthState, *throttle: ThrottleReason, suspected: bool = False) -> DeviceStatus:
    activities = tuple(ThrottleActivity(reason, True) for reason in throttle)
    return replace(status(gpu(0), throttle=activities), health=Health(state, (), START, suspected))


def test_clocks_kept_in_step_are_not_throttling() -> None:
    assert not point(with_health(HealthState.OK, ThrottleReason.SYNC_BOOST)).throttled
    assert point(with_health(HealthState.THROTTLED, ThrottleReason.POWER_CAP)).throttled


def test_a_flag_in_the_same_step_ends_the_doubt() -> None:
    doubt = with_health(HealthState.THROTTLED, suspected=True)
    flag = with_health(HealthState.THROTTLED, ThrottleReason.POWER_CAP)
    assert (point(doubt).throttled, point(doubt).suspected) == (True, True)
    for rows in ((doubt, flag), (flag, doubt)):
        assert (point(*rows).throttled, point(*rows).suspected) == (True, False)


def test_a_failed_device_that_is_still_read_is_drawn_and_a_silent_one_is_not() -> None:
    failed = replace(with_health(HealthState.LOST), faults=(Fault("reset", "reset it", FaultLevel.FAILED),))
    assert point(failed).values == point(status(gpu(0))).values
    assert set(point(with_health(HealthState.STALE)).values) == {None}
    assert set(point(status(gpu(0)), lost(gpu(0))).values) == {None}
