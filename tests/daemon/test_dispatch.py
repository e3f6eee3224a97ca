"""Prompts that go on to another device, and those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import (
    DeviceFull,
    EngineError,
    HwdashError,
    ModelError,
    NoKernels,
    NoSuitableDevice,
    Overloaded,
    PromptTooLong,
    ServerDown,
    UnknownModel,
    WorkerDied,
)
from hwdash.core.health import HealthState
from hwdash.core.inference import (
    EngineEvent,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    PromptRequest,
    Stage,
    StageEvent,
    TokenEvent,
)
from hwdash.core.requirement import Requirements
from hwdash.core.status import AdmissionStatus
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.routing.choose import Choice, choose
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.living import Living, ask_for, living, until

FIRST, SECOND, THIRD = (fake_gpu(number).key for number in range(3))


class HeldEngine(FakeEngine):
    """Answers on a device of ``held`` only once that is let go; tells which devices were asked and are held."""

    def __init__(self, *held: str) -> None:
        super().__init__()
        self.held = {key: asyncio.Event() for key in held}

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        async with aclosing(super().generate(request, device)) as events:
            async for event in events:
                yield event
                if isinstance(event, StageEvent) and device.key in self.held:
                    await self.held[device.key].wait()


def gpus(count: int = 2) -> FakeSource:
    return FakeSource([fake_gpu(number) for number in range(count)])


async def answer(daemon: Living, request: PromptRequest | None = None) -> tuple[list[PromptEvent], InferenceRecord]:
    async with aclosing(daemon.service.prompt(request or ask_for())) as events:
        told = [event async for event in events]
    assert isinstance(told[-1], FinishedEvent)
    return told, told[-1].record


def admission(daemon: Living, device: str = "gpu0") -> AdmissionStatus:
    states = {item.device: item for item in daemon.service.status().admission}
    return states.get(device, AdmissionStatus(device))


def by_name(*asked: Any) -> Choice:
    """As `choose`, but in the order of the devices' ids."""
    return Choice(tuple(sorted(choose(*asked).candidates, key=lambda candidate: candidate.status.device.id)))


async def told_of(daemon: Living, start: str) -> None:
    """Wait for an event whose words begin with *start*."""
    await until(
        lambda: (
            (latest := daemon.service.snapshots.latest) is not None
            and any(event.words.startswith(start) for event in latest.events)
        )
    )


@pytest.mark.parametrize(
    "error",
    [
        WorkerDied("gpu0: the worker was killed by signal 9"),
        DeviceFull("gpu0: out of memory, 20 GiB wanted"),
        NoKernels("gpu0: this torch build has no kernels for sm_12"),
        ModelError("gpu0: its weights are torn"),
        ServerDown("gpu0: the server does not answer"),
        Overloaded("gpu0: the server is busy"),
        EngineError("gpu0: not loaded within 600 s"),
    ],
)
async def test_a_device_that_fails_before_its_first_token_hands_the_request_on(error: HwdashError) -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = error
    seen: list[InferenceRecord] = []
    async with living(gpus(), engine) as daemon:
        daemon.service.observers.append(seen.append)
        told, record = await answer(daemon)
        assert engine.asked == [FIRST, SECOND]
        assert [event.text for event in told if isinstance(event, TokenEvent)] == ["one", " two", " three"]
        reason = error.message.removeprefix("gpu0: ")
        assert StageEvent(Stage.STARTING, "gpu1", f"{error.message}; trying gpu1") in told
        assert record.device == "gpu1"
        assert record.route.requested == "auto"
        assert record.route.fallback_from == (None if isinstance(error, Overloaded) else "gpu0")
        assert any(reason in why and "handed to gpu1" in why for why in record.route.why)
        assert [(item.device, item.finish_reason) for item in seen] == [
            ("gpu0", FinishReason.ERROR),
            ("gpu1", FinishReason.STOP),
        ]
        assert seen[0].error == error.message
        assert seen[0].started_at == seen[1].started_at


async def test_a_named_device_is_the_only_one_that_is_tried() -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = WorkerDied("gpu0: dead")
    async with living(gpus(), engine) as daemon:
        with pytest.raises(WorkerDied, match=r"^gpu0: dead$"):
            await answer(daemon, ask_for(device="gpu0"))
        assert engine.asked == [FIRST]


async def test_after_the_first_token_the_error_is_told_as_it_is() -> None:
    engine = FakeEngine(failure=WorkerDied("gpu0: dead"), fail_after=1)
    async with living(gpus(), engine) as daemon:
        with pytest.raises(WorkerDied, match=r"^gpu0: dead$"):
            await answer(daemon)
        assert engine.asked == [FIRST]


async def test_what_would_fail_anywhere_is_not_handed_on() -> None:
    engine = FakeEngine(failure=PromptTooLong("4097 tokens, at most 4096"))
    async with living(gpus(), engine) as daemon:
        with pytest.raises(PromptTooLong, match=r"^4097 tokens"):
            await answer(daemon)
        assert engine.asked == [FIRST]


async def test_when_all_fail_the_first_error_tells_of_each_and_none_is_tried_twice() -> None:
    engine = FakeEngine()
    engine.failures = {
        FIRST: DeviceFull("gpu0: out of memory"),
        SECOND: WorkerDied("gpu1: dead"),
        THIRD: EngineError("gpu2: odd"),
    }
    async with living(gpus(3), engine) as daemon:
        with pytest.raises(DeviceFull) as caught:
            await answer(daemon)
        assert caught.value.message == "gpu0: out of memory; no other device answered (gpu1: dead; gpu2: odd)"
        assert engine.asked == [FIRST, SECOND, THIRD]


async def test_a_model_that_only_a_server_has_is_found_there() -> None:
    class Mixed(FakeEngine):
        async def check(self, model: str, device: Device) -> None:
            self.checked.append(device.id)
            if device.key != THIRD:
                raise UnknownModel(f"no model {model!r}", param="model")

        checked: list[str]

    engine = Mixed()
    engine.checked = []
    engine.standings[THIRD] = Standing(server="rack", slots=4)
    async with living(gpus(3), engine) as daemon:
        _, record = await answer(daemon)
        assert record.device == "gpu2"
        assert record.route.fallback_from is None
        # The second device has the same models as the first.
        assert engine.checked in (["gpu0", "gpu2"], ["gpu2"])


async def test_a_device_lost_after_the_first_token_does_not_break_the_answer_off() -> None:
    class Talking(FakeEngine):
        go = asyncio.Event()

        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
            async with aclosing(super().generate(request, device)) as events:
                async for event in events:
                    yield event
                    if isinstance(event, TokenEvent):
                        await self.go.wait()

    source, engine = gpus(1), Talking()
    async with living(source, engine) as daemon:
        events = daemon.service.prompt(ask_for())
        while not isinstance(await anext(events), TokenEvent):
            pass
        source.lost.add(FIRST)
        await until(
            lambda: (
                (latest := daemon.service.snapshots.latest) is not None
                and latest.devices[0].health.state is HealthState.LOST
            )
        )
        engine.go.set()
        told = [event async for event in events]
        assert isinstance(told[-1], FinishedEvent)
        assert told[-1].record.finish_reason is FinishReason.STOP


async def test_who_waits_for_a_device_that_is_lost_was_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwdash.daemon.dispatch.choose", by_name)
    source, engine = gpus(), HeldEngine(FIRST)
    seen: list[InferenceRecord] = []
    async with living(source, engine) as daemon:
        daemon.service.observers.append(seen.append)
        named = asyncio.create_task(answer(daemon, ask_for(device="gpu0")))
        await until(lambda: admission(daemon).running == 1)
        free = asyncio.create_task(answer(daemon))
        await until(lambda: admission(daemon).waiting == 1)
        source.lost.add(FIRST)
        _, record = await free
        assert record.route.fallback_from is None
        assert "gpu0 passed over: gpu0 was lost" in record.route.why[0]
        with pytest.raises(EngineError, match="gpu0 was lost"):
            await named
        assert sorted((item.device, item.finish_reason) for item in seen) == [
            ("gpu0", FinishReason.ERROR),
            ("gpu1", FinishReason.STOP),
        ]


async def test_a_model_that_one_worker_cannot_read_is_tried_on_another() -> None:
    engine = FakeEngine()
    engine.failures[FIRST] = ModelError("gpu0: cannot load it: uncorrectable ECC error")
    async with living(gpus(), engine) as daemon:
        _, record = await answer(daemon)
        assert engine.asked == [FIRST, SECOND]
        assert record.route.fallback_from == "gpu0"


async def test_a_model_that_no_worker_has_is_looked_for_once() -> None:
    engine = FakeEngine()
    engine.unknown.add("none")
    async with living(gpus(3), engine) as daemon:
        with pytest.raises(UnknownModel, match=r"^no model 'none'$"):
            await answer(daemon, ask_for(model="none"))


async def test_a_device_lost_before_its_first_token_hands_the_request_on() -> None:
    source, engine = gpus(), HeldEngine(FIRST)
    async with living(source, engine) as daemon:
        asking = asyncio.create_task(answer(daemon))
        await until(lambda: engine.asked == [FIRST])
        source.lost.add(FIRST)
        _, record = await asking
        assert record.device == "gpu1"
        assert "gpu0 failed: gpu0 was lost" in record.route.why[0]
        assert engine.cancelled == 1
        assert admission(daemon).running == 0


async def test_a_request_that_waits_for_a_device_that_is_lost_goes_elsewhere() -> None:
    source, engine = gpus(1), HeldEngine(FIRST)
    async with living(source, engine, config=Config(engine=EngineConfig(max_concurrent=1))) as daemon:
        await daemon.service.snapshot()
        running, waiting = (asyncio.create_task(answer(daemon)) for _ in range(2))
        await until(lambda: admission(daemon).waiting == 1)
        source.lost.add(FIRST)
        for task in (running, waiting):
            with pytest.raises(EngineError, match="gpu0 was lost"):
                await task
        assert admission(daemon).running == admission(daemon).waiting == 0


async def test_leaving_while_the_second_device_is_tried_cancels_it() -> None:
    engine = HeldEngine(SECOND)
    engine.failures[FIRST] = WorkerDied("gpu0: dead")
    seen: list[InferenceRecord] = []
    async with living(gpus(), engine) as daemon:
        daemon.service.observers.append(seen.append)
        asking = asyncio.create_task(answer(daemon))
        await until(lambda: engine.asked == [FIRST, SECOND])
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: len(seen) == 2)
        assert seen[1].finish_reason is FinishReason.CANCELLED
        assert seen[1].route.fallback_from == "gpu0"
        assert admission(daemon, "gpu1").running == 0


async def test_requirements_hold_for_a_named_device_too() -> None:
    async with living(gpus()) as daemon:
        for device in ("auto", "gpu0"):
            with pytest.raises(NoSuitableDevice, match="gpu0"):
                await answer(daemon, ask_for(device=device, requirements=Requirements(max_power_w=1.0)))
        body = b'{"prompt": "x", "model": "echo", "requirements": {"kind": ["npu"], "min_memory": "40GiB"}}'
        status, _, text = await daemon.ask("POST", "/api/v1/prompt", body)
        assert status == 422
        assert b"gpu0" in text
        assert b"gpu1" in text
