"""How near decoding comes to what the chip can do, beside ``generate`` as it comes, each pair in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hwdash
from bench.report import Figure, write
from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.paths import paths_from

SHAPES = Path(hwdash.__file__).parent / "engine" / "shape_config"
_TIMEOUT_S = 900


def run() -> None:
    """The default model on the CPU; writes ``decode.json``."""
    path = paths_from(os.environ).models / DEFAULT_MODEL
    if not (path / "manifest.json").exists():
        print(f"skip  decode: needs the default model; run: hwdash models pull {DEFAULT_MODEL}")
        return
    common = {"path": str(path), "synthetic": False, "device": "cpu", "batches": [1, 4], "tokens": 32}
    raw = {way: _measure({**common, "dtype": "fp32", "quantize": way == "int8"}) for way in ("fp32", "int8")}
    reference = raw["fp32"]["generate"]["as it comes"]
    exact, eight = (raw[way]["batches"]["1"]["tokens_per_s"] for way in ("fp32", "int8"))
    figures = [
        Figure("decoding with exact weights to generate in fp32", exact / reference, 1.0, "x", at_most=False),
        Figure("decoding with int8 weights to generate in fp32", eight / reference, 4.0, "x", at_most=False),
    ]
    write("decode", figures, raw)


def run_gpu() -> None:
    """Synthetic models on the first CUDA device; writes ``decode_gpu.json``."""
    common = {"synthetic": True, "device": "cuda:0", "dtype": "bf16", "tokens": 128}
    llama = _measure({**common, "path": str(SHAPES / "llama-3.1-8b.json"), "batches": [1, 8, 32, 64]})
    experts = _measure({**common, "path": str(SHAPES / "gpt-oss-20b.json"), "batches": [1, 8, 32]})
    one, many = llama["batches"]["1"], llama["batches"]["32"]
    share = one["read_bytes_per_s"] / llama["copy_bytes_per_s"]
    mixed = experts["batches"]["1"]["tokens_per_s"]
    eager = llama["generate"]["as it comes"]
    figures = [
        Figure("llama-3.1-8b batch 1 to eager generate", one["tokens_per_s"] / eager, 4.5, "x", at_most=False),
        Figure("llama-3.1-8b batch 1, share of the copy bandwidth", share, 0.7, "", at_most=False),
        Figure("capture of a step", llama["capture_s"], 1.0, "s"),
        Figure("llama-3.1-8b batch 32 to batch 1", many["tokens_per_s"] / one["tokens_per_s"], 24, "x", at_most=False),
        Figure("llama-3.1-8b gaps, p99 to p50", one["itl_p99_s"] / one["itl_p50_s"], 1.2, "x"),
        Figure(
            "gpt-oss-20b to generate as it comes", mixed / experts["generate"]["as it comes"], 3, "x", at_most=False
        ),
        Figure("cost of a token outside the step", llama["streaming"]["per_token_s"] * 1e6, 100, "us"),
    ]
    write("decode_gpu", figures, {"llama-3.1-8b": llama, "gpt-oss-20b": experts})


def _measure(order: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.decoding", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise SystemExit(f"bench.decoding failed: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for batch, figures in told["batches"].items():
        name = f"{Path(order['path']).stem} {told['dtype']} ({told['decoder']}) batch {batch}"
        print(f"{name}: {figures['tokens_per_s']:.1f} tok/s, p50 {figures['itl_p50_s'] * 1e3:.2f} ms")
    print(f"generate: {told['generate']}")
    return told
