"""Rules over time: when they begin, when they end, what they say, and how often."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwdash.core.alert import AlertRule
from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.health import Health, HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.daemon.alert import AlertBook
from hwdash.sources.fake import fake_gpu

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HOT = AlertRule("too hot", "memory_temperature_c", above=95.0, for_s=30.0)
ALL = tuple(AlertAction)


def status(
    reading: Reading | None, index: int = 0, state: HealthState = HealthState.OK, reasons: tuple[str, ...] = ()
) -> DeviceStatus:
    readings = {} if reading is None else {"memory_temperature_c": reading}
    health = Health(state, reasons, START)
    return DeviceStatus(fake_gpu(index, id=f"gpu{index}"), readings, (), (), health, START, 0.1)


class Play:
    """A book and the time that goes by."""

    def __init__(self, *rules: AlertRule) -> None:
        self.book = AlertBook(rules)
        self.at_s = 1000.0
        self.events: list[tuple[float, Event]] = []

    def tick(self, *statuses: DeviceStatus, step_s: float = 10.0) -> tuple[Event, ...]:
        at = START + timedelta(seconds=self.at_s)
        events = self.book.advance(Snapshot(1, at, 1.0, statuses), self.at_s)
        self.events += [(self.at_s, event) for event in events]
        assert all(event.at == at for event in events)
        self.at_s += step_s
        return events

    def readings(self, *readings: Reading | None) -> list[str]:
        return [event.words for reading in readings for event in self.tick(status(reading))]


def test_a_rule_begins_and_ends_after_its_time() -> None:
    play = Play(HOT)
    assert play.readings(90.0, 96.0, 96.0, 97.0) == []
    (begun,) = play.tick(status(96.4))
    assert begun.words == "too hot: memory_temperature_c 96 °C above 95 °C for 30 s"
    assert (begun.kind, begun.severity, begun.rule, begun.active) == (
        EventKind.ALERT,
        Severity.WARNING,
        "too hot",
        True,
    )
    assert (begun.device, begun.key, begun.actions) == ("gpu0", fake_gpu(0).key, HOT.actions)
    assert play.readings(96.0, 94.0, 94.0, 96.0, 94.0, 94.0, 94.0) == []
    (ended,) = play.tick(status(93.0))
    assert ended.words == "too hot: ended after 1 min 20 s, now memory_temperature_c 93 °C"
    assert (ended.severity, ended.active, ended.actions) == (Severity.INFO, False, (AlertAction.LOG,))


def test_ticks_that_come_a_little_early_count() -> None:
    play = Play(HOT)
    assert [len(play.tick(status(96.0), step_s=9.99)) for _ in range(5)] == [0, 0, 0, 1, 0]


def test_a_break_begins_the_time_anew() -> None:
    assert Play(HOT).readings(96.0, 96.0, 96.0, 94.0, 96.0, 96.0, 96.0) == []


def test_the_bound_itself_is_neither_above_nor_below() -> None:
    assert Play(AlertRule("a", "memory_temperature_c", above=95.0)).readings(95.0) == []
    assert Play(AlertRule("b", "memory_temperature_c", below=95.0)).readings(95.0) == []
    assert Play(AlertRule("b", "memory_temperature_c", below=95.0)).readings(80.0) == [
        "b: memory_temperature_c 80 °C below 95 °C"
    ]


def test_numbers_that_would_look_the_same_are_told_in_full() -> None:
    assert Play(AlertRule("a", "memory_temperature_c", above=95.0)).readings(95.25) == [
        "a: memory_temperature_c 95.25 above 95.0"
    ]


def test_a_state_or_worse_with_its_reasons() -> None:
    play = Play(AlertRule("slow", state=HealthState.THROTTLED, severity=Severity.CRITICAL, actions=ALL))
    assert play.tick(status(1.0, state=HealthState.WARM)) == ()
    (begun,) = play.tick(status(1.0, state=HealthState.THROTTLED, reasons=("power cap: clock 1395 of 1980 MHz",)))
    assert begun.words == "slow: throttled: power cap: clock 1395 of 1980 MHz"
    assert (begun.severity, begun.actions) == (Severity.CRITICAL, ALL)
    assert play.tick(status(None, state=HealthState.LOST)) == ()
    (ended,) = play.tick(status(1.0))
    assert ended.words == "slow: ended after 20 s, now ok"
    assert ended.actions == (AlertAction.LOG, AlertAction.WEBHOOK)


@pytest.mark.parametrize("absent", [Absent.TIMED_OUT, None])
def test_what_is_not_known_neither_begins_nor_ends(absent: Reading | None) -> None:
    play = Play(HOT)
    assert play.readings(96.0, 96.0, absent, absent, absent, absent, 96.0) == []
    assert len(play.readings(96.0, 96.0)) == 1
    assert play.readings(90.0, 90.0, absent, absent, absent, absent, 90.0) == []
    assert len(play.readings(90.0, 90.0)) == 1


def test_an_old_reading_is_not_known() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0))
    assert play.tick(status(99.0, state=HealthState.STALE)) == ()
    assert len(play.tick(status(99.0))) == 1
    assert play.tick(status(50.0, state=HealthState.STALE)) == ()


@pytest.mark.parametrize(
    ("state", "level"), [(HealthState.STALE, FaultLevel.STALLED), (HealthState.LOST, FaultLevel.FAILED)]
)
def test_a_device_that_failed_or_stalls_and_is_still_read_is_watched(state: HealthState, level: FaultLevel) -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0))
    faults = (Fault("status", "status is Malfunction", level),)
    assert len(play.tick(replace(status(99.0, state=state), faults=faults))) == 1
    assert len(play.tick(replace(status(50.0, state=state), faults=faults))) == 1


def test_it_is_said_once_when_a_rule_can_no_longer_be_judged() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0, actions=ALL))
    play.readings(99.0)
    assert play.readings(*[Absent.DEVICE_LOST] * 6) == []
    (said,) = play.tick(status(Absent.DEVICE_LOST))
    assert (
        said.words
        == "a: it cannot be told whether it still holds; memory_temperature_c is not known (device lost) for 1 min"
    )
    assert (said.active, said.actions) == (True, (AlertAction.LOG,))
    assert play.readings(*[Absent.DEVICE_LOST] * 20) == []
    assert play.readings(50.0) == ["a: ended after 4 min 40 s, now memory_temperature_c 50 °C"]


def test_a_device_that_is_gone_is_not_known_either() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0))
    play.readings(99.0)
    for _ in range(7):
        events = play.tick()
    assert [event.device for event in events] == ["gpu0"]
    assert "the device is not there for 1 min" in events[0].words
    assert play.tick(status(99.0)) == ()
    assert play.tick(status(9.0))[0].active is False


def test_a_rule_that_flaps_is_told_once_in_its_time() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0, every_s=100.0))
    words = play.readings(*[99.0, 90.0] * 7)
    assert words == [
        "a: memory_temperature_c 99 °C above 95 °C",
        "a: ended after 10 s, now memory_temperature_c 90 °C",
        "a: memory_temperature_c 99 °C above 95 °C; it held 4 times more in the 1 min 40 s before",
        "a: ended after 10 s, now memory_temperature_c 90 °C",
    ]


def test_a_spell_that_was_withheld_is_told_when_it_lasts() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0, every_s=100.0))
    play.readings(99.0, 90.0)
    assert play.readings(*[99.0] * 8) == []
    assert play.readings(99.0) == ["a: memory_temperature_c 99 °C above 95 °C for 1 min 20 s"]
    assert play.readings(99.0, 99.0, 90.0) == ["a: ended after 1 min 50 s, now memory_temperature_c 90 °C"]


def test_nothing_is_held_against_a_place_that_was_jumped_to() -> None:
    play = Play(HOT)
    play.tick(status(96.0), step_s=61.0)
    play.book.forget()
    assert play.readings(96.0, 96.0, 96.0) == []
    assert play.readings(96.0) == ["too hot: memory_temperature_c 96 °C above 95 °C for 30 s"]


def test_after_a_jump_nothing_ends_that_did_not_begin_and_it_is_told_anew() -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0, every_s=300.0))
    begun = ["a: memory_temperature_c 99 °C above 95 °C"]
    assert play.readings(99.0) == begun
    play.book.forget()
    assert play.readings(50.0) == []
    assert play.readings(99.0) == begun


def test_rules_are_for_the_devices_that_they_name() -> None:
    for pattern, hit in (("gpu1", ["gpu1"]), ("fake:gpu-[02]", ["gpu0", "gpu2"]), ("gpu*", ["gpu0", "gpu1", "gpu2"])):
        play = Play(AlertRule("a", "memory_temperature_c", above=95.0, devices=("nothing", pattern)))
        assert [event.device for event in play.tick(*(status(99.0, index) for index in range(3)))] == hit


SEEN = st.tuples(st.sampled_from([True, False, None]), st.floats(0.1, 40.0))


@example(
    [(True, 5.0), (True, 1.0), (False, 5.0), (False, 1.0), (True, 13.0), (True, 40.0), (False, 40.0), (True, 1.0)],
    5.0,
    100.0,
)
@given(st.lists(SEEN, max_size=60), st.sampled_from([0.0, 5.0, 60.0]), st.sampled_from([0.0, 100.0]))
def test_any_course_of_things(course: list[tuple[bool | None, float]], for_s: float, every_s: float) -> None:
    play = Play(AlertRule("a", "memory_temperature_c", above=95.0, for_s=for_s, every_s=every_s))
    seen: list[tuple[float, bool | None]] = []
    for holds, step_s in course:
        seen.append((play.at_s, holds))
        reading: Reading = Absent.ERROR if holds is None else 99.0 if holds else 90.0
        assert len(play.tick(status(reading), step_s=step_s)) <= 1
    told = [(at_s, event.active) for at_s, event in play.events if "cannot be told" not in event.words]
    assert [active for _, active in told] == list(itertools.islice(itertools.cycle([True, False]), len(told)))
    begun = [at_s for at_s, active in told if active]
    assert all(later - earlier >= every_s for earlier, later in itertools.pairwise(begun))
    for at_s, active in told:
        assert unbroken(seen, at_s, holds=bool(active)) >= for_s - 0.051
    if not for_s and not every_s:
        known = [(at_s, holds) for at_s, holds in seen if holds is not None]
        assert told == [now for before, now in itertools.pairwise([(0.0, False), *known]) if before[1] is not now[1]]


def unbroken(seen: Iterable[tuple[float, bool | None]], until_s: float, *, holds: bool) -> float:
    """For how long the condition was *holds* up to *until_s*, without the time in which it was not known."""
    past = [(at_s, state) for at_s, state in seen if at_s <= until_s]
    assert past[-1][1] is holds
    total = 0.0
    for (before_s, before), (after_s, _) in reversed(list(itertools.pairwise(past))):
        if before is (not holds):
            break
        total += after_s - before_s if before is not None else 0.0
    return total


@given(st.lists(st.sampled_from([None, 90.0, 99.0]), min_size=20, max_size=60))
def test_devices_do_not_disturb_each_other(readings: list[float | None]) -> None:
    rule = AlertRule("a", "memory_temperature_c", above=95.0, for_s=15.0, every_s=0.0)
    alone, together = Play(rule), Play(rule)
    other = itertools.cycle([99.0, 90.0, None])
    for reading in readings:
        alone.tick(status(reading))
        together.tick(status(next(other), 1), status(reading))
    assert alone.events == [(at_s, event) for at_s, event in together.events if event.device == "gpu0"]
