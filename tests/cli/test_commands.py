"""The commands against the fake client: what they print, and what they end with."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hwdash.cli.main import build_parser, main
from hwdash.client.fake import FakeClient
from hwdash.core.errors import DaemonUnreachable, DeviceFull, NoSuitableDevice
from hwdash.core.health import Health, HealthState
from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from hwdash.core.inference import (
    Conditions,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    Route,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.core.model import ModelInfo
from hwdash.core.ranking import RankedDevice, Ranking
from hwdash.core.snapshot import Snapshot, SourceStatus
from tests.cli.world import NOW, status


def snapshot() -> Snapshot:
    ranked = tuple(RankedDevice(name, 0.5, {}, ("free",)) for name in ("gpu1", "gpu0"))
    sources = (SourceStatus("nvml", 2), SourceStatus("host", 0, problem="cannot read; run as root"))
    return Snapshot(1, NOW, 1.0, (status(0), status(1)), sources, Ranking("balanced", {}, ranked, ()))


def record() -> InferenceRecord:
    return InferenceRecord(
        "r1", NOW, "m", "gpu1", "fake:gpu-1", Route("auto", ("first",)), TokenCounts(3, 2),
        Timing(0.0, 1.5, 0.042, 0.02, 0.03, 0.5, 41.5), Conditions(("power_cap",)), FinishReason.STOP,
    )  # fmt: skip


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeClient:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    events: list[PromptEvent] = [
        StageEvent(Stage.QUEUED, "gpu1"),
        TokenEvent("Hello", 1, 0.04),
        TokenEvent(" you", 2, 0.06),
        FinishedEvent(record()),
    ]
    fake = FakeClient([snapshot()], events)
    fake.launched = None  # type: ignore[attr-defined]

    def connect(*_: Any, **options: Any) -> FakeClient:
        fake.launched = options["launch"]  # type: ignore[attr-defined]
        return fake

    monkeypatch.setattr("hwdash.cli.settings.connect", connect)
    return fake


def test_devices_as_table_best_first(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["1", "gpu1"]
    assert lines[2].split()[:2] == ["2", "gpu0"]
    assert lines[3] == "host: cannot read; run as root"
    assert client.closed


def test_devices_as_json(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    out = capsys.readouterr()
    assert [device["id"] for device in json.loads(out.out)["devices"]] == ["gpu0", "gpu1"]
    assert out.err == ""


def test_once_is_the_table(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--once"]) == 0
    assert "gpu1" in capsys.readouterr().out


def test_prompt_streams_the_answer_to_stdout_and_figures_to_stderr(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt", "hi", "--device", "gpu1", "--seed", "3", "--temperature", "0.5"]) == 0
    out = capsys.readouterr()
    assert out.out == "Hello you\n"
    assert "TTFT 42.0 ms" in out.err
    assert "throttled: power cap" in out.err
    request = client.requests[0]
    assert (request.device, request.seed, request.temperature, request.messages[0].content) == ("gpu1", 3, 0.5, "hi")


def test_prompt_as_json(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", "hi", "--json"]) == 0
    out = capsys.readouterr()
    data = json.loads(out.out)
    assert (data["text"], data["device"], data["route"]["fallback_from"]) == ("Hello you", "gpu1", None)
    assert data["timing"]["ttft_s"] == 0.042
    assert out.err == ""


def test_prompt_from_stdin(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("grüß dich".encode())))
    assert main(["prompt", "-"]) == 0
    assert client.requests[0].messages[0].content == "grüß dich"


@pytest.mark.parametrize("text", ["", "  \n", "x" * (2**20 + 1)])
def test_a_prompt_that_cannot_be_sent_is_a_usage_error(
    client: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["prompt", "-"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not client.requests


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-tokens", "0"),
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top-p", "0"),
        ("--top-p", "2"),
        ("--seed", "-3"),
        ("--max-tokens", "many"),
    ],
)
def test_flags_out_of_range_name_themselves(
    client: FakeClient, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    assert main(["prompt", "hi", flag, value]) == 2
    err = capsys.readouterr().err
    assert flag in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"), [(DeviceFull("gpu1 is full"), 1), (NoSuitableDevice("none"), 3), (DaemonUnreachable("gone"), 4)]
)
def test_errors_end_with_their_exit_code(
    client: FakeClient, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    client.answer = client.answer[:2]
    client.failure = error  # type: ignore[assignment]
    assert main(["prompt", "hi"]) == code
    out = capsys.readouterr()
    assert out.out == "Hello\n"
    assert out.err == f"hwdash: {error}\n"
    assert main(["prompt", "hi", "--json"]) == code
    out = capsys.readouterr()
    assert json.loads(out.out)["error"]["message"] == str(error)
    assert out.err == f"hwdash: {error}\n"


def test_a_prompt_that_cannot_be_sent_has_its_document_too(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt", "hi", "--json", "--max-tokens", "0"]) == 2
    out = capsys.readouterr()
    assert json.loads(out.out)["error"]["type"] == "invalid_request_error"
    assert "--max-tokens" in out.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["devices", "--jsn"],
        ["--socket", "a", "--connect", "b", "devices"],
        ["history", "latency", "--since", "soon"],
        ["history", "latency", "--since", "0s"],
    ],
)
def test_usage_mistakes_are_one_line_and_exit_2(
    client: FakeClient, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("hwdash: ")
    assert err.count("\n") == 1


def test_a_missing_or_wrong_config_file_is_exit_2(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["devices", "--config", str(tmp_path / "none.toml")]) == 2
    assert "no such configuration file" in capsys.readouterr().err
    path = tmp_path / "config.toml"
    path.write_text("[monitor]\ninterval = 1\n")
    assert main(["--config", str(path), "devices"]) == 2
    assert f"{path}:2: unknown key monitor.interval" in capsys.readouterr().err


def test_config_file_and_environment_choose_the_model(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "XDG_CONFIG_HOME" / "hwdash" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[engine]\nmodel = "from-file"\n')
    assert main(["prompt", "hi"]) == 0
    monkeypatch.setenv("HWDASH_ENGINE__MODEL", "from-environment")
    assert main(["prompt", "hi"]) == 0
    assert main(["prompt", "hi", "--model", "./from-flag"]) == 0
    names = [request.model for request in client.requests]
    assert names[:2] == ["from-file", "from-environment"]
    assert names[2].startswith("/")


def history() -> LatencyHistory:
    three = Percentiles(0.01, 0.02, 0.03)
    bucket = LatencyBucket(NOW, 5, 1, three, None, three)
    return LatencyHistory(
        NOW - timedelta(hours=1), NOW, 30.0,
        (LatencySeries("gpu0", "k", "=m", bucket, (bucket,)),),
        (ThrottledPeriod("gpu0", "k", NOW - timedelta(minutes=2), NOW, ("power cap",)),),
    )  # fmt: skip


def test_history_as_table_json_and_csv(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.history = history()
    assert main(["history", "latency", "--since", "2h", "--device", "gpu0"]) == 0
    assert client.latency_calls == [(7200.0, "gpu0")]
    text = capsys.readouterr().out
    assert "10.0 ms" in text
    assert "throttled for 2 min" in text
    assert main(["history", "latency", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["series"][0]["summary"]["ttft"]["p50_s"] == 0.01
    assert main(["history", "latency", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (rows[0]["ttft_p95_s"], rows[0]["itl_p50_s"], rows[0]["model"]) == ("0.02", "", "'=m")


def test_empty_history_says_what_to_do(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "latency"]) == 0
    assert "hwdash prompt" in capsys.readouterr().out


def test_models(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "m"]) == 0
    assert main(["models", "list"]) == 0
    assert "ready" in capsys.readouterr().out
    client.store = [ModelInfo("m", "/m", 2**20, ready=True)]
    assert main(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["size_bytes"] == 2**20
    assert main(["models", "remove", "m"]) == 0
    assert main(["models", "remove", "m"]) == 1


def test_status_and_stop_start_no_daemon(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"pid", "version", "uptime_s", "interval_s", "socket", "listen", "workers"} <= set(data)
    assert client.launched is False  # type: ignore[attr-defined]
    assert main(["stop"]) == 0
    assert client.stopped
    assert capsys.readouterr().out == "stopped\n"
    client.watchers = 1
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == "stopped; an open dashboard starts a daemon of its own\n"


def test_the_dashboard_wants_a_terminal(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--theme", "hwdash"]) == 2
    assert "terminal" in capsys.readouterr().err
    assert main(["--theme", "no-such"]) == 2
    assert "no theme" in capsys.readouterr().err
    assert main(["--interval", "0.01"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-V"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("hwdash 0")


@pytest.mark.parametrize("option", ["--config", "--socket", "--connect"])
def test_an_empty_option_is_not_the_default(
    option: str, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", option, ""]) == 2
    assert f"argument {option}: its value is empty" in capsys.readouterr().err


def test_bounds_are_written_out(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", "hi", "--max-tokens", "0"]) == 2
    assert "--max-tokens must be between 1 and 1,000,000, not 0" in capsys.readouterr().err


def test_a_state_is_said_once(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    lost = replace(status(0), health=Health(HealthState.LOST, ("lost: off the bus",), NOW))
    client.snapshots = [replace(snapshot(), devices=(lost,))]
    assert main(["devices"]) == 0
    assert "lost (off the bus)" in capsys.readouterr().out


def test_an_interval_that_the_running_daemon_does_not_have_is_said(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--once", "--interval", "5"]) == 2
    assert "reads every 1 s" in capsys.readouterr().err
    assert main(["--once", "--interval", "1"]) == 0
    client.unreachable = True
    assert main(["--once", "--interval", "5"]) == 4


@pytest.mark.parametrize("arguments", [["--interval", "0.2", "daemon"], ["daemon", "--interval", "0.2"]])
def test_options_of_the_daemon_count_before_the_name_and_after_it(arguments: list[str]) -> None:
    parsed = build_parser().parse_args(arguments)
    assert parsed.interval == 0.2
    assert build_parser().parse_args(["--replay", "x", "daemon"]).replay == "x"
    assert build_parser().parse_args(["daemon"]).interval is None
    assert build_parser().parse_args(["daemon"]).loop is False
