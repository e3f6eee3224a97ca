"""Which engine answers for which device."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device, Runtime
from hwdash.core.errors import EngineError, ServerDown, UnknownModel
from hwdash.core.inference import Generation, Message, PromptRequest, TokenEvent
from hwdash.core.model import ModelShape
from hwdash.core.server import ServerConfig
from hwdash.engine.fake import FakeEngine
from hwdash.engine.fleet import FleetEngine
from tests.engine.conftest import CPU
from tests.openai_server import openai_server


@asynccontextmanager
async def fleet(*servers: ServerConfig) -> AsyncIterator[tuple[FakeEngine, FleetEngine]]:
    workers = FakeEngine()
    engine = FleetEngine(workers, EngineConfig(servers=servers))
    try:
        yield workers, engine
    finally:
        await engine.close()
    assert workers.closed


async def said(engine: FleetEngine, model: str, device: Device) -> str:
    request = PromptRequest((Message("user", "echo"),), model)
    events = [event async for event in engine.generate(request, device)]
    assert isinstance(events[-1], Generation)
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


def served_at(url: str, key: str = "acme:1") -> Device:
    return dataclasses.replace(CPU, key=key, id="npu0", runtime=Runtime(url=url))


async def test_without_servers_all_goes_to_workers() -> None:
    async with fleet() as (workers, engine):
        assert await said(engine, "m", CPU) == "echo"
        assert engine.standing("m", CPU).loaded
        assert engine.standing("m", CPU).server is None
        assert engine.served() == ()
        assert [status.model for status in engine.workers()] == ["m"]
        workers.shapes["m"] = ModelShape(1, 1, 1)
        assert await engine.shape("m") == ModelShape(1, 1, 1)
        workers.unknown.add("x")
        with pytest.raises(UnknownModel):
            await engine.check("x", CPU)


@pytest.mark.parametrize("name", ["cpu0", "host:cpu"])
async def test_a_device_with_a_server_has_both(name: str) -> None:
    async with openai_server(models=("theirs",)) as server, fleet(ServerConfig("s", server.url, device=name)) as made:
        workers, engine = made
        assert engine.standing("theirs", CPU).server is None, "nothing is known of it yet"
        assert await said(engine, "theirs", CPU) == "Hello there"
        assert await said(engine, "ours", CPU) == "echo"
        assert [request.model for request in workers.requests] == ["ours"]
        assert engine.standing("theirs", CPU).server == "s"
        assert engine.standing("ours", CPU).server is None
        assert engine.served() == ("theirs",)
        assert [(status.model, status.device) for status in engine.workers()] == [("ours", "cpu0"), ("theirs", "cpu0")]
        await engine.check("theirs", CPU)
        await engine.prewarm("theirs", CPU)
        await engine.prewarm("ours", CPU)


async def test_a_server_that_went_keeps_its_models() -> None:
    async with openai_server(models=("theirs",)) as server:
        config = ServerConfig("s", server.url, device="cpu0")
        async with fleet(config) as (_, engine):
            await engine.check("theirs", CPU)
            server.list_status = 503
            (remote,) = engine._servers
            await remote.roster.refresh()
            assert "503" in engine.standing("theirs", CPU).problem
            with pytest.raises(ServerDown):
                await engine.check("theirs", CPU)
            assert await said(engine, "ours", CPU) == "echo"
            assert not engine.standing("ours", CPU).problem


async def test_a_server_that_never_was_there_leaves_the_device_to_the_workers() -> None:
    async with openai_server() as server:
        url = server.url
    async with fleet(ServerConfig("s", url, device="cpu0"), ServerConfig("t", url, "cpu0", model="named")) as (
        _,
        engine,
    ):
        assert await said(engine, "any", CPU) == "echo"
        with pytest.raises(ServerDown, match=r"t at .*refuses"):
            await engine.check("named", CPU)


async def test_a_server_that_is_a_device() -> None:
    async with openai_server(models=("theirs",)) as server, fleet(ServerConfig("s", server.url)) as (workers, engine):
        device = served_at(server.url, "server:s")
        assert await said(engine, "theirs", device) == "Hello there"
        with pytest.raises(UnknownModel, match="does not serve ours; it serves: theirs"):
            await engine.check("ours", device)
        assert "does not serve ours" in engine.standing("ours", device).problem
        assert engine.standing("theirs", device).server == "s"
        assert await said(engine, "theirs", CPU) == "echo", "it answers for itself only"
        assert len(workers.requests) == 1


async def test_a_chip_with_a_server() -> None:
    async with openai_server(models=("theirs",)) as server, fleet() as (_, engine):
        chips = [served_at(server.url + "/", f"acme:{number}") for number in range(2)]
        for chip in chips:
            assert await said(engine, "theirs", chip) == "Hello there"
            assert engine.standing("theirs", chip).server == server.url
        assert engine.served() == ("theirs",)
        assert len(engine._by_url) == 1
        assert len(engine.workers()) == 2


async def test_the_configuration_comes_before_a_chips_profile() -> None:
    async with openai_server(models=("theirs",)) as server:
        chip = served_at("http://127.0.0.1:1/v1")
        async with fleet(ServerConfig("s", server.url, device="npu0")) as (_, engine):
            assert await said(engine, "theirs", chip) == "Hello there"
            with pytest.raises(UnknownModel, match="it serves: theirs"):
                await engine.check("ours", chip)


async def test_of_two_servers_on_a_device_the_one_that_serves_the_model() -> None:
    async with openai_server(models=("one",)) as first, openai_server(models=("two",)) as second:
        servers = (ServerConfig("a", first.url, "cpu0"), ServerConfig("b", second.url, "cpu0"))
        async with fleet(*servers) as (_, engine):
            assert await said(engine, "two", CPU) == "Hello there"
            assert len(second.prompts) == 1
            assert engine.standing("one", CPU).server == "a"
            assert engine.standing("two", CPU).server == "b"
            assert sorted(engine.served()) == ["one", "two"]


async def test_what_fails_to_end_does_not_keep_the_others_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("boom")

    async with openai_server() as server, fleet(ServerConfig("s", server.url, device="cpu0")) as (workers, engine):
        (remote,) = engine._servers
        whole = remote.close
        monkeypatch.setattr(remote, "close", broken)
        await engine.close()
        assert workers.closed
        assert "boom" in caplog.text
        await whole()


async def test_after_its_end_nothing_is_taken() -> None:
    async with fleet() as (_, engine):
        await engine.close()
        with pytest.raises(EngineError, match="shutting down"):
            await engine.check("m", CPU)
