"""The requirement options: what they are read as, and that every mistake names its option and the fix."""

from __future__ import annotations

import pytest

from hwdash.cli.main import build_parser, main
from hwdash.cli.requirement import requirements_of
from hwdash.core.device import DeviceKind
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from tests.cli.conftest import Serve
from tests.cli.world import World


def test_without_options_nothing_is_asked_for() -> None:
    assert requirements_of(build_parser().parse_args(["rank"])) == NO_REQUIREMENTS


def test_all_options_together() -> None:
    arguments = [
        "--min-memory",
        "40GiB",
        "--require",
        "bf16,FP8",
        "--require",
        "cc8.9",
        "--max-power",
        "300",
        "--max-latency",
        "0.5",
    ]
    arguments += [
        "--kind",
        "gpu,npu",
        "--kind",
        "gpu",
        "--prefer-low-power",
        "--policy",
        "latency",
        "--context",
        "8192",
    ]
    parsed = build_parser().parse_args(["prompt", "hi", *arguments])
    assert requirements_of(parsed, "m") == Requirements(
        40 * 2**30, ("bf16", "fp8", "cc8.9"), 300.0, 0.5, (DeviceKind.GPU, DeviceKind.NPU), True, Policy.LATENCY,
        "m", 8192,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"), [("40 GiB", 40 * 2**30), ("1.5G", 3 * 2**29), ("80GB", 80 * 10**9), ("1048576", 2**20)]
)
def test_sizes(text: str, size: int) -> None:
    assert requirements_of(build_parser().parse_args(["rank", "--min-memory", text])).min_memory_bytes == size


_NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e999", "", "many", "0x10", "5 W", "1,5", "1_000", "١٢٣", "５"]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *((flag, value) for flag in ("--max-power", "--max-latency") for value in _NUMBERS),
        *(("--context", value) for value in (*_NUMBERS, "1.5", "9" * 500)),
        *(("--min-memory", value) for value in (*_NUMBERS, "40 GiB GiB", "GiB", "9" * 400)),
        *(("--require", value) for value in ("", ",", "bf16,", "bf17", "cc8", "\x1b[31m")),
        *(("--kind", value) for value in ("", ",gpu", "toaster", "gpu npu")),
        *(("--model", value) for value in ("", "  ")),
        *(("--policy", value) for value in ("", "best", "Latency!", "x" * 5000)),
    ],
)
@pytest.mark.parametrize("command", [["rank"], ["prompt", "hi"], ["prompt", "hi", "--device", "all"]])
def test_a_mistake_is_one_line_that_names_the_option(
    serve: Serve, capsys: pytest.CaptureFixture[str], command: list[str], flag: str, value: str
) -> None:
    world = serve(World())
    assert main([*command, f"{flag}={value}"]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith(f"hwdash: {flag}")
    assert out.err.count("\n") == 1
    assert "\x1b" not in out.err
    assert len(out.err) < 300
    assert not world.rank_calls
    assert not world.requests


@pytest.mark.parametrize("flag", ["--max-power", "--max-latency", "--context", "--min-memory"])
def test_a_negative_number_beside_its_option_names_it_too(
    serve: Serve, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    serve(World())
    assert main(["rank", flag, "-5"]) == 2
    assert flag in capsys.readouterr().err


def test_a_value_that_begins_with_a_dash_is_told_how_to_be_written(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(World())
    assert main(["rank", "--min-memory", "-5GiB"]) == 2
    assert "--min-memory=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["300", "3e2", "+300.0", "300.", " 300 "])
def test_numbers(text: str) -> None:
    assert requirements_of(build_parser().parse_args(["rank", "--max-power", text])).max_power_w == 300.0
