"""``hwdash probe`` and ``hwdash history uptime``."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from hwdash.cli.history_uptime import up_text, uptime_csv, uptime_text
from hwdash.cli.main import main
from hwdash.cli.probe import result_text
from hwdash.core.errors import NoSuitableDevice
from hwdash.core.probe import ProbeOutcome, ProbeRequest, ProbeResult, Uptime, UptimeHistory, UptimeWindow
from tests.cli.conftest import Serve
from tests.cli.world import World

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def result(minutes: float = 0.0, outcome: ProbeOutcome = ProbeOutcome.OK, drift: float | None = 0.02) -> ProbeResult:
    at = NOW - timedelta(minutes=minutes)
    if outcome is ProbeOutcome.FAILED:
        return ProbeResult(at, "gpu0", "fake:gpu-0", "m", outcome, error="no token within 30 s")
    return ProbeResult(at, "gpu0", "fake:gpu-0", "m", outcome, 0.0241, 0.00912, 0.16, 16, "bf16", "ab", "ab", drift)


PROBES = (
    result(5),
    result(4, drift=0.2),
    result(3, ProbeOutcome.WRONG, None),
    result(2, ProbeOutcome.FAILED),
    result(1),
)
DAY = UptimeWindow(86_400.0, 1440, 1, 2, 0.99999, 0.0241, 0.0302, 0.00912, 0.011)
HISTORY = UptimeHistory(
    NOW - timedelta(days=1),
    NOW,
    (Uptime("gpu0", "fake:gpu-0", "m", (UptimeWindow(3600.0, 0, 0, 0), DAY), PROBES[-1], 0.009, 0.02),),
    PROBES,
)


def test_a_block_per_device_and_model_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    lines = uptime_text(HISTORY).splitlines()
    assert lines[0] == "gpu0  m"
    assert lines[1].endswith("ok, TTFT 24.1 ms, ITL 9.12 ms")
    assert lines[2] == "  at best 9.00 ms a token, the newest +2 %"
    assert lines[3:6] == [
        "  WINDOW  PROBES  FAILED  WRONG       UP  TTFT P50      P99  ITL P50      P99",
        "  1 h          0       0      0        -         -        -        -        -",
        "  24 h      1440       1      2  99.99 %   24.1 ms  30.2 ms  9.12 ms  11.0 ms",
    ]
    assert lines[6] == "  newest  ▂▅?×▂"
    assert all(len(line) <= 80 for line in lines)


def test_in_plain_ascii_where_stdout_knows_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert "  newest  .-?x." in uptime_text(HISTORY)


def test_only_what_is_whole_is_100_per_cent() -> None:
    assert [up_text(ratio) for ratio in (1.0, 0.999999, 57 / 100, 0.5, 0.0)] == [
        "100 %", "99.99 %", "57.00 %", "50.00 %", "0.00 %",
    ]  # fmt: skip


def test_csv_has_a_row_per_probe() -> None:
    rows = list(csv.DictReader(io.StringIO(uptime_csv(HISTORY))))
    assert [row["outcome"] for row in rows] == ["ok", "ok", "wrong", "failed", "ok"]
    assert (rows[0]["itl_s"], rows[0]["drift"], rows[3]["itl_s"], rows[3]["error"]) == (
        "0.00912", "0.02", "", "no token within 30 s",
    )  # fmt: skip


def test_history_uptime(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(World())
    assert main(["history", "uptime"]) == 0
    assert "no probes yet" in capsys.readouterr().out
    client.past_uptime = HISTORY
    assert main(["history", "uptime", "--device", "gpu0", "--since", "7d", "--format", "json"]) == 0
    assert client.uptime_calls == [(86_400.0, None), (604_800.0, "gpu0")]
    data = json.loads(capsys.readouterr().out)
    assert data["uptimes"][0]["windows"][1]["wrong"] == 2
    assert "up_ratio" not in data["uptimes"][0]["windows"][0]
    assert main(["history", "uptime", "--since", ""]) == 2


def test_probe_tells_what_came_of_it_by_its_exit_code(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(World())
    for outcome, code in ((ProbeOutcome.OK, 0), (ProbeOutcome.WRONG, 1), (ProbeOutcome.FAILED, 1)):
        client.probe_result = result(0, outcome)
        assert main(["probe", "--device", "gpu0", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["outcome"] == outcome.value
    assert main(["probe", "--model", "m", "--accept"]) == 1
    assert client.probe_requests[-1] == ProbeRequest("auto", "m", accept=True)
    assert capsys.readouterr().out == "gpu0: failed, m: no token within 30 s\n"
    client.failure = NoSuitableDevice("no device")
    assert main(["probe"]) == 3


def test_a_probe_in_a_line_or_two() -> None:
    assert result_text(result()) == "gpu0: ok, m in bf16: TTFT 24.1 ms, 9.12 ms a token, 16 tokens, drift +2 %"
    assert "hwdash probe --accept" in result_text(result(0, ProbeOutcome.WRONG))
