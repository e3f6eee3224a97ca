"""The HTTP surface beside prompts: watching, history, models, and one shape for every error."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.errors import UnknownDevice, UnknownModel
from hwdash.core.wire import loads
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, ask_for, living, until


async def test_ready_only_after_the_first_cycle() -> None:
    source = FakeSource([fake_gpu(0)])
    source.hanging.add(KEY)
    async with living(source) as daemon:
        assert (await daemon.ask("GET", "/health"))[0] == 200
        assert (await daemon.ask("GET", "/ready"))[0] == 503
        source.release()
        await daemon.client.snapshot()
        assert (await daemon.ask("GET", "/ready"))[0] == 200


async def test_devices_have_the_contract_s_form() -> None:
    async with living() as daemon:
        status, _, body = await daemon.ask("GET", "/api/v1/devices")
        devices = json.loads(body)["devices"]
        assert status == 200
        assert devices[0]["id"] == "gpu0"
        assert devices[0]["key"] == KEY


async def test_snapshots_are_ranked_and_stream_newest_first() -> None:
    async with living() as daemon:
        await until(lambda: (s := daemon.service.snapshots.latest) is not None and s.sequence >= 3)
        async with aclosing(daemon.client.stream()) as stream:
            first = await anext(stream)
            second = await anext(stream)
        assert first.sequence >= 3
        assert second.sequence > first.sequence
        assert first.ranking is not None
        assert first.ranking.ranked[0].device == "gpu0"


async def test_a_subscriber_that_does_not_read_holds_up_nobody() -> None:
    source = FakeSource([fake_gpu(n) for n in range(16)])
    async with living(source) as daemon:
        reader, writer = await asyncio.open_unix_connection(daemon.socket, limit=1024)
        writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with aclosing(daemon.client.stream()) as stream:
            sequences = [(await anext(stream)).sequence for _ in range(20)]
        assert sequences == sorted(sequences)
        writer.transport.abort()


async def test_status_names_what_is_degraded() -> None:
    config = Config(engine=EngineConfig(prewarm=("echo@gpu9",)))
    async with living(config=config) as daemon:
        await until(lambda: bool(daemon.service.status().problems))
        status = await daemon.client.status()
        assert "prewarm echo@gpu9: no device 'gpu9'" in status.problems[0]
        assert status.interval_s == 0.1
        assert json.loads((await daemon.ask("GET", "/api/v1/status"))[2])["listen"] is None


async def test_prewarm_loads_what_the_configuration_names() -> None:
    async with living(config=Config(engine=EngineConfig(prewarm=("echo", "other@gpu0")))) as daemon:
        await until(lambda: len(daemon.service.status().workers) == 2)
        assert {worker.model for worker in (await daemon.client.status()).workers} == {"echo", "other"}


async def test_latency_of_one_device_by_id_or_key_or_of_all() -> None:
    async with living(engine=FakeEngine(delay_s=0.001)) as daemon:
        async for _ in daemon.client.prompt(ask_for()):
            pass
        for name in ("gpu0", KEY, None):
            history = await daemon.client.latency(3600, name, 10)
            assert [(series.device, series.model) for series in history.series] == [("gpu0", MODEL)]
            assert history.series[0].summary.requests == 1
        with pytest.raises(UnknownDevice, match="gpu7"):
            await daemon.client.latency(3600, "gpu7")


async def test_models_are_listed_fetched_and_removed() -> None:
    async with living() as daemon:
        assert [model.name for model in await daemon.client.models()] == [MODEL]
        steps = [step async for step in daemon.client.pull("org/new")]
        assert steps[-1].done is not None
        await daemon.client.remove_model("org/new")
        with pytest.raises(UnknownModel):
            await daemon.client.remove_model("org/new")
        with pytest.raises(UnknownModel):
            await anext(daemon.client.pull("org/none"))


async def test_a_client_that_leaves_stops_its_pull() -> None:
    async with living() as daemon:
        pull = daemon.client.pull("org/endless")
        await anext(pull)
        await pull.aclose()
        await until(lambda: daemon.models.pull_closed)


async def test_who_watches_is_counted() -> None:
    async with living(FakeSource([fake_gpu()])) as daemon:
        streams = [daemon.client.stream(), daemon.client.stream()]
        for number, stream in enumerate(streams, start=1):
            await anext(stream)
            assert (await daemon.client.status()).watchers == number
        for stream in streams:
            await stream.aclose()
        await until(lambda: daemon.service.status().watchers == 0)


async def test_stop_is_passed_on() -> None:
    async with living() as daemon:
        assert (await daemon.ask("POST", "/api/v1/stop"))[0] == 202
        assert daemon.stop.is_set()


@pytest.mark.parametrize(
    ("method", "target", "status", "words"),
    [
        ("GET", "/nothing", 404, "no such path: /nothing"),
        ("GET", "/%1b%5b2J%0a", 404, "no such path"),
        ("GET", "/api/v1/models/", 405, ""),
        ("PUT", "/api/v1/devices", 405, "does not take PUT"),
        ("GET", "/api/v1/history/latency?since=yesterday", 400, "since"),
        ("GET", "/api/v1/history/latency?since=0", 400, "since"),
        ("GET", "/api/v1/history/latency?since=1h&buckets=9&since=2h", 400, "since: given more than once"),
        ("GET", "/api/v1/events?severity=bad", 400, "severity"),
        ("GET", "/api/v1/history/latency?since=99999999d", 400, "since"),
        ("GET", "/api/v1/history/latency?buckets=0", 400, "buckets"),
        ("GET", "/api/v1/history/latency?buckets=x", 400, "buckets"),
        ("GET", "/api/v1/history/latency?device=gpu9", 404, "gpu9"),
        ("POST", "/api/v1/models/pull", 400, "body"),
        ("DELETE", "/api/v1/models/none", 404, "none"),
        ("GET", "/docs", 404, ""),
    ],
)
async def test_every_error_has_one_shape(method: str, target: str, status: int, words: str) -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        got, head, body = await daemon.ask(method, target)
        error = loads(body)["error"]
        assert got == status
        assert set(error) == {"message", "type", "code", "param"}
        assert words in error["message"]
        assert error["type"] == "invalid_request_error"
        assert not any(ord(letter) < 32 for letter in error["message"])
        assert "content-type: application/json" in head


async def test_noise_on_the_socket_does_no_harm() -> None:
    async with living() as daemon:
        for noise in (b"\x00\xff\x16\x03\x01" * 100, b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000, b"\r\n" * 50):
            reader, writer = await asyncio.open_unix_connection(daemon.socket)
            writer.write(noise)
            writer.write_eof()
            with suppress(OSError):
                await reader.read()
            writer.transport.abort()
        assert (await daemon.client.status()).pid
