"""The log, the filter and the announcements of events, without a screen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.replay import ReplayState
from hwdash.core.snapshot import Snapshot
from hwdash.tui.announcer import CALM_S, MOST, MOST_LOW, Announcer
from hwdash.tui.event_filter import EventFilter
from hwdash.tui.event_log import EventLog
from tests.tui.occurrence import alert, past_events, reported
from tests.tui.sample import START, gpu, mixed_snapshot


def told(number: int, words: str = "XID 79", ago_s: float = 0.0) -> Event:
    return reported(ago_s, words, number=number)


def test_an_event_of_the_stream_is_taken_once_however_often_it_is_told() -> None:
    log = EventLog()
    assert [event.number for event in log.add([told(1), told(2, "b")])] == [1, 2]
    version = log.version
    assert log.add([told(1), told(2, "b")]) == ()
    assert log.version == version
    assert [event.number for event in log.add([told(2, "b"), told(3, "b")])] == [3]
    assert len(log.events) == 3


def test_history_and_stream_meet_in_one_event() -> None:
    log = EventLog()
    log.add([told(7)])
    assert log.add([told(0)]) == ()
    assert len(log.events) == 1
    log.add([told(0, "older", 60)])
    assert [event.number for event in log.add([told(6, "older", 60)])] == [6], "news, though history told it first"
    assert [event.words for event in log.events] == ["older", "XID 79"]


def test_numbers_begin_anew_with_another_daemon() -> None:
    log = EventLog()
    log.add([told(1, ago_s=60)])
    assert len(log.add([told(1)])) == 1


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.integers(0, 500)), max_size=80))
def test_the_log_is_bounded_sorted_and_without_copies_of_history(items: list[tuple[int, str, int]]) -> None:
    log = EventLog(limit=20)
    for number, words, ago in items:
        log.add([told(number, words, ago)])
        log.add([told(number, words, ago)])
    times = [event.at for event in log.events]
    assert times == sorted(times)
    assert len(times) <= 20
    past = [(event.at, event.words) for event in log.events if event.number == 0]
    assert len(past) == len(set(past))


def test_a_replay_that_goes_back_forgets_the_future() -> None:
    log = EventLog()
    log.add([told(1, ago_s=60), told(2)])
    log.forget_after(START - timedelta(seconds=30))
    assert [event.number for event in log.events] == [1]
    assert len(log.add([told(2)])) == 1


def test_the_filter() -> None:
    everything = past_events()
    assert EventFilter().is_open
    assert all(EventFilter().passes(event) for event in everything)
    kind = EventFilter().with_next_kind()
    assert kind.kind is EventKind.HEALTH
    alerts = kind.with_next_kind().with_next_kind()
    assert {event.rule for event in everything if alerts.passes(event)} == {"hot-memory"}
    assert alerts.with_next_kind() == EventFilter()
    critical = EventFilter().with_next_severity().with_next_severity()
    assert {event.severity for event in everything if critical.passes(event)} == {Severity.CRITICAL}
    assert critical.with_next_severity() == EventFilter()
    assert sum(EventFilter(text="xid 79").passes(event) for event in everything) == 1
    assert {event.device for event in everything if EventFilter(device=gpu(3).key).passes(event)} == {"gpu3"}
    assert EventFilter(gpu(3).key, EventKind.ALERT, Severity.WARNING, "x").words("gpu3") == (
        "device gpu3, kind alert, warnings and worse, with “x”"
    )


def with_events(*events: Event, sequence: int = 1) -> Snapshot:
    return replace(mixed_snapshot(sequence), events=events)


def test_nothing_is_announced_of_what_was_before() -> None:
    announcer = Announcer(EventLog())
    first = announcer.take(with_events(alert(5, number=1)), 0.0, looking=False)
    assert not first.toasts
    assert not first.rings
    again = announcer.take(with_events(alert(5, number=1)), 1.0, looking=False)
    assert not again.toasts
    assert announcer.unseen == 0


def test_an_alert_toasts_and_rings_once_and_a_health_change_only_counts() -> None:
    announcer = Announcer(EventLog())
    announcer.take(with_events(), 0.0, looking=False)
    news = with_events(alert(1, number=1), past_events()[-1])
    news = replace(news, events=(news.events[0], replace(news.events[1], number=2)))
    announced = announcer.take(news, 1.0, looking=False)
    assert [(toast.title, toast.level) for toast in announced.toasts] == [("gpu2  hot-memory", "warning")]
    assert announced.rings
    assert announcer.unseen == 2
    assert announcer.take(news, 2.0, looking=False).toasts == ()
    ended = announcer.take(with_events(alert(0, active=False, number=3)), 3.0, looking=False)
    assert [toast.level for toast in ended.toasts] == ["information"]
    assert not ended.rings
    assert announcer.unseen == 2


def test_a_storm_is_a_few_toasts_and_counts() -> None:
    announcer = Announcer(EventLog())
    announcer.take(with_events(), 0.0, looking=False)
    storm = [replace(alert(0, number=number), words=f"alert {number}") for number in range(1, 101)]
    first = announcer.take(with_events(*storm[:50]), 1.0, looking=True)
    assert len(first.toasts) == MOST
    assert first.toasts[-1].words == "47 more events: press 4"
    later = [announcer.take(with_events(*storm[: 50 + 10 * step]), 1.0 + step, looking=True) for step in range(1, 5)]
    assert [len(item.toasts) for item in later] == [0, 0, 0, 0]
    calm = announcer.take(with_events(), 1.0 + CALM_S, looking=True)
    assert [toast.words for toast in calm.toasts] == ["40 more events: press 4"]
    assert announcer.unseen == 0


def test_a_low_terminal_has_room_for_two_toasts() -> None:
    announcer = Announcer(EventLog())
    announcer.take(with_events(), 0.0, looking=False)
    news = [alert(0, number=number) for number in range(1, 7)]
    two = announcer.take(with_events(*news[:2]), 1.0, looking=True, most=MOST_LOW)
    assert [toast.words for toast in two.toasts] == ["memory temperature 97 °C, above 95 °C for 30 s"] * 2
    assert not announcer.take(with_events(*news[:3]), 2.0, looking=True, most=MOST_LOW).toasts
    later = announcer.take(with_events(*news), 1.0 + CALM_S, looking=True, most=MOST_LOW)
    assert [toast.title for toast in later.toasts] == ["gpu2  hot-memory", "Events"]
    assert later.toasts[-1].words == "3 more events: press 4"


def test_only_what_asks_for_it_is_announced() -> None:
    announcer = Announcer(EventLog())
    announcer.take(with_events(), 0.0, looking=False)
    quiet = alert(0, number=1, actions=(AlertAction.LOG, AlertAction.WEBHOOK))
    announced = announcer.take(with_events(quiet), 1.0, looking=False)
    assert not announced.toasts
    assert not announced.rings


def test_a_replayed_alert_is_announced_again_after_going_back() -> None:
    state = ReplayState("a", START, 10.0, 60.0)
    announcer = Announcer(EventLog())
    announcer.take(replace(with_events(sequence=1), replay=state), 0.0, looking=False)
    event = alert(-5, number=1)
    assert announcer.take(replace(with_events(event, sequence=7), replay=state), 6.0, looking=False).toasts
    assert not announcer.take(replace(with_events(sequence=2), replay=state), 7.0, looking=False).toasts
    again = replace(with_events(replace(event, number=9), sequence=7), replay=state)
    assert announcer.take(again, 13.0, looking=False).toasts
