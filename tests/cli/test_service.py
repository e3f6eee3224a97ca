"""``hwdash status``: the workers."""

from __future__ import annotations

import pytest

from hwdash.cli.main import main
from hwdash.core.status import WorkerState, WorkerStatus
from tests.cli.conftest import Serve
from tests.cli.world import World

LOADED = WorkerStatus(
    "gpu0",
    "synthetic:llama-3.1-8b",
    WorkerState.BUSY,
    1234567,
    "bf16",
    queued=12,
    running=8,
    decoder="library",
    choices=("library: the model is no Llama",),
    memory_bytes=16 * 2**30,
)
DEAD = WorkerStatus(
    "cpu0", "smollm2-135m-instruct", WorkerState.BACKING_OFF, problem="the worker was killed by SIGKILL (9)"
)


def test_the_workers_of_a_status(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(World()).workers = (LOADED, DEAD)
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.startswith(("gpu0 ", "cpu0 "))]
    assert rows == [
        ["gpu0", "synthetic:llama-3.1-8b", "busy", "1234567", "bf16", "library", "8", "12"],
        ["cpu0", "smollm2-135m-instruct", "backing", "off", "-", "-", "-", "0", "0"],
    ]
    assert lines[-1] == "cpu0: smollm2-135m-instruct: the worker was killed by SIGKILL (9)"

    assert main(["status", "-v"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gpu0: ")]
    assert told == [
        "gpu0: synthetic:llama-3.1-8b: 16.0 GiB of weights",
        "gpu0: synthetic:llama-3.1-8b: library: the model is no Llama",
    ]
