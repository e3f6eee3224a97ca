"""``hwdash prompt`` with requirements, with a fallback, and to all devices at once."""

from __future__ import annotations

import json

import pytest

from hwdash.cli.main import main
from hwdash.cli.progress import Progress
from hwdash.core.errors import DaemonUnreachable, DeviceFull, NoSuitableDevice
from hwdash.core.inference import FinishedEvent, Stage, StageEvent, TokenEvent
from hwdash.core.requirement import Requirements
from tests.cli.conftest import Serve
from tests.cli.world import BUSY, World, nobody, record


def test_requirements_travel_with_the_prompt(serve: Serve) -> None:
    world = serve(World())
    world.answer = [TokenEvent("hi", 1, 0.1), FinishedEvent(record("gpu0"))]
    assert main(["prompt", "hi", "--model", "m", "--max-power", "300"]) == 0
    assert world.requests[0].device == "auto"
    assert world.requests[0].requirements == Requirements(max_power_w=300.0)


def test_why_and_fallback_are_told_on_stderr(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    world.answer = [TokenEvent("hi", 1, 0.1), FinishedEvent(record("gpu0", "gpu1"))]
    assert main(["prompt", "hi"]) == 0
    out = capsys.readouterr()
    assert out.out == "hi\n"
    assert "fell back from gpu1, answered by gpu0\n" in out.err
    assert "why gpu0: gpu1 failed: out of memory\n" in out.err


def test_all_devices_answer_under_headings(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    assert main(["prompt", "hi", "--device", "all", "--model", "m", "--kind", "gpu"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert out.out.startswith("== 1 of 2: gpu1 · m · 2 tokens · TTFT 42.0 ms")
    assert "\nI am gpu1.\n== 2 of 2: gpu0 · m" in out.out
    assert out.out.endswith("I am gpu0.\n")
    assert {request.device for request in world.requests} == {"gpu0", "gpu1"}
    assert world.rank_calls[0].model == "m"
    assert [kind.value for kind in world.rank_calls[0].kinds] == ["gpu"]


def test_one_that_fails_does_not_harm_the_others(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    world.answers["gpu1"] = [StageEvent(Stage.LOADING, "gpu1"), TokenEvent("half", 1, 0.1)]
    world.failures["gpu1"] = DeviceFull("gpu1 is full; free 3 GiB")
    assert main(["prompt", "hi", "--device", "all"]) == 0
    out = capsys.readouterr()
    assert out.err == "gpu1 failed: gpu1 is full; free 3 GiB\n"
    assert "half" not in out.out
    assert "I am gpu0." in out.out
    assert main(["prompt", "hi", "--device", "all", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [item["device"] for item in results] == ["gpu1", "gpu0"]
    assert (results[0]["error"], results[0]["code"]) == ("gpu1 is full; free 3 GiB", "device_full")
    assert results[0]["finish_reason"] == "error"
    assert results[1]["text"] == "I am gpu0."
    assert results[1]["timing"]["ttft_s"] == 0.042
    assert results[1]["route"] == {
        "requested": "all",
        "why": ["number 2 of 2 devices, score 0.500", "throttled: power cap"],
        "fallback_from": None,
    }


def test_a_ranking_that_fails_is_the_document(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World())
    assert main(["prompt", "hi", "--device", "all", "--model", "far-away", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "no model 'far-away'"


@pytest.mark.parametrize("as_json", [False, True])
def test_when_all_fail_it_failed(serve: Serve, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    world = serve(World())
    world.failures = {"gpu0": DeviceFull("full"), "gpu1": DeviceFull("full")}
    world.answers = {"gpu0": [], "gpu1": []}
    assert main(["prompt", "hi", "--device", "all", *(["--json"] if as_json else [])]) == 1
    out = capsys.readouterr()
    if as_json:
        assert [item["error"] for item in json.loads(out.out)["results"]] == ["full", "full"]
    else:
        assert out.err == "gpu1 failed: full\ngpu0 failed: full\n"


def test_a_daemon_that_is_gone_is_not_a_failure_of_devices(serve: Serve) -> None:
    world = serve(World())
    world.answers = {"gpu0": [], "gpu1": []}
    world.failures = {"gpu0": DaemonUnreachable("gone"), "gpu1": DaemonUnreachable("gone")}
    assert main(["prompt", "hi", "--device", "all"]) == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_suits(serve: Serve, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    world = serve(World())
    nobody(world)
    assert main(["prompt", "hi", "--device", "all", *(["--json"] if as_json else [])]) == 3
    out = capsys.readouterr()
    assert out.err.startswith("hwdash: no device is suitable (gpu2: ")
    assert out.out == ('{"results":[]}\n' if as_json else "")
    world.failure = NoSuitableDevice("gpu0: needs 40.0 GiB, 21.3 GiB free")
    assert main(["prompt", "hi", "--min-memory", "40GiB"]) == 3


def test_the_progress_of_a_fallback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    progress = Progress()
    progress.show(StageEvent(Stage.LOADING, "gpu0", progress=0.4))
    progress.show(StageEvent(Stage.QUEUED, "cpu0", "gpu0 failed: out of memory, 3.1 GiB more were needed"))
    progress.clear()
    painted = capsys.readouterr().err.split("\r\x1b[K")
    assert painted[1] == "gpu0: loading 40%"
    assert painted[2].startswith("cpu0: queued: gpu0 failed: out of memory")
    assert max(map(len, painted)) < 60
    assert painted[-1] == ""


def test_status_tells_of_addresses_and_queues(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    assert main(["status"]) == 0
    assert "socket /fake.sock, not on the network" in capsys.readouterr().out
    world.listen, world.admission = "127.0.0.1:8080", BUSY
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "listening on 127.0.0.1:8080" in out
    line = next(line for line in out.splitlines() if line.startswith("gpu0"))
    assert line.split()[1:5] == ["1", "3", "1", "half"]
    assert line.endswith("hot: 1 at once instead of 4; out of memory 12 s ago")
    assert "gpu1: this torch build has no kernels for sm_90" in out
    assert main(["status", "--json"]) == 0
    assert '"breaker":"half_open"' in capsys.readouterr().out
