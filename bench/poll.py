"""What watching costs: NVML calls and processor time of the daemon, side by side with nvitop and gpustat.

Needs the rig (``RIG=``): its fake NVML library counts calls and takes next to no time itself, so that the processor time
is the program's own. All run in a pty, in turn, and show or publish once a second.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.place import HWDASH, home
from bench.report import Figure, write

GPUS = (1, 8, 64)
CALLS_AT = 8
GOAL = 0.5

Run = dict[str, Any]


def run(rig: Path, seconds: float = 15, rounds: int = 3) -> None:
    """Measure and write ``poll.json``; says why when something that is needed is absent."""
    bench, source = rig / "tui_bench.py", rig / "fake_nvml" / "build.sh"
    peers = {"nvitop": "nvitop --interval 1", "gpustat": "gpustat --interval 1 --no-color"}
    found = {name: path for name in peers if (path := shutil.which(name, path=str(Path(sys.executable).parent)))}
    if not bench.exists() or not source.exists() or "nvitop" not in found or shutil.which("cc") is None:
        print(f"skip  poll: needs {bench}, {source}, a C compiler and nvitop (pip install nvitop)")
        return
    commands = {"hwdash daemon": f"{HWDASH} daemon"}
    commands |= {name: f"{Path(path).parent}/{peers[name]}" for name, path in found.items()}
    raw: dict[str, dict[str, Run]] = {}
    with tempfile.TemporaryDirectory() as library:
        subprocess.run(["sh", str(source), "-o", library], check=True, stdout=subprocess.DEVNULL)
        for count in GPUS:
            scenario = f"devices {count}; * proc {os.getpid()} 500"
            with home(LD_LIBRARY_PATH=library, FAKE_NVML=scenario) as environment:
                raw[str(count)] = _alternate(bench, environment, commands, count, seconds, rounds)
    write("poll", _figures(raw), {"seconds": seconds, "rounds": rounds, "gpus": raw})


def _figures(raw: Mapping[str, Mapping[str, Run]]) -> list[Figure]:
    busy = raw[str(CALLS_AT)]
    ours, theirs = busy["hwdash daemon"], busy["nvitop"]
    figures = [
        Figure(
            f"NVML calls per GPU and second of nvitop's, {CALLS_AT} GPUs", ours["calls"] / theirs["calls"], GOAL, "x"
        ),
        Figure(f"NVML calls per GPU and second, {CALLS_AT} GPUs", ours["calls"], 6.4, ""),
    ]
    for count, programs in raw.items():
        own = programs["hwdash daemon"]["cpu_percent"]
        for name, peer in programs.items():
            if name == "nvitop":  # gpustat stands in the raw figures: with many GPUs it reads every 6 s only
                figures.append(
                    Figure(f"CPU of the daemon, of {name}'s, {count} GPUs", own / peer["cpu_percent"], GOAL, "x")
                )
    return figures


def _alternate(
    bench: Path, environment: Mapping[str, str], commands: Mapping[str, str], count: int, seconds: float, rounds: int
) -> dict[str, Run]:
    """All commands in turn, *rounds* times: the medians of each."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(_measure(bench, environment, command, seconds))
    return {
        name: {
            "cpu_percent": 100 * statistics.median(each["cpu"] for each in found),
            "cpu_percent_runs": [round(100 * each["cpu"], 3) for each in found],
            "calls": statistics.median(each["nvml_s"] for each in found) / count,
            "rss_mb": statistics.median(each["rss_mb"] for each in found),
            "others_busy_cores": statistics.median(each["others"] for each in found),
        }
        for name, found in runs.items()
    }


def _measure(bench: Path, environment: Mapping[str, str], command: str, seconds: float) -> Run:
    arguments = ["--cmd", command, "--seconds", str(seconds), "--size", "80x24", "--rounds", "1", "--json"]
    leave = "q" if "nvitop" in command else "\\x03"
    done = subprocess.run(
        [sys.executable, str(bench), *arguments, "--quit", leave],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    (result,) = json.loads(done.stdout)
    median: Run = result["median"]
    return median
