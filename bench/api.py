"""Streaming ``/v1/chat/completions`` over TCP: against the worker driven directly, ``transformers serve`` and llama-server.

All hold the same model; the same prompt goes to one after the other, round by round, so that a noisy neighbour hits
all of them. llama-server is left out unless ``HWDASH_TEST_LLAMA_PYTHON`` (an interpreter with
``llama-cpp-python[server]``) and ``HWDASH_TEST_GGUF`` (the model's file) are set; its weights have 4 bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from bench.peer import Server, llama_server, transformers_server
from bench.place import HWDASH, home
from bench.report import Figure, write
from bench.streaming import PROMPT, TOKENS, Run
from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.paths import paths_from
from hwdash.engine.placement import placement_of
from hwdash.sources.host import HostSource

DIRECT = "worker, driven directly"
OURS = "hwdash"


def run(rounds: int = 9) -> None:
    """Measure and write ``api.json``."""
    with home() as environment:
        checkpoint = paths_from(environment).models / DEFAULT_MODEL
        if not (checkpoint / "manifest.json").exists():
            print(f"skip  api: needs the default model; run: hwdash models pull {DEFAULT_MODEL}")
            return
        runs, dtype = _measure(environment, checkpoint, rounds)
    ratios = [
        mine["tokens_per_s"] / theirs["tokens_per_s"] for mine, theirs in zip(runs[OURS], runs[DIRECT], strict=True)
    ]
    added = [mine["ttft_s"] - theirs["ttft_s"] for mine, theirs in zip(runs[OURS], runs[DIRECT], strict=True)]
    figures = [
        Figure(
            "tokens/s through TCP, daemon and worker, of the worker's driven directly",
            statistics.median(ratios),
            0.95,
            "x",
            at_most=False,
        ),
        Figure("added time to first token", statistics.median(added) * 1000, 15, "ms"),
    ]
    for name, found in runs.items():
        rate, ttft = (statistics.median(item[key] for item in found) for key in ("tokens_per_s", "ttft_s"))
        print(f"      {name}: {rate:.1f} tok/s, {ttft * 1000:.0f} ms to first token")
    write("api", figures, {"dtype": dtype, "tokens": TOKENS, "prompt": PROMPT, "runs": runs})


def _measure(environment: Mapping[str, str], checkpoint: Path, rounds: int) -> tuple[dict[str, list[Run]], str]:
    host = HostSource()
    placement = placement_of(host.discover()[0])
    host.close()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_own_server(environment))]
        ask = stack.enter_context(_direct(environment, checkpoint, placement.dtype, placement.environment))
        servers.append(stack.enter_context(transformers_server(checkpoint, placement.dtype)))
        python, gguf = os.environ.get("HWDASH_TEST_LLAMA_PYTHON"), os.environ.get("HWDASH_TEST_GGUF")
        if python and gguf:
            servers.append(stack.enter_context(llama_server(python, gguf, placement.threads or 1)))
        runs: dict[str, list[Run]] = {name: [] for name in (DIRECT, *(server.name for server in servers))}
        client = stack.enter_context(httpx.Client(timeout=300.0, trust_env=False))
        for number in range(rounds + 1):
            found = {DIRECT: ask()} | {server.name: _stream(client, server) for server in servers}
            if number:  # the first round warms all of them up
                for name, figures in found.items():
                    runs[name].append(figures)
    return runs, placement.dtype


@contextlib.contextmanager
def _own_server(environment: Mapping[str, str]) -> Iterator[Server]:
    made = subprocess.run([HWDASH, "token", "create"], env=environment, capture_output=True, text=True, check=True)
    process = subprocess.Popen(
        [HWDASH, "daemon", "--listen", "127.0.0.1:0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        listen = None
        while listen is None:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("the daemon did not come up")
            told = subprocess.run([HWDASH, "status", "--json"], env=environment, capture_output=True, check=False)
            listen = json.loads(told.stdout)["listen"] if told.returncode == 0 else None
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        yield Server(OURS, f"http://{listen}/v1", DEFAULT_MODEL, headers)
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def _direct(
    environment: Mapping[str, str], checkpoint: Path, dtype: str, threads: Mapping[str, str]
) -> Iterator[Callable[[], Run]]:
    command = [sys.executable, "-m", "bench.direct", str(checkpoint), dtype]
    with subprocess.Popen(
        command, env={**environment, **threads}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def ask() -> Run:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps({"prompt": PROMPT, "max_tokens": TOKENS}), file=process.stdin, flush=True)
            answer: Run = json.loads(process.stdout.readline())
            return answer

        yield ask
        process.stdin.close()


def _stream(client: httpx.Client, server: Server) -> Run:
    """One streamed answer: a chunk with text counts as a token, unless the server tells how many there were."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stamps: list[float] = []
    told = 0
    began = time.monotonic()
    with client.stream("POST", f"{server.url}/chat/completions", json=body, headers=server.headers) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data:") or "[DONE]" in line:
                continue
            chunk = json.loads(line[len("data:") :])
            told = (chunk.get("usage") or {}).get("completion_tokens") or told
            if any((choice.get("delta") or {}).get("content") for choice in chunk.get("choices") or ()):
                stamps.append(time.monotonic())
    tokens = told or len(stamps)
    return {
        "ttft_s": stamps[0] - began,
        "tokens_per_s": (tokens - 1) / (stamps[-1] - stamps[0]),
        "tokens": tokens,
    }
