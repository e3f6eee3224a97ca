"""Other servers with OpenAI's API on this machine, started for a comparison and ended after it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_S = 180.0


@dataclass(frozen=True)
class Server:
    """A server that answers: its name, the base of its API, the model to ask for, and the headers to send."""

    name: str
    url: str
    model: str
    headers: Mapping[str, str]


@contextlib.contextmanager
def transformers_server(checkpoint: Path, dtype: str) -> Iterator[Server]:
    """``transformers serve`` with the checkpoint of hwdash's own model, in the same precision, on the CPU."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(checkpoint)]
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    command += ["--port", str(port), "--device", "cpu", "--dtype", names[dtype]]
    with _running(command, f"http://127.0.0.1:{port}/health", {"HF_HUB_OFFLINE": "1"}):
        yield Server("transformers serve", f"http://127.0.0.1:{port}/v1", str(checkpoint), {})


@contextlib.contextmanager
def llama_server(python: str, gguf: str, threads: int) -> Iterator[Server]:
    """llama.cpp's server (``llama-cpp-python[server]`` of the interpreter *python*) with the 4-bit file of the model."""
    port = free_port()
    command = [python, "-m", "llama_cpp.server", "--model", gguf, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--n_threads", str(threads), "--model_alias", "gguf"]
    with _running(command, f"http://127.0.0.1:{port}/v1/models", {}):
        yield Server("llama-server", f"http://127.0.0.1:{port}/v1", "gguf", {})


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _running(command: Sequence[str], ready_url: str, extra: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **extra},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up")
            time.sleep(0.3)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
