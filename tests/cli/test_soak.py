"""`hwdash soak` as it is typed: the report, the line that tells of it, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from hwdash.cli.main import main
from hwdash.cli.soak_text import history_text, report_text
from hwdash.core.errors import DaemonUnreachable, EngineError
from hwdash.core.inference import Stage, StageEvent
from hwdash.core.soak import SoakEnd, SoakFinished, SoakHistory, SoakReport, SoakRequest, SoakSample, SoakStarted
from hwdash.core.soak_report import report_of
from hwdash.core.wire import from_wire, loads
from tests.cli.conftest import Serve
from tests.cli.world import NOW, World
from tests.place import home

STARTED = SoakStarted(
    "s1", NOW, "gpu0", "fake:gpu-0", "Fake GPU 0", "synthetic:llama-3.1-8b", "decode", "tok/s", "bf16", 8, 89.0
)


def samples(count: int = 120) -> tuple[SoakSample, ...]:
    return tuple(
        SoakSample(
            float(second),
            611.0 if second < 45 else 540.0,
            min(71.0, 40.0 + second),
            None,
            300.0 + min(400.0, 10.0 * second),
            1.98e9 if second < 42 else 1.395e9,
            () if second < 42 else ("power_cap",),
        )
        for second in range(1, count + 1)
    )


def finished(end: SoakEnd = SoakEnd.TIME, problem: str = "") -> SoakReport:
    return report_of(STARTED, samples(), end, 120.0, 81_234.0, problem)


def world(*events: object) -> World:
    client = World()
    client.soak_events = (
        StageEvent(Stage.LOADING, "gpu0", "reading the weights", 0.5),
        STARTED,
        *samples(),
        *events,  # type: ignore[arg-type]
    )
    return client


def test_the_report_stands_on_stdout_and_its_course_on_stderr(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(world(SoakFinished(finished())))
    code = main(["soak", "--device", "gpu0", "--seconds", "2m", "--batch", "16", "--until-throttled"])
    out, err = capsys.readouterr()
    assert code == 0
    assert client.soak_requests == [SoakRequest("gpu0", "", "decode", 120.0, True, None, 16, None)]
    words = " ".join(out.split())
    assert "throttled after 42 s (power cap): clock 1980 → 1395 MHz, 611 → 540 tok/s (-12%)" in words
    rows = [line.split()[0] for line in out.splitlines() if re.match(r"\w+ +[0-9]+–[0-9]+ ", line)]
    assert rows == ["start", "before", "after", "steady"]
    assert "power cap: 66% of the time" in out
    assert "energy 81.2 kJ; temperature limit 89 °C" in words
    curves = {line.split()[0]: line for line in out.splitlines() if "▁" in line}
    assert set(curves) == {"temp", "power", "clock", "rate"}
    assert curves["clock"].endswith("1395 to 1980 MHz")
    assert curves["rate"].index("▁") > curves["rate"].index("█")
    assert max(map(len, out.splitlines())) <= 80
    told = err.splitlines()
    assert told[0] == "gpu0: loading: reading the weights"
    assert told[1] == "gpu0: 1 s of 2 min · 611 tok/s · 41 °C · 310 W · 1980 MHz"
    assert told[-1].endswith("· power cap")
    assert len(told) == 1 + 120 // 5


def test_json_is_one_document_and_nothing_else(serve: Serve, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    serve(world(SoakFinished(finished(SoakEnd.LOST))))
    assert main(["soak", "--device", "gpu0", "--json"]) == 1
    assert from_wire(loads(capsysbinary.readouterr().out), SoakReport).end is SoakEnd.LOST


def test_a_daemon_that_breaks_off_leaves_the_report_so_far(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(world())
    client.failure = DaemonUnreachable("the daemon at /s broke off the soak")
    assert main(["soak", "--device", "gpu0"]) == 4
    out, _ = capsys.readouterr()
    assert "failed after 0 s (the daemon at /s broke off the soak); throttled after 42 s" in " ".join(out.split())


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_before_anything_was_measured_is_the_error(
    serve: Serve, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    client = serve(World())
    client.failure = EngineError("gpu0: out of memory")
    assert main(["soak", "--device", "gpu0", *(["--json"] if as_json else [])]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "hwdash: gpu0: out of memory"
    assert (loads(out)["error"]["message"] if as_json else out) == ("gpu0: out of memory" if as_json else "")


def test_a_device_must_be_named(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World())
    assert main(["soak"]) == 2
    assert "soak needs --device ID" in capsys.readouterr().err


def test_history_tells_each_earlier_soak(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(world(SoakFinished(finished())))
    assert main(["soak", "--history", "--device", "gpu0"]) == 0
    out, _ = capsys.readouterr()
    assert "gpu0 Fake GPU 0 · decode · synthetic:llama-3.1-8b · batch 8 · bf16 · 2 min" in out
    assert "  throttled after 42 s (power cap)" in out
    assert history_text(SoakHistory(()), plain=True) == "no soak yet; start one with: hwdash soak --device ID"


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    text = report_text(finished(), plain=True)
    assert text.isascii()
    assert "?" not in text
    assert "1980 -> 1395 MHz" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_a_report_of_nearly_nothing_has_no_empty_parts() -> None:
    bare = report_of(STARTED, [], SoakEnd.CANCELLED, 3.0)
    text = report_text(bare, plain=False)
    assert "\n\n\n" not in text
    assert "n/a" not in text
    one = report_of(STARTED, [SoakSample(1.0, 5.0)], SoakEnd.TIME, 1.0)
    assert "start" in report_text(one, plain=False)


@pytest.fixture
def place() -> Iterator[Mapping[str, str]]:
    with home() as environment:
        yield environment


def _processes(environment: Mapping[str, str]) -> set[int]:
    """The processes that were started in that home."""
    mark = f"XDG_STATE_HOME={environment['XDG_STATE_HOME']}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def test_ctrl_c_ends_the_load_and_prints_the_report_so_far(place: Mapping[str, str]) -> None:
    """The real command, daemon and worker, on the processor, with a model that is drawn."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hwdash", "soak", "--device", "cpu0", "--seconds", "10m", "--batch", "1"],
        env=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        told = ""
        while "tok/s" not in told:
            told = process.stderr.readline()
            assert told, f"ended before it measured anything: {process.communicate()}"
        # The command, its daemon, the worker and whatever that has started.
        assert len(_processes(place)) >= 3
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "cancelled after" in out
        assert "tok/s" in out
        deadline = time.monotonic() + 20
        while left := _processes(place):
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
        for pid in _processes(place):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "201", "hot"])
def test_a_limit_that_is_no_temperature_is_refused(
    value: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(world())
    assert main(["soak", "--device", "gpu0", "--max-temperature", value]) == 2
    assert f"--max-temperature: {value} is no temperature from 1 to 200" in capsys.readouterr().err
    assert not client.soak_requests
