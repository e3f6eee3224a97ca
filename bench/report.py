"""Where figures go: one JSON file a benchmark in bench/results, and a short table on stdout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("hwdash", "textual", "torch", "transformers", "nvidia-ml-py", "fastapi", "uvicorn", "nvitop")


@dataclass(frozen=True)
class Figure:
    """One result with its goal. ``met`` compares them in the direction that ``at_most`` says."""

    name: str
    value: float | None
    goal: float
    unit: str
    at_most: bool = True

    @property
    def met(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "packages": versions,
    }


def write(name: str, figures: list[Figure], raw: object) -> None:
    """Print *figures* and write them, with *raw* measurements, to ``bench/results/NAME.json``."""
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.4g} {figure.unit}"
        sign = "<=" if figure.at_most else ">="
        print(f"{'ok  ' if figure.met else 'MISS'}  {figure.name}: {value} (goal {sign} {figure.goal:g})")
    RESULTS.mkdir(exist_ok=True)
    data = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "figures": [asdict(figure) | {"met": figure.met} for figure in figures],
        "raw": raw,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
