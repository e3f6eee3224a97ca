"""``hwdash bench``: what it asks for, what it prints, and that nothing goes on when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.cli.bench_text import history_text, report_text
from hwdash.cli.main import main
from hwdash.core.bench import (
    BenchComparison,
    BenchFinished,
    BenchHistory,
    BenchReport,
    BenchRequest,
    BenchStep,
    DecodeFigure,
    DtypeFigures,
    PrefillFigure,
)
from hwdash.core.errors import DeviceFull, NoSuitableDevice
from hwdash.core.inference import Conditions, Stage, StageEvent
from hwdash.core.measurement import LoadedModel
from hwdash.core.wire import from_wire
from tests.cli.world import NOW, World
from tests.place import home

Serve = Callable[[World], World]
DAEMON = Path(__file__).parents[1] / "daemon" / "fake_daemon.py"

BF16 = DtypeFigures(
    "bf16",
    LoadedModel(
        "bf16", 8_030_261_248, 16_060_522_496, 131_072, "graph",
        ("a step is captured as a graph", "attention: sdpa, with the heads of a group folded together"),
        15_009_849_344, 0.42, 2.1, 3.05, 0.21, 0.35,
    ),
    (PrefillFigure(32, 0.0081, 3951.0), PrefillFigure(2048, 0.112, 18285.0)),
    (
        DecodeFigure(1, 0.00498, 0.00521, 200.8, 0.703, 2.41, 0.4),
        DecodeFigure(32, 0.0071, 0.0079, 4507.0, 0.541, 0.0812, 0.0178),
    ),
    Conditions(("power_cap",), 61.4, 1.395e9),
)  # fmt: skip
REPORT = BenchReport(
    "b1", NOW, 48.3, "gpu0", "nvidia:GPU-1", "NVIDIA H200", "synthetic:llama-3.1-8b", "device", 4.27e12,
    (("driver", "580.159.04"), ("torch", "2.11.0"), ("transformers", "5.17.0"), ("hwdash", "0.4.0")),
    (BF16, DtypeFigures("fp16", problem="batch 4: out of memory")),
    (
        BenchComparison("bf16", "load", 3.05, 3.0, 1.0166, 5, NOW),
        BenchComparison(
            "bf16", "ITL p50 at batch 1", 0.00498, 0.00445, 1.12, 5, NOW,
            "bf16, ITL p50 at batch 1: 12% slower than its baseline of the last week (5 runs): 4.98 ms, was 4.45 ms",
        ),
    ),
)  # fmt: skip


def world(*reports: BenchReport) -> World:
    made = World()
    made.bench_events = (
        BenchStep("gpu0", "bf16: loading m", 0.0),
        StageEvent(Stage.LOADING, "gpu0", "reading", 0.5),
        *(BenchFinished(report) for report in reports),
    )
    made.past_benches = reports
    return made


def test_the_report_reads_well_in_80_columns() -> None:
    text = report_text(replace(REPORT, started_at=NOW.astimezone()))
    assert max(map(len, text.splitlines())) <= 80
    for line in (
        "gpu0 NVIDIA H200, synthetic:llama-3.1-8b",
        "driver 580.159.04, torch 2.11.0, transformers 5.17.0, hwdash 0.4.0",
        "memory copied at 3.88 TiB/s, read and written together",
        "bf16: 8.03 G parameters, 15.0 GiB, context 131072",
        "  cold start   process 420 ms, imports 2.10 s, load 3.05 s, first token 210 ms:",
        "               5.78 s",
        "  decoder      graph, captured in 350 ms: a step is captured as a graph;",
        "    PROMPT     TTFT         READ",
        "    32 tok  8.10 ms   3951 tok/s",
        "  2048 tok   112 ms  18285 tok/s",
        "  BATCH  ITL P50      P99  TOK/S  BANDWIDTH  PER TOKEN      NET",
        "      1  4.98 ms  5.21 ms    201        70%     2.41 J   2.01 J",
        "     32  7.10 ms  7.90 ms   4507        54%    81.2 mJ  63.4 mJ",
        "  energy       the whole device's, by its own counter; net: without idle",
        "  seen         throttled by power cap, 61 °C at most, slowest clock 1395 MHz",
        "  problem      batch 4: out of memory",
        "bf16, ITL p50 at batch 1: 12% slower than its baseline of the last week (5",
    ):
        assert line in text.splitlines()


def test_columns_without_figures_are_left_out() -> None:
    bare = replace(BF16, decode=(DecodeFigure(1, 0.005, 0.006, 200.0),), conditions=Conditions())
    text = report_text(replace(REPORT, dtypes=(bare,), energy_scope=None, comparisons=REPORT.comparisons[:1]))
    assert "  BATCH  ITL P50      P99  TOK/S\n" in text
    assert "seen" not in text
    assert "energy" not in text
    assert text.endswith("As before: no figure is off its baseline (5 runs).")
    assert report_text(replace(REPORT, comparisons=())).endswith("no run of this kind in the last 30 days.")


@given(st.integers(40, 80), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_no_line_is_wider_than_the_terminal(width: int, model: str) -> None:
    report = replace(REPORT, model=model, dtypes=(replace(BF16, decode=(), problem=f"{model} " * 9),))
    # The tables need their columns.
    assert all(len(line) <= width or "tok" in line for line in report_text(report, width).splitlines())


def test_earlier_runs_are_a_line_for_each_precision() -> None:
    text = history_text(BenchHistory((REPORT, replace(REPORT, model="/models/" + "x" * 60))))
    header, first, second, third, _ = text.splitlines()
    assert header.split() == ["WHEN", "DEVICE", "MODEL", "DTYPE", "ITL", "P50", "TOK/S", "AT", "MOST"]
    assert first.split()[2:] == [
        "gpu0", "synthetic:llama-3.1-8b", "bf16", "4.98", "ms", "201", "4507", "(x32)",
    ]  # fmt: skip
    assert second.split()[4:] == ["fp16", "failed", "-", "-"]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" in third
    assert history_text(BenchHistory(())) == "no earlier bench; run one with: hwdash bench"


def test_what_is_asked_for(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(world(REPORT))
    assert main(["bench"]) == 0
    assert client.bench_requests == [BenchRequest("")]
    assert "4.98 ms" in capsys.readouterr().out
    options = ["--device", "gpu1", "--model", "synthetic:qwen3-8b", "--dtype", "BF16,fp32", "--batch", "1, 8,8"]
    assert main(["bench", *options, "--prompt-tokens", "64", "--tokens", "16", "--json"]) == 0
    asked = BenchRequest("synthetic:qwen3-8b", "gpu1", ("bf16", "fp32"), (1, 8), (64,), 16)
    assert client.bench_requests[1] == asked
    out, err = capsys.readouterr()
    assert from_wire(json.loads(out), BenchReport) == REPORT
    assert err == ""
    assert client.closed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "0"], "--batch takes whole numbers from 1 to 1,024, not '0'"),
        (["--batch", "1,,2"], "--batch: a value is missing in '1,,2'"),
        (["--batch", "1e3"], "--batch takes whole numbers"),
        (["--prompt-tokens", "-5"], "--prompt-tokens"),
        (["--tokens", "1"], "--tokens takes whole numbers from 2 to 100,000, not '1'"),
        (["--dtype", ""], "--dtype: a value is missing"),
        (["--batch", ",".join(map(str, range(1, 30)))], "--batch takes at most 16 values, not 29"),
    ],
)
def test_mistakes_are_told_with_exit_2(
    options: list[str], words: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(world(REPORT))
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err
    assert client.bench_requests == []


def test_failures_by_their_exit_codes(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(world())
    client.failure = NoSuitableDevice("no device is suitable")
    assert main(["bench"]) == 3
    client.failure = DeviceFull("gpu0: 12 GiB are free")
    assert main(["bench", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "device_full"
    assert "hwdash: gpu0: 12 GiB are free" in err
    client.unreachable = True
    assert main(["bench", "--history"]) == 4


def test_history(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(world(REPORT, replace(REPORT, id="b2", device="gpu1", device_key="k1")))
    assert main(["bench", "--history", "--json"]) == 0
    assert [item["id"] for item in json.loads(capsys.readouterr().out)["reports"]] == ["b1", "b2"]
    assert main(["bench", "--history", "--device", "gpu1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert client.bench_requests == []


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_it_and_the_daemon_is_free() -> None:
    with home() as environment:
        run = [sys.executable, "-m", "hwdash"]
        with subprocess.Popen([sys.executable, str(DAEMON)], env=environment) as daemon:
            try:
                _wait_for(Path(environment["XDG_RUNTIME_DIR"]) / "hwdash" / "hwdash.sock")
                primary, terminal = os.openpty()
                bench = subprocess.Popen(
                    [*run, "bench", "--device", "gpu0", "--model", "echo"], env=environment, stderr=terminal
                )
                os.close(terminal)
                told = b""
                while b"looking at the idle device" not in told:
                    told += os.read(primary, 1000)
                bench.send_signal(signal.SIGINT)
                assert bench.wait(60) == 130
                os.close(primary)
                # It was waiting with the device for itself: a second one is let in at once.
                short = ["bench", "--device", "gpu0", "--model", "echo", "--batch", "1", "--json"]
                again = subprocess.run(
                    [*run, *short], env=environment, capture_output=True, text=True, timeout=120, check=False
                )
                assert again.returncode == 0, again.stderr
                assert json.loads(again.stdout)["dtypes"][0]["decode"][0]["batch"] == 1
            finally:
                daemon.terminate()
                daemon.wait(30)
