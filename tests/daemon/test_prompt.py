"""A prompt through socket, service and engine: its events, its record, and what it leaves behind when it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwdash.core.device import Device
from hwdash.core.errors import (
    DaemonUnreachable,
    HwdashError,
    Overloaded,
    UnknownDevice,
    UnknownModel,
    UsageError,
    WorkerDied,
)
from hwdash.core.inference import (
    EngineEvent,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    PromptRequest,
    TokenEvent,
)
from hwdash.core.reading import Absent, Reading
from hwdash.core.throttle import ThrottleReason
from hwdash.core.wire import dumps, prompt_to_wire
from hwdash.daemon.body import PromptBody, parse_body
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, Living, ask_for, living, until


async def all_events(daemon: Living, request: PromptRequest) -> list[PromptEvent]:
    async with aclosing(daemon.client.prompt(request)) as events:
        return [event async for event in events]


async def record_of(daemon: Living, request: PromptRequest) -> InferenceRecord:
    *_, last = [event async for event in daemon.service.prompt(request)]
    assert isinstance(last, FinishedEvent)
    return last.record


async def counts(daemon: Living) -> tuple[int, int]:
    """Stored requests and errors."""
    history = await daemon.store.latency(3600, None, 10, {})
    return sum(s.summary.requests for s in history.series), sum(s.summary.errors for s in history.series)


async def test_an_answer_streams_and_its_record_is_stored_before_the_end_is_told() -> None:
    async with living() as daemon:
        stored_at_the_end = (0, 0)
        text = ""
        async for event in daemon.service.prompt(ask_for("one two three")):
            if isinstance(event, TokenEvent):
                text += event.text
            if isinstance(event, FinishedEvent):
                stored_at_the_end = await counts(daemon)
                record = event.record
        assert text == "one two three"
        assert stored_at_the_end == (1, 0)
        assert record.finish_reason is FinishReason.STOP
        assert record.device_key == KEY
        assert record.route.requested == "auto"
        assert record.route.why
        snapshot = daemon.service.snapshots.latest
        assert snapshot is not None
        await until(
            lambda: (s := daemon.service.snapshots.latest) is not None and s.devices[0].last_request is not None
        )


async def test_events_are_the_same_through_the_socket() -> None:
    async with living() as daemon:
        events = await all_events(daemon, ask_for("a b", device="gpu0"))
        assert [event.text for event in events if isinstance(event, TokenEvent)] == ["a", " b"]
        assert isinstance(events[-1], FinishedEvent)
        assert events[-1].record.tokens.completion == 2


async def test_a_client_that_leaves_cancels_the_generation_and_leaves_a_record() -> None:
    engine = FakeEngine(delay_s=0.02)
    async with living(engine=engine) as daemon:
        async with aclosing(daemon.client.prompt(ask_for("word " * 5000, max_tokens=100_000))) as events:
            async for event in events:
                if isinstance(event, TokenEvent):
                    break
        await until(lambda: engine.cancelled == 1)
        async with asyncio.timeout(10):
            while (await daemon.store.last_requests()) or not (await daemon.store.device_keys()):
                await asyncio.sleep(0.01)


async def test_a_client_that_leaves_while_nothing_is_sent_is_noticed() -> None:
    engine = FakeEngine(delay_s=3600)
    async with living(engine=engine) as daemon:
        events = daemon.client.prompt(ask_for())
        await anext(events)
        await events.aclose()
        await until(lambda: engine.cancelled == 1)


async def test_an_error_midway_is_told_last_and_recorded() -> None:
    async with living(engine=FakeEngine(failure=WorkerDied("gpu0: the worker died"), fail_after=1)) as daemon:
        events = daemon.client.prompt(ask_for())
        while not isinstance(await anext(events), TokenEvent):
            pass
        with pytest.raises(WorkerDied, match="the worker died"):
            await anext(events)
        assert (await counts(daemon))[1] == 1


async def test_an_error_before_the_stream_has_its_own_status() -> None:
    class Full(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent]:
            for event in list[EngineEvent]():
                yield event
            raise Overloaded("gpu0: 32 requests wait; try again later")

    async with living(engine=Full()) as daemon:
        with pytest.raises(Overloaded, match="32 requests wait"):
            await all_events(daemon, ask_for())
        status, head, _ = await daemon.ask("POST", "/api/v1/prompt", dumps({"prompt": "x", "model": MODEL}))
        assert status == 429
        assert "retry-after: 1" in head


async def test_a_bug_in_the_engine_is_one_line_for_the_client() -> None:
    class Buggy(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent]:
            for event in list[EngineEvent]():
                yield event
            raise KeyError("secret")

    async with living(engine=Buggy()) as daemon:
        with pytest.raises(HwdashError, match=r"gpu0: internal error; see the log"):
            await all_events(daemon, ask_for())
        assert (await daemon.client.status()).pid


async def test_unknown_names() -> None:
    engine = FakeEngine()
    engine.unknown.add("nope")
    async with living(engine=engine) as daemon:
        with pytest.raises(UnknownDevice, match=r"no device 'gpu7'; there are: gpu0"):
            await all_events(daemon, ask_for(device="gpu7"))
        with pytest.raises(UnknownModel, match="no model 'nope'"):
            await all_events(daemon, ask_for(model="nope"))
        assert await counts(daemon) == (0, 0)


async def test_prompts_that_are_empty_or_too_long() -> None:
    async with living() as daemon:
        with pytest.raises(UsageError, match="the prompt is empty"):
            await all_events(daemon, ask_for("  \n"))
        with pytest.raises(UsageError, match="longer than 1 MiB"):
            await all_events(daemon, ask_for("x" * (2**20 + 1)))
        with pytest.raises(UsageError, match="larger than 8 MiB"):
            await all_events(daemon, ask_for("x" * 10_000_000))


async def test_a_body_over_the_limit_is_refused_unread() -> None:
    async with living() as daemon:
        status, _, body = await daemon.ask("POST", "/api/v1/prompt", headers="Content-Length: 10000000\r\n")
        assert status == 413
        assert "8 MiB" in json.loads(body)["error"]["message"]
        sent, answer = await asyncio.to_thread(pour_until_refused, daemon.socket)
        assert sent < 12 * 2**20
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwdash.daemon.body.BODY_S", 0.05)
    async with living() as daemon:
        status, head, body = await daemon.ask("POST", "/api/v1/prompt", headers="Content-Length: 100\r\n")
        assert status == 408
        assert "connection: close" in head
        assert json.loads(body)["error"]["param"] == "body"


def pour_until_refused(path: Path) -> tuple[int, bytes]:
    """Send an endless chunked body: how many bytes were taken, and the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"POST /api/v1/prompt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 64 * 2**20:
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        return sent, client.recv(65536)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"[" * 100_000, "body"),
        (b'{"prompt": "x", "max_tokens": ' + b"9" * 6000 + b"}", "body"),
        (b'{"prompt": "x", "max_tokens": 0}', "max_tokens"),
        (b'{"prompt": "x", "max_tokens": "7"}', "max_tokens"),
        (b'{"prompt": "x", "max_tokens": true}', "max_tokens"),
        (b'{"prompt": "x", "temperature": 2.1}', "temperature"),
        (b'{"prompt": "x", "temperature": NaN}', "temperature"),
        (b'{"prompt": "x", "top_p": 0}', "top_p"),
        (b'{"prompt": "x", "seed": -1}', "seed"),
        (b'{"prompt": "x", "stop": "a"}', "stop"),
        (json.dumps({"prompt": "x", "stop": ["a"] * 17}).encode(), "stop"),
        (b'{"prompt": "x", "stop": [""]}', "stop.0"),
        (b'{"prompt": "x", "tempreature": 1}', "tempreature"),
        (b'{"prompt": "\\ud800"}', None),
        (b'{"prompt": 5}', "prompt"),
        (b'{"prompt": "x", "messages": [{"role": "user", "content": "y"}]}', "prompt"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"role": "tool", "content": "y"}]}', "messages.0.role"),
        (b"{}", "prompt"),
    ],
)
def test_the_message_names_the_field(body: bytes, field: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_body(body, PromptBody).to_request(MODEL)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    if field is not None:
        assert field in caught.value.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["prompt", "messages", "model", "stop", "role", "content", "seed"]) | st.text(), inner
            )
        ),
    )
)
def test_no_body_gets_past_the_checks_or_breaks_them(value: object) -> None:
    try:
        request = parse_body(dumps(value), PromptBody).to_request(MODEL)
    except UsageError:
        return
    assert request.messages[-1].content.strip()


@given(
    st.builds(
        ask_for,
        st.text(min_size=1).filter(str.strip),
        max_tokens=st.integers(1, 1_000_000),
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1, exclude_min=True),
        seed=st.none() | st.integers(0, 2**63 - 1),
        stop=st.lists(st.text(min_size=1, max_size=20), max_size=16).map(tuple),
        template=st.booleans(),
    )
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_a_client_sends_is_what_the_engine_gets(request: PromptRequest) -> None:
    assert parse_body(dumps(prompt_to_wire(request)), PromptBody).to_request("other") == request


async def test_a_stopping_daemon_ends_its_streams_with_a_word() -> None:
    engine = FakeEngine(delay_s=0.01)
    async with living(engine=engine) as daemon:
        prompt = daemon.client.prompt(ask_for("word " * 50_000, max_tokens=100_000))
        stream = daemon.client.stream()
        await anext(prompt)
        await anext(stream)
        daemon.service.stopping.set()
        with pytest.raises(DaemonUnreachable, match="stopping"):
            async for _ in prompt:
                pass
        with pytest.raises(DaemonUnreachable):
            async for _ in stream:
                pass
        assert engine.cancelled == 1


async def test_energy_and_conditions_come_from_the_devices_own_counters() -> None:
    joules = 1000.0

    def readings(count: int) -> Mapping[str, Reading]:
        nonlocal joules
        joules += 10.0
        return fake_readings(energy_j=joules, temperature_c=50.0 + count % 7, clock_hz=1.5e9)

    source = FakeSource([fake_gpu(0)], {KEY: readings})
    source.flags[KEY] = frozenset({ThrottleReason.POWER_CAP})
    async with living(source, FakeEngine(delay_s=0.1)) as daemon:
        record = await record_of(daemon, ask_for("a b c d e"))
        assert record.energy is not None
        assert record.energy.joules >= 10.0
        assert record.energy.joules_per_token == pytest.approx(record.energy.joules / 5)
        assert record.energy.scope == "device"
        assert record.conditions.throttle == ("power_cap",)
        assert record.conditions.temperature_max_c is not None
        assert record.conditions.temperature_max_c >= 50.0
        assert record.conditions.clock_min_hz == 1.5e9


async def test_a_throttle_counter_that_moved_is_a_condition() -> None:
    source = FakeSource([fake_gpu(0)])
    source.throttle_seconds[KEY] = {ThrottleReason.THERMAL_HW: 5.0, ThrottleReason.POWER_BRAKE: 1.0}
    async with living(source, FakeEngine(delay_s=0.05)) as daemon:
        async for event in daemon.service.prompt(ask_for("a b c")):
            if isinstance(event, TokenEvent):
                source.throttle_seconds[KEY] = {ThrottleReason.THERMAL_HW: 5.2, ThrottleReason.POWER_BRAKE: 1.0}
        assert isinstance(event, FinishedEvent)
        assert event.record.conditions.throttle == ("thermal_hw",)


async def test_without_a_counter_there_is_no_energy() -> None:
    source = FakeSource([fake_gpu(0)], {KEY: fake_readings(energy_j=Absent.NOT_SUPPORTED)})
    async with living(source) as daemon:
        record = await record_of(daemon, ask_for())
        assert record.energy is None


async def test_energy_of_requests_at_the_same_time_is_said_to_be_shared() -> None:
    joules = 0.0

    def readings(_: int) -> Mapping[str, Reading]:
        nonlocal joules
        joules += 1.0
        return fake_readings(energy_j=joules)

    async with living(FakeSource([fake_gpu(0)], {KEY: readings}), FakeEngine(delay_s=0.05)) as daemon:

        async def scope(model: str) -> str:
            record = await record_of(daemon, ask_for(model=model))
            assert record.energy is not None
            assert record.energy.joules_per_token is None
            return record.energy.scope

        assert set(await asyncio.gather(scope("one"), scope("other"))) == {"device, shared"}
