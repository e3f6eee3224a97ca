from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hwdash.cli.history_event import events_csv, events_text
from hwdash.cli.main import main
from hwdash.client.fake import FakeClient
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.health import HealthState
from hwdash.core.history import EventHistory
from hwdash.core.snapshot import Snapshot

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SLOW = Event(
    NOW - timedelta(minutes=3),
    "fake:gpu-0",
    EventKind.HEALTH,
    Severity.WARNING,
    "throttled: clock 1395 of 1980 MHz",
    device="gpu0",
    before=HealthState.OK,
    after=HealthState.THROTTLED,
    suspected=True,
)
XID = replace(SLOW, kind=EventKind.DEVICE, severity=Severity.CRITICAL, words="=XID 79\x1b[2J\nfell", suspected=False)
ALERT = replace(XID, kind=EventKind.ALERT, severity=Severity.INFO, words="hot: ended", rule="hot", active=False)
HISTORY = EventHistory(NOW - timedelta(hours=1), NOW, (SLOW, XID, ALERT))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeClient:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    fake = FakeClient([Snapshot(1, NOW, 1.0, ())])
    fake.past_events = HISTORY.events
    monkeypatch.setattr("hwdash.cli.settings.client_for", lambda *_, **__: fake)
    return fake


def test_one_line_per_event_in_local_time() -> None:
    local = SLOW.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert events_text(HISTORY).splitlines() == [
        "last 1 h",
        "TIME                 DEVICE  KIND    SEVERITY  WHAT",
        f"{local}  gpu0    health  warning   throttled: clock 1395 of 1980 MHz (suspected)",
        f"{local}  gpu0    device  critical  =XID 79\N{REPLACEMENT CHARACTER}[2J fell",
        f"{local}  gpu0    alert   info      hot: ended",
    ]
    assert events_text(replace(HISTORY, truncated=True)).splitlines()[-1].startswith("older ones were left out")
    assert events_text(replace(HISTORY, events=())) == "no events in the last 1 h"


def test_csv_runs_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(events_csv(HISTORY))))
    assert [row["words"][:5] for row in rows] == ["throt", "'=XID", "hot: "]
    assert (rows[0]["at"], rows[0]["before"], rows[0]["after"]) == ("2026-11-22T08:57:00+00:00", "ok", "throttled")
    assert [(row["suspected"], row["rule"], row["active"]) for row in rows] == [
        ("true", "", ""),
        ("false", "", ""),
        ("false", "hot", "false"),
    ]


def test_the_command_asks_for_what_it_is_told(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "events", "--since", "2h", "--device", "gpu0", "--kind", "device"]) == 0
    assert client.event_calls == [(7200.0, "gpu0", EventKind.DEVICE, 10_000)]
    assert "XID 79" in capsys.readouterr().out
    assert main(["history", "events", "--severity", "warning", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [event["severity"] for event in data["events"]] == ["warning", "critical"]
    assert data["truncated"] is False
    assert main(["history", "events", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


@pytest.mark.parametrize(
    "arguments", [["events", "--kind", "fire"], ["events", "--severity", "x"], ["latency", "--kind", "alert"], ["what"]]
)
def test_mistakes_are_one_line_and_exit_2(
    client: FakeClient, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["history", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
