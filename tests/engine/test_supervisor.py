"""The engine against real worker processes and a tiny model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from hwdash.core.config import EngineConfig
from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.errors import (
    EngineError,
    ModelError,
    Overloaded,
    PromptTooLong,
    UnknownModel,
    UsageError,
    WorkerDied,
)
from hwdash.core.inference import (
    EngineEvent,
    FinishReason,
    Generation,
    Message,
    PromptRequest,
    Stage,
    StageEvent,
    TokenEvent,
)
from hwdash.core.precision import choose_dtype
from hwdash.core.status import WorkerState
from hwdash.core.text import sanitise
from hwdash.engine import slot
from hwdash.engine.engine import Standing
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.conftest import CPU, MakeEngine
from tests.engine.waiting import eventually, first_token
from tests.tiny_model import CONTEXT, GREEDY_PROMPT, GREEDY_TOKENS

ENDLESS = CONTEXT


def asking(model: Path | str, text: str = GREEDY_PROMPT, max_tokens: int = 8, **more: object) -> PromptRequest:
    return PromptRequest((Message("user", text),), str(model), max_tokens=max_tokens, **more)  # type: ignore[arg-type]


async def answered(engine: WorkerEngine, request: PromptRequest) -> tuple[str, Generation, list[EngineEvent]]:
    events = [event async for event in engine.generate(request, CPU)]
    text = "".join(event.text for event in events if isinstance(event, TokenEvent))
    assert isinstance(events[-1], Generation)
    return text, events[-1], events


def pid_of(engine: WorkerEngine) -> int:
    (status,) = engine.workers()
    assert status.pid is not None
    return status.pid


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


async def test_answers_as_the_model_does(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine()
    assert engine.workers() == ()
    expected = json.loads((tiny_model / "greedy.json").read_text())

    text, made, events = await answered(engine, asking(tiny_model, max_tokens=GREEDY_TOKENS))
    assert text == sanitise(expected["text"])
    assert made.finish_reason is FinishReason.LENGTH
    assert made.tokens.completion == GREEDY_TOKENS
    assert made.dtype == "fp32"
    stages = [event.stage for event in events if isinstance(event, StageEvent)]
    assert (stages[0], stages[-1]) == (Stage.STARTING, Stage.PREFILL)
    assert Stage.LOADING in stages
    timing = made.timing
    assert None not in (timing.queue_s, timing.cold_start_s, timing.ttft_s, timing.itl_p50_s, timing.tokens_per_s)
    assert timing.cold_start_s < timing.ttft_s < timing.total_s  # type: ignore[operator]

    # Warm: no stage but the last, no cold start; and the rest of what one worker can show, without starting more.
    _, made, events = await answered(engine, asking(tiny_model))
    assert [event.stage for event in events if isinstance(event, StageEvent)] == [Stage.PREFILL]
    assert made.timing.cold_start_s is None
    (status,) = engine.workers()
    assert (status.state, status.dtype, status.restarts) == (WorkerState.READY, "fp32", 0)

    drawn = [
        (await answered(engine, asking(tiny_model, temperature=1.5, top_p=top_p, seed=seed, max_tokens=20)))[0]
        for top_p, seed in ((1.0, 1), (1.0, 1), (1.0, 2), (0.3, 1), (0.3, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[3] == drawn[4] != drawn[0]

    stop = text[6:9]
    text_to_stop, made, _ = await answered(engine, asking(tiny_model, max_tokens=GREEDY_TOKENS, stop=(stop,)))
    assert text_to_stop == text[: text.index(stop)]
    assert made.finish_reason is FinishReason.STOP

    plain, made, _ = await answered(engine, asking(tiny_model, template=False))
    assert plain != text[: len(plain)]
    assert made.tokens.prompt is not None
    assert made.tokens.prompt < 20

    with pytest.raises(PromptTooLong, match=rf"\d+ tokens .* at most {CONTEXT}"):
        await answered(engine, asking(tiny_model, "word " * CONTEXT))
    with pytest.raises(PromptTooLong, match=r"at least \d+ tokens"):
        await answered(engine, asking(tiny_model, "x" * 5_000_000))
    with pytest.raises(UsageError, match="empty"):
        await answered(engine, asking(tiny_model, "", template=False))
    with pytest.raises(PromptTooLong, match="Unicode"):
        await answered(engine, asking(tiny_model, "\ud800"))
    await answered(engine, asking(tiny_model, "\x1b[31m[bold]<|im_end|>[/] {{ 7*7 }} 日本\x00"))
    assert (await answered(engine, asking(tiny_model, max_tokens=GREEDY_TOKENS)))[0] == text
    assert engine.workers()[0].pid == status.pid


async def test_cancel_frees_the_worker_for_the_next(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(max_queue=1, max_concurrent=1)
    await engine.prewarm(str(tiny_model), CPU)
    pid = pid_of(engine)

    async with aclosing(engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)) as first:
        await first_token(first)
        assert engine.workers()[0].state is WorkerState.BUSY
        second = asyncio.create_task(answered(engine, asking(tiny_model)))
        await eventually(lambda: engine.workers()[0].queued == 1)
        assert engine.standing(str(tiny_model), CPU) == Standing(loaded=True, running=1, waiting=1, slots=1)
        with pytest.raises(Overloaded, match="2 requests") as caught:
            await answered(engine, asking(tiny_model))
        assert 1.0 <= caught.value.retry_after_s <= 60.0
    _, made, events = await second
    assert isinstance(events[0], StageEvent)
    assert events[0].stage is Stage.QUEUED
    assert made.timing.queue_s is not None
    assert made.timing.queue_s > 0
    assert pid_of(engine) == pid
    assert engine.standing(str(tiny_model), CPU) == Standing(loaded=True, slots=1)

    # A request that leaves the queue is never run; a task that is cancelled counts like a closed iterator.
    running = asyncio.create_task(answered(engine, asking(tiny_model, max_tokens=ENDLESS)))
    await eventually(lambda: engine.workers()[0].state is WorkerState.BUSY)
    waiting = asyncio.create_task(answered(engine, asking(tiny_model)))
    await eventually(lambda: engine.workers()[0].queued == 1)
    waiting.cancel()
    await eventually(lambda: engine.workers()[0].queued == 0)
    running.cancel()
    await eventually(lambda: engine.workers()[0].state is WorkerState.READY)
    assert pid_of(engine) == pid


async def test_answers_at_the_same_time_are_those_of_one_after_another(
    make_engine: MakeEngine, tiny_model: Path
) -> None:
    engine = make_engine(max_concurrent=4)
    requests = [
        asking(tiny_model, max_tokens=GREEDY_TOKENS),
        asking(tiny_model, "the quick brown fox", max_tokens=9),
        asking(tiny_model, "Grüße", max_tokens=17, temperature=1.5, seed=3),
    ]
    alone = [await answered(engine, request) for request in requests]
    async with aclosing(engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)) as endless:
        await first_token(endless)
        together = await asyncio.gather(*(answered(engine, request) for request in requests))
        assert engine.standing(str(tiny_model), CPU).running == 1
        await first_token(endless)
    for (text, before, _), (same, made, _) in zip(alone, together, strict=True):
        assert same == text
        assert made.digest == before.digest != ""
        assert made.share is not None
        assert before.share is not None
        assert 0 < made.share < before.share <= 1


async def test_a_killed_worker_fails_its_request_and_no_other(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(max_concurrent=1)
    async with aclosing(engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)) as first:
        await first_token(first)
        pid = pid_of(engine)
        second = asyncio.create_task(answered(engine, asking(tiny_model)))
        await eventually(lambda: engine.workers()[0].queued == 1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"SIGKILL \(9\).*worker-cpu0.*\.log"):
            async for _ in first:
                pass
        await eventually(lambda: engine.workers()[0].state is not WorkerState.STOPPED)
    _, made, events = await second
    details = [event.detail for event in events if isinstance(event, StageEvent)]
    assert any("next try in" in detail for detail in details)
    assert made.timing.cold_start_s is not None
    (status,) = engine.workers()
    assert (status.restarts, status.problem) == (1, "")
    assert pid_of(engine) != pid


async def test_a_hung_worker_is_killed_after_a_cancel(
    make_engine: MakeEngine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "CANCEL_PATIENCE_S", 0.2)
    engine = make_engine()
    async with aclosing(engine.generate(asking(tiny_model, max_tokens=ENDLESS), CPU)) as stream:
        await first_token(stream)
        pid = pid_of(engine)
        os.kill(pid, signal.SIGSTOP)
    await eventually(lambda: not is_alive(pid))
    await answered(engine, asking(tiny_model))


async def test_close_is_quick_while_a_worker_generates(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine()
    running = asyncio.create_task(answered(engine, asking(tiny_model, max_tokens=ENDLESS)))
    await eventually(lambda: any(worker.state is WorkerState.BUSY for worker in engine.workers()))
    pid = pid_of(engine)
    started = time.monotonic()
    await engine.close()
    assert time.monotonic() - started < 5  # the promise is half a second; a busy machine may stretch it
    assert not is_alive(pid)
    with pytest.raises(EngineError, match="shutting down"):
        await running
    with pytest.raises(EngineError, match="shutting down"):
        await answered(engine, asking(tiny_model))


async def test_idle_workers_end_and_come_back(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(keep_alive_s=0.05)
    await answered(engine, asking(tiny_model))
    await eventually(lambda: engine.workers()[0].state is WorkerState.STOPPED)
    assert engine.standing(str(tiny_model), CPU) == Standing(slots=EngineConfig().max_concurrent)
    await answered(engine, asking(tiny_model))


async def test_what_cannot_be_loaded_says_why(
    make_engine: MakeEngine, broken_model: Callable[[str], Path], tmp_path: Path
) -> None:
    engine = make_engine()
    with pytest.raises(UnknownModel, match="hwdash models pull org/absent"):
        await answered(engine, asking("org/absent"))
    with pytest.raises(UnknownModel, match="no model directory"):
        await answered(engine, asking("/nowhere/at/all"))
    directory = broken_model("")
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    outcomes = await asyncio.gather(
        *(answered(engine, asking(directory)) for _ in range(3)),
        engine.prewarm(str(directory), CPU),
        return_exceptions=True,
    )
    assert all(
        isinstance(outcome, ModelError) and "model.safetensors is damaged" in str(outcome) for outcome in outcomes
    )
    assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
    assert engine.workers() == ()


async def test_a_model_without_its_tokenizer_is_a_model_error(
    make_engine: MakeEngine, broken_model: Callable[[str], Path]
) -> None:
    engine = make_engine()
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be read"):
        await answered(engine, asking(broken_model("tokenizer.json")))


async def test_devices_that_cannot_compute_are_refused(make_engine: MakeEngine, tiny_model: Path) -> None:
    other = Device("x:1", DeviceKind.NPU, "Acme", "Acme NPU", "chips", id="npu0")
    with pytest.raises(EngineError, match="npu0"):
        await make_engine().prewarm(str(tiny_model), other)


@pytest.mark.parametrize(
    ("kind", "dtypes", "expected"),
    [
        (DeviceKind.GPU, ("fp32", "fp16", "bf16"), "bf16"),
        (DeviceKind.GPU, ("fp32", "fp16"), "fp16"),
        (DeviceKind.GPU, (), "fp32"),
        (DeviceKind.CPU, ("fp32", "fp16"), "fp32"),
        (DeviceKind.CPU, ("fp32", "bf16"), "bf16"),
    ],
)
def test_precision_follows_the_hardware(kind: DeviceKind, dtypes: tuple[str, ...], expected: str) -> None:
    device = Device("k", kind, "V", "N", "s", capabilities=Capabilities(dtypes=dtypes))
    assert choose_dtype(device) == expected


async def test_a_check_starts_nothing(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine()
    await engine.check(str(tiny_model), CPU)
    with pytest.raises(UnknownModel, match="hwdash models pull org/absent"):
        await engine.check("org/absent", CPU)
    with pytest.raises(EngineError, match="npu0"):
        await engine.check(str(tiny_model), Device("x:1", DeviceKind.NPU, "Acme", "Acme NPU", "chips", id="npu0"))
    assert engine.workers() == ()
