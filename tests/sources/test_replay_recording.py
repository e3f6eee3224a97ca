"""Which of the recorded events a replay hands back."""

from __future__ import annotations

from pathlib import Path

from hwdash.core.event import Event, EventKind, Severity
from hwdash.sources.replay_recording import Recording
from tests.sources.recorded import at, lines, minute, write


def test_only_what_the_devices_reported_is_handed_back(tmp_path: Path) -> None:
    def event(words: str, kind: EventKind = EventKind.DEVICE, code: str | None = None) -> tuple[int, Event]:
        return 1, Event(at(0.5), "fake:gpu-0", kind, Severity.WARNING, words, code=code)

    events = (
        event("XID 79"),
        event("fault: the link was retrained"),
        event("fault: 2 rows wait for a reset", code="fault_begun"),
        event("throttled: power cap", EventKind.HEALTH),
    )
    recording = Recording(write(tmp_path / "r", lines(minute(3), events)))
    recording.load()
    assert [item.words for item in recording.events(1)] == ["XID 79", "fault: the link was retrained"]
    recording.close()
