"""The dashboard in a real pty with eight busy GPUs, side by side with nvitop. Needs the rig (``RIG=``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.place import HWDASH, daemon, home, resident_mb
from bench.report import Figure, write

EMPTY = "import textual.app, textual.widgets as w; A = type('A', (textual.app.App,), {'compose': lambda self: iter([w.Static('GPU: ready')]), 'BINDINGS': [('q', 'quit', '')]}); A().run()"
BYTES_GOAL = {"80x24": 3000.0, "160x48": 8000.0}


def run(rig: Path, seconds: float = 20, rounds: int = 3) -> None:
    """Measure and write ``dashboard.json``; says why when something that is needed is absent."""
    bench = rig / "tui_bench.py"
    nvitop = shutil.which("nvitop", path=str(Path(sys.executable).parent))
    if not bench.exists() or nvitop is None or shutil.which("cc") is None:
        print(f"skip  dashboard: needs {bench}, a C compiler and nvitop (pip install nvitop)")
        return
    with tempfile.TemporaryDirectory() as library:
        subprocess.run(
            ["sh", str(rig / "fake_nvml" / "build.sh"), "-o", library], check=True, stdout=subprocess.DEVNULL
        )
        fake = {"LD_LIBRARY_PATH": library, "FAKE_NVML": "devices 8"}
        figures: list[Figure] = []
        raw: dict[str, Any] = {}
        for size, bytes_goal in BYTES_GOAL.items():
            with home(**fake) as environment:
                raw[size] = _measure(bench, environment, size, seconds, rounds, [f"{nvitop} --interval 1", HWDASH])
            theirs, ours = (item["median"] for item in raw[size])
            figures += [
                Figure(f"{size}: CPU of UI and daemon, of nvitop's", ours["cpu"] / theirs["cpu"], 1.5, "x"),
                Figure(f"{size}: bytes to the terminal", ours["bytes_s"], bytes_goal, "B/s"),
            ]
        with home(**fake) as environment, daemon(environment) as pid:
            empty = f'{sys.executable} -c "{EMPTY}"'
            commands = [f"{nvitop} --interval 1", empty, HWDASH]
            raw["attached"] = _measure(bench, environment, "80x24", 6, rounds, commands)
            raw["daemon_rss_mb"] = resident_mb(pid)
        nvitop_run, empty_run, ours = (item["median"] for item in raw["attached"])
        figures += [
            Figure("first full frame, daemon running", ours["painted_s"], 0.3, "s"),
            Figure("first full frame, of an empty Textual app's", ours["painted_s"] / empty_run["painted_s"], 1.9, "x"),
            Figure("resident memory of the UI", ours["rss_mb"] * 2**20 / 1e6, 60, "MB"),
            Figure("resident memory of the daemon, 8 GPUs", raw["daemon_rss_mb"], 75, "MB"),
        ]
        raw["nvitop_painted_s"] = nvitop_run["painted_s"]
    write("dashboard", figures, raw)


def _measure(
    bench: Path, environment: Mapping[str, str], size: str, seconds: float, rounds: int, commands: list[str]
) -> list[dict[str, Any]]:
    arguments = [
        sys.executable,
        str(bench),
        "--json",
        "--size",
        size,
        "--seconds",
        str(seconds),
        "--rounds",
        str(rounds),
    ]
    if os.geteuid() == 0:
        arguments.append("--boost")
    for command in commands:
        arguments += ["--cmd", command]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, check=True)
    # Results are committed: commands without the folders of the machine that ran them.
    folder = f"{Path(sys.executable).parent}{os.sep}"
    result: list[dict[str, Any]] = json.loads(done.stdout.decode().replace(folder, ""))
    return result
