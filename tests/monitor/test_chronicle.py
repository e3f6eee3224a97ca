"""What becomes an event, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import Health, HealthState
from hwdash.core.sample import Fault, FaultLevel, Notice
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.monitor.chronicle import FAULT_BEGUN, FAULT_OVER, REPLACED, Chronicle
from hwdash.sources.fake import fake_gpu

START = datetime(2026, 1, 1, tzinfo=UTC)
CAP = "power cap for 2 s: clock 1395 of 1980 MHz"
ROWS = Fault("rows", "2 rows wait for a reset")


class Story:
    """A chronicle and a clock that moves a second with every row."""

    def __init__(self) -> None:
        self.chronicle = Chronicle()
        self.at = START

    def row(
        self,
        state: HealthState = HealthState.OK,
        *reasons: str,
        suspected: bool = False,
        faults: tuple[Fault, ...] | None = (),
        notices: tuple[Notice, ...] = (),
        throttle: tuple[ThrottleActivity, ...] = (),
        after_s: float = 1.0,
    ) -> list[Event]:
        self.at += timedelta(seconds=after_s)
        health = Health(state, reasons, self.at, suspected)
        status = DeviceStatus(fake_gpu(id="gpu0"), {}, (), throttle, health, None, None)
        return list(self.chronicle.follow(status, self.at, faults, notices))

    def words(self, *arguments: object, **changes: object) -> list[str]:
        return [event.words for event in self.row(*arguments, **changes)]  # type: ignore[arg-type]


def test_the_first_row_is_a_find() -> None:
    (event,) = Story().row()
    assert event == Event(
        START + timedelta(seconds=1),
        "fake:gpu-0",
        EventKind.HEALTH,
        Severity.INFO,
        "found: Fake GPU 0",
        device="gpu0",
        after=HealthState.OK,
    )
    assert Story().words(HealthState.LOST, "lost: GPU is lost") == ["found: Fake GPU 0, lost: GPU is lost"]


def test_a_change_of_state_has_words_for_a_list() -> None:
    story = Story()
    story.row()
    assert story.row() == []
    caps = (
        ThrottleActivity(ThrottleReason.POWER_CAP, True, 1.0),
        ThrottleActivity(ThrottleReason.PROCHOT, False, 0.0),
    )
    (event,) = story.row(HealthState.THROTTLED, CAP, throttle=caps)
    assert (event.words, event.severity, event.throttle) == (f"throttled: {CAP}", Severity.WARNING, ("power_cap",))
    assert (event.before, event.after) == (HealthState.OK, HealthState.THROTTLED)
    assert story.row(HealthState.THROTTLED, "power cap for 3 s: clock 1395 of 1980 MHz") == []
    assert story.words(HealthState.LOST, "lost: GPU is lost") == ["lost: GPU is lost"]
    (event,) = story.row(after_s=36)
    assert event.words == "ok again after 38 s: was lost, GPU is lost"
    assert (event.severity, event.before) == (Severity.INFO, HealthState.LOST)


def test_a_suspicion_is_called_so_and_its_proof_is_a_change() -> None:
    story = Story()
    story.row()
    slow = "suspected: clock 1210 MHz while busy, usually 1755 MHz"
    (event,) = story.row(HealthState.THROTTLED, slow, suspected=True)
    assert event.suspected
    assert event.words == "throttled, suspected: clock 1210 MHz while busy, usually 1755 MHz"
    (event,) = story.row(HealthState.THROTTLED, CAP)
    assert (event.words, event.suspected) == (f"throttled: {CAP}", False)


def test_a_fault_is_told_when_it_begins_and_ends_not_while_its_words_change() -> None:
    story = Story()
    story.row()
    (event,) = story.row(HealthState.OK, ROWS.words, faults=(ROWS,))
    assert (event.words, event.kind, event.severity) == (f"fault: {ROWS.words}", EventKind.DEVICE, Severity.WARNING)
    assert story.row(HealthState.OK, "3 rows", faults=(Fault("rows", "3 rows wait for a reset"),)) == []
    assert story.words(HealthState.STALE, "no sample", faults=None) == ["stale: no sample"]
    assert story.words(after_s=10) == [
        "fault over after 12 s: 3 rows wait for a reset",
        "ok again after 10 s: was stale, no sample",
    ]


def test_a_failure_is_critical() -> None:
    story = Story()
    story.row()
    failed = Fault("status", "malfunction", FaultLevel.FAILED)
    fault, state = story.row(HealthState.LOST, "failed: malfunction", faults=(failed,))
    assert (fault.severity, state.severity) == (Severity.CRITICAL, Severity.CRITICAL)
    assert state.words == "lost: failed: malfunction"


def test_notices_are_told_once_each_whatever_their_words() -> None:
    story = Story()
    story.row()
    notices = (
        Notice("XID 79: GPU has fallen off the bus", Severity.CRITICAL),
        Notice("fault: the link was retrained"),
        Notice("replaced: a spare row"),
    )
    xid, *others = story.row(notices=notices)
    assert (xid.kind, xid.severity, xid.device) == (EventKind.DEVICE, Severity.CRITICAL, "gpu0")
    assert xid.words == "XID 79: GPU has fallen off the bus"
    assert [event.words for event in others] == [notice.words for notice in notices[1:]]
    assert {event.code for event in (xid, *others)} == {None}


def test_what_is_found_out_from_rows_has_a_code() -> None:
    story = Story()
    story.row()
    (begun,) = story.row(HealthState.OK, ROWS.words, faults=(ROWS,))
    (over,) = story.row()
    story.chronicle.replace(fake_gpu(7))
    (replaced,) = story.row()
    assert (begun.code, over.code, replaced.code) == (FAULT_BEGUN, FAULT_OVER, REPLACED)


def test_after_a_jump_the_story_goes_on_without_a_word() -> None:
    story = Story()
    story.row()
    story.chronicle.forget()
    assert story.row(HealthState.THROTTLED, CAP, faults=(ROWS,)) == []
    assert story.words() == [
        "fault over after 1 s: 2 rows wait for a reset",
        f"ok again after 1 s: was throttled, {CAP}",
    ]


def test_another_device_in_the_same_place_is_told() -> None:
    story = Story()
    story.row()
    story.chronicle.replace(fake_gpu(7))
    assert story.words() == ["replaced: was Fake GPU 7, is Fake GPU 0"]
