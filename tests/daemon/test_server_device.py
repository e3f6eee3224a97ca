"""A daemon whose devices are answered for by servers, put together as it really is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from hwdash.core.config import Config, EngineConfig, MonitorConfig
from hwdash.core.errors import ServerDown
from hwdash.core.inference import FinishedEvent, FinishReason, InferenceRecord, TokenEvent
from hwdash.core.paths import paths_from
from hwdash.core.server import ServerConfig
from hwdash.daemon.compose import compose
from hwdash.daemon.doctor_source import examine_sources
from hwdash.daemon.parts import Parts
from hwdash.daemon.service import Identity, Service
from hwdash.sources.server import ServerSource
from tests.daemon.living import ask_for
from tests.openai_server import OpenAiServer, openai_server, refuse


@asynccontextmanager
async def serving(root: Path, *servers: ServerConfig) -> AsyncIterator[Service]:
    """A service without hardware, over *servers*."""
    paths = paths_from({"HOME": str(root), "XDG_STATE_HOME": str(root / "state")})
    paths.state.mkdir(parents=True)
    config = Config(monitor=MonitorConfig(interval_s=0.1), engine=EngineConfig(servers=servers))
    service = await compose(config, paths, Identity("/s"), Parts())
    try:
        await service.start()
        async with asyncio.timeout(30):
            while not any(status.device.id == "other0" for status in (await service.snapshot()).devices):
                await asyncio.sleep(0.01)
        yield service
    finally:
        await service.close()


async def prompted(service: Service, **changes: object) -> tuple[str, InferenceRecord]:
    async with asyncio.timeout(30):
        events = [event async for event in service.prompt(ask_for(**({"model": "theirs"} | changes)))]  # type: ignore[arg-type]
    assert isinstance(events[-1], FinishedEvent)
    return "".join(event.text for event in events if isinstance(event, TokenEvent)), events[-1].record


def _over(root: Path, server: OpenAiServer) -> AbstractAsyncContextManager[Service]:
    return serving(root, ServerConfig("s", server.url))


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.setenv("HWDASH_SYSROOT", str(tmp_path / "root"))


@pytest.mark.usefixtures("bare_machine")
async def test_a_server_for_a_device_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    async with openai_server(models=("theirs",)) as server:
        lost = ServerConfig("lost", server.url, device="gpu9")
        bound = ServerConfig("bound", server.url, device="other0")
        async with serving(tmp_path, ServerConfig("s", server.url), lost, bound) as service:
            (problem,) = [words for words in service.status().problems if "[[engine.servers]]" in words]
            assert problem.startswith(f"lost at {server.url} answers for no device: there is no gpu9")


@pytest.mark.usefixtures("bare_machine")
async def test_a_prompt_to_a_server_has_a_record_like_any_other(tmp_path: Path) -> None:
    async with openai_server(models=("theirs",)) as server, _over(tmp_path, server) as service:
        text, record = await prompted(service, device="other0")
        assert text == "Hello there"
        assert (record.device, record.device_key, record.model) == ("other0", "server:s", "theirs")
        assert (record.finish_reason, record.tokens.prompt, record.tokens.completion) == (FinishReason.STOP, 7, 2)
        assert record.timing.ttft_s is not None
        assert record.energy is None
        text, record = await prompted(service)
        assert (text, record.route.requested) == ("Hello there", "auto")
        assert "theirs" in await service.model_names()
        server.script = refuse(500, {"error": "broken"})
        with pytest.raises(ServerDown, match=r"s at http.*broken"):
            await prompted(service, device="other0")


def test_doctor_tells_whether_a_server_answers() -> None:
    (check,) = examine_sources([ServerSource([ServerConfig("s", "http://127.0.0.1:9/v1")])], [], 0.0)
    assert check.verdict.value == "fail"
    assert "s at http://127.0.0.1:9/v1 refuses the connection" in check.words


async def test_doctor_is_content_with_one_that_does() -> None:
    async with openai_server() as server:
        source = ServerSource([ServerConfig("s", server.url)])
        (check,) = await asyncio.to_thread(lambda: list(examine_sources([source], [], 0.0)))
    assert (check.verdict.value, check.words) == ("ok", f"s: answers at {server.url}")


def test_without_a_server_nothing_of_http_clients_is_loaded() -> None:
    script = """
import sys
from pathlib import Path
from hwdash.core.config import EngineConfig
from hwdash.daemon import compose
from hwdash.engine.fake import FakeEngine
from hwdash.engine.fleet import FleetEngine
from hwdash.sources.builtin import builtin_sources
builtin_sources(Path("/"))
FleetEngine(FakeEngine(), EngineConfig())
print(*sorted({"httpx", "httpcore", "http.client"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
