"""What socket, daemon and worker cost against the same loop in one process: tokens/s and time to first token.

Both hold the default model; requests go to one and the other in turn, so that a noisy neighbour hits both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from bench.place import daemon, home
from bench.report import Figure, write
from hwdash.client.client import Client
from hwdash.client.launch import connect
from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.inference import FinishedEvent, Message, PromptRequest, TokenEvent
from hwdash.core.paths import paths_from
from hwdash.engine.placement import placement_of

PROMPT = "Explain in a few sentences why the sky is blue."
TOKENS = 64
Run = dict[str, float]


def run(rounds: int = 15) -> None:
    """Measure and write ``streaming.json``."""
    with home() as environment, daemon(environment):
        root = paths_from(environment).models / DEFAULT_MODEL
        if not (root / "manifest.json").exists():
            print(f"skip  streaming: needs the default model; run: hwdash models pull {DEFAULT_MODEL}")
            return
        ours, direct, dtype = asyncio.run(_alternate(environment, root, rounds))
    ratios = [mine["tokens_per_s"] / theirs["tokens_per_s"] for mine, theirs in zip(ours, direct, strict=True)]
    added = [mine["ttft_s"] - theirs["ttft_s"] for mine, theirs in zip(ours, direct, strict=True)]
    figures = [
        Figure(
            "tokens/s through socket, daemon and worker, of the direct loop's",
            statistics.median(ratios),
            0.95,
            "x",
            at_most=False,
        ),
        Figure("added time to first token", statistics.median(added) * 1000, 10, "ms"),
    ]
    write("streaming", figures, {"dtype": dtype, "tokens": TOKENS, "through_daemon": ours, "direct": direct})


async def _alternate(environment: Mapping[str, str], root: Path, rounds: int) -> tuple[list[Run], list[Run], str]:
    client = connect(paths_from(environment), launch=False)
    ours: list[Run] = []
    direct: list[Run] = []
    try:
        _, dtype = await _through_daemon(client_request(), client)
        command = [sys.executable, "-m", "bench.direct", str(root), dtype]
        snapshot = await client.snapshot()
        threads = placement_of(snapshot.find("cpu0").device).environment
        yardstick = subprocess.Popen(
            command, env={**environment, **threads}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with yardstick:
            assert yardstick.stdin is not None
            assert yardstick.stdout is not None
            yardstick.stdout.readline()
            for number in range(rounds + 1):
                print(json.dumps({"prompt": PROMPT, "max_tokens": TOKENS}), file=yardstick.stdin, flush=True)
                theirs: Run = json.loads(yardstick.stdout.readline())
                mine, _ = await _through_daemon(client_request(), client)
                if number:  # the first pair warms both up
                    direct.append(theirs)
                    ours.append(mine)
            yardstick.stdin.close()
    finally:
        await client.close()
    return ours, direct, dtype


def client_request() -> PromptRequest:
    """The request that both sides answer."""
    return PromptRequest((Message("user", PROMPT),), DEFAULT_MODEL, "cpu0", max_tokens=TOKENS)


async def _through_daemon(request: PromptRequest, client: Client) -> tuple[Run, str]:
    stamps: list[float] = []
    dtype = ""
    began = time.monotonic()
    async with aclosing(client.prompt(request)) as events:
        async for event in events:
            match event:
                case TokenEvent():
                    stamps.append(time.monotonic())
                case FinishedEvent():
                    dtype = event.record.dtype or "fp32"
    return {
        "ttft_s": stamps[0] - began,
        "tokens_per_s": (len(stamps) - 1) / (stamps[-1] - stamps[0]),
        "tokens": len(stamps),
    }, dtype
