"""``hwdash rank``: the table, the document, which model counts, and what it ends with."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from hwdash.cli.main import main
from hwdash.core.ranking import Expectation, Ranking
from hwdash.core.reading import Absent
from hwdash.core.requirement import Policy, Requirements
from tests.cli.conftest import Serve
from tests.cli.world import RANKED, World, nobody


def test_the_table_says_score_expectation_and_reasons(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World())
    assert main(["rank"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    lines = out.out.splitlines()
    assert lines[0] == "policy balanced, for m, the default model"
    assert re.split(r"\s{2,}", lines[2].strip()) == [
        "RANK", "DEVICE", "NAME", "SCORE", "COLD", "TTFT", "TOK/S", "BASIS", "J/TOKEN", "STATE",
    ]  # fmt: skip
    first = re.split(r"\s{2,}", lines[3].strip())
    assert first == ["1", "gpu1", first[2], "0.912", "-", "18.2 ms", "312", "measured, 12 answers, ±8%", "0.19 J", "ok"]
    second = re.split(r"\s{2,}", lines[4].strip())
    assert second[5:] == ["90.0 ms", "41.0", "estimated", "-", "ok"]
    assert "gpu1: latency 0.95 ×0.35, room for more 1.00\n  - 140 GiB free\n  - nothing runs" in out.out
    assert "gpu2: excluded\n  - lost: off the bus\n  - needs 40.0 GiB, 21.3 GiB free" in out.out


def test_a_cold_start_stands_beside_the_time_to_first_token(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    cold = replace(RANKED[0], expected=Expectation(0.0211, 47.5, 11.5, cold_start_s=10.1))
    world.rankings = {Policy.BALANCED: Ranking("balanced", {}, (cold,), ())}
    assert main(["rank"]) == 0
    out = capsys.readouterr().out
    assert re.split(r"\s{2,}", out.splitlines()[3].strip())[4:6] == ["10.1 s", "21.1 ms"]


@pytest.mark.parametrize(("score", "told"), [(0.93, True), (0.912, False), (0.9124, False), (0.7, False)])
def test_an_order_that_is_not_by_score_is_explained(
    serve: Serve, capsys: pytest.CaptureFixture[str], score: float, told: bool
) -> None:
    world = serve(World())
    world.rankings = {Policy.BALANCED: Ranking("balanced", {}, (RANKED[0], replace(RANKED[1], score=score)), ())}
    assert main(["rank"]) == 0
    assert ("Close scores keep the order they had" in capsys.readouterr().out) is told


def test_the_document_has_the_contracts_keys(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    assert main(["rank", "--json", "--policy", "latency", "--max-power", "400", "--model", "m"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policy"] == "latency"
    assert data["requirements"] == {"max_power": 400.0, "policy": "latency", "model": "m"}
    assert [item["device"] for item in data["ranked"]] == ["gpu1", "gpu0"]
    assert data["ranked"][0]["parts"] == {"latency": 0.95, "room_for_more": 1.0, "idle": 0.5}
    assert data["ranked"][0]["why"] == ["140 GiB free", "nothing runs"]
    assert data["excluded"] == [{"device": "gpu2", "why": ["lost: off the bus", "needs 40.0 GiB, 21.3 GiB free"]}]
    assert world.rank_calls == [Requirements(max_power_w=400.0, policy=Policy.LATENCY, model="m")]


def test_a_default_model_that_is_not_there_does_not_count(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World(default_model="far-away"))
    assert main(["rank"]) == 0
    assert "no model counted: far-away, the default, is not there" in capsys.readouterr().out
    assert world.rank_calls == [Requirements()]


def test_the_document_says_which_model_counted(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World())
    assert main(["rank", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requirements"] == {"model": "m"}


def test_a_model_that_was_asked_for_must_be_there(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World())
    assert main(["rank", "--model", "far-away"]) == 1
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "hwdash: no model 'far-away'\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_when_nothing_suits_the_ranking_is_still_printed(
    serve: Serve, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    nobody(serve(World()))
    assert main(["rank", *(["--json"] if as_json else [])]) == 3
    out = capsys.readouterr()
    assert out.err.startswith("hwdash: no device is suitable (gpu2: lost: off the bus, needs 40.0 GiB")
    assert out.err.count("\n") == 1
    if as_json:
        data = json.loads(out.out)
        assert data["ranked"] == []
        assert data["excluded"][0]["device"] == "gpu2"
    else:
        assert "gpu2: excluded" in out.out


def test_a_machine_without_devices(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    world.snapshots = [replace(world.snapshots[0], devices=(), ranking=Ranking("balanced", {}, (), ()))]
    assert main(["rank"]) == 3
    assert "no device was found" in capsys.readouterr().err


def test_a_daemon_that_has_just_started_is_given_an_interval(serve: Serve) -> None:
    world = serve(World())
    first = world.snapshots[0]
    waiting = replace(first.devices[0], readings={"power_w": Absent.FIRST_SAMPLE})
    world.snapshots = [replace(first, devices=(waiting,)), replace(first, sequence=2)]
    asked: list[int] = []
    rank = world.rank

    async def remembered(requirements: Requirements) -> Ranking:
        asked.append(1)
        return await rank(requirements)

    world.rank = remembered  # type: ignore[method-assign, assignment]
    assert main(["rank"]) == 0
    assert asked


def test_parts_and_expectations_may_be_missing(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    world = serve(World())
    bare = replace(RANKED[0], parts={}, why=(), expected=None, device="gone7")
    world.rankings = {Policy.BALANCED: Ranking("balanced", {}, (bare,), ())}
    assert main(["rank"]) == 0
    assert re.split(r"\s{2,}", capsys.readouterr().out.splitlines()[3].strip())[2:] == [
        "-", "0.912", "-", "-", "-", "-", "-", "-",
    ]  # fmt: skip
