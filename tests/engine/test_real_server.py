"""The engine over real servers with the default model: transformers' own and llama.cpp's.

The latter is found by ``HWDASH_TEST_LLAMA_PYTHON``, an interpreter that has ``llama-cpp-python[server]``, and
``HWDASH_TEST_GGUF``, the default model in that form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.errors import ServerDown, UnknownModel
from hwdash.core.inference import FinishReason, Generation, Message, PromptRequest, TokenEvent
from hwdash.core.server import ServerConfig
from hwdash.engine.remote import RemoteEngine
from tests.engine.conftest import CPU

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

QUESTION = "What is the capital of France? Answer in one sentence."
_START_S = 180


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def _started(command: list[str], port: int, log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    try:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if process.poll() is not None:
                raise AssertionError(f"the server ended: {log.read_text()[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def transformers_serve(default_model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerConfig]:
    place = tmp_path_factory.mktemp("transformers")
    model, port = str(default_model_root / DEFAULT_MODEL), _free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place)}
    options = ["--port", str(port), "--device", "cpu"]
    with _started([*command, *options], port, place / "log", offline):
        yield ServerConfig("transformers", f"http://127.0.0.1:{port}/v1", model=model)


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerConfig]:
    python, model = os.environ.get("HWDASH_TEST_LLAMA_PYTHON"), os.environ.get("HWDASH_TEST_GGUF")
    if not python or not model:
        pytest.skip("HWDASH_TEST_LLAMA_PYTHON and HWDASH_TEST_GGUF do not name llama-cpp-python[server] and a model")
    place, port = tmp_path_factory.mktemp("llama"), _free_port()
    command = [python, "-m", "llama_cpp.server", "--model", model, "--port", str(port), "--n_ctx", "512"]
    with _started(command, port, place / "log", {}):
        yield ServerConfig("llama", f"http://127.0.0.1:{port}/v1", model=DEFAULT_MODEL, slots=1)


@pytest.fixture(params=["transformers_serve", "llama_server"])
def server(request: pytest.FixtureRequest) -> ServerConfig:
    config: ServerConfig = request.getfixturevalue(request.param)
    return config


def asking(server: ServerConfig, text: str = QUESTION, **more: object) -> PromptRequest:
    assert server.model is not None
    return PromptRequest((Message("user", text),), server.model, **more)  # type: ignore[arg-type]


async def answered(engine: RemoteEngine, request: PromptRequest) -> tuple[str, Generation]:
    events = [event async for event in engine.generate(request, CPU)]
    assert isinstance(events[-1], Generation)
    return "".join(event.text for event in events if isinstance(event, TokenEvent)), events[-1]


async def test_an_answer(server: ServerConfig) -> None:
    engine = RemoteEngine(server)
    try:
        await engine.check(server.model or "", CPU)
        text, end = await answered(engine, asking(server, max_tokens=64))
        print(f"{server.name}: {text!r} {end}")
        assert "Paris" in text
        assert end.finish_reason is FinishReason.STOP
        assert end.tokens.completion >= 5
        assert end.timing.ttft_s is not None
        assert end.timing.tokens_per_s is not None
        assert end.timing.itl_p50_s is not None
        assert not engine.standing(server.model or "", CPU).problem
        text, end = await answered(engine, asking(server, max_tokens=5))
        assert (end.finish_reason, end.tokens.completion) == (FinishReason.LENGTH, 5)
        text, end = await answered(engine, asking(server, "Once upon a", max_tokens=5, template=False))
        assert (end.finish_reason, end.tokens.completion) == (FinishReason.LENGTH, 5)
        assert text
    finally:
        await engine.close()


async def test_leaving_in_the_middle_frees_the_server(server: ServerConfig) -> None:
    engine = RemoteEngine(server)
    try:
        request = asking(server, "Count from 1 to 1000.", max_tokens=400)
        async with aclosing(engine.generate(request, CPU)) as events:
            async for event in events:
                if isinstance(event, TokenEvent) and event.tokens >= 3:
                    break
        left_at = time.monotonic()
        _, end = await answered(engine, asking(server, max_tokens=3))
        print(f"{server.name}: answered {time.monotonic() - left_at:.2f} s after leaving, TTFT {end.timing.ttft_s}")
    finally:
        await engine.close()


async def test_what_cannot_be_is_told(server: ServerConfig) -> None:
    engine = RemoteEngine(server)
    try:
        with pytest.raises(UnknownModel, match="does not serve no-such-model") as unknown:
            await engine.check("no-such-model", CPU)
        print(unknown.value)
    finally:
        await engine.close()


async def test_a_prompt_that_is_too_long(llama_server: ServerConfig) -> None:
    engine = RemoteEngine(llama_server)
    try:
        with pytest.raises(ServerDown, match=r"is the prompt too long\?"):
            await answered(engine, asking(llama_server, "word " * 20_000, max_tokens=3))
        assert "Paris" in (await answered(engine, asking(llama_server)))[0]
    finally:
        await engine.close()


async def test_the_servers_own_names(llama_server: ServerConfig) -> None:
    engine = RemoteEngine(ServerConfig("llama", llama_server.url))
    try:
        await engine.roster.refresh()
        (name,) = engine.served()
        assert name == os.environ["HWDASH_TEST_GGUF"]
        with pytest.raises(UnknownModel, match="it serves"):
            await engine.check(DEFAULT_MODEL, CPU)
    finally:
        await engine.close()


async def test_a_server_that_is_not_the_api(llama_server: ServerConfig) -> None:
    engine = RemoteEngine(ServerConfig("llama", llama_server.url.removesuffix("/v1")))
    try:
        with pytest.raises(UnknownModel, match="has no such path"):
            await answered(engine, asking(llama_server))
    finally:
        await engine.close()


async def test_several_at_once(server: ServerConfig) -> None:
    engine = RemoteEngine(server)
    try:
        requests = [asking(server, max_tokens=16) for _ in range(3)]
        answers = await asyncio.gather(*(answered(engine, request) for request in requests))
        assert all("Paris" in text for text, _ in answers)
    finally:
        await engine.close()
