"""Devices that are too small for a model or that torch has no code for, and workers that die before they answer."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import signal
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.device import Capabilities, Device, DeviceKind, Runtime
from hwdash.core.errors import DeviceFull, EngineError, ModelError, NoKernels, WorkerDied
from hwdash.core.inference import EngineEvent, Generation, Stage, StageEvent
from hwdash.core.status import WorkerState
from hwdash.engine import process
from hwdash.engine.engine import Standing
from hwdash.engine.shape import read_shape
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.conftest import CPU, MakeEngine
from tests.engine.test_supervisor import answered, asking, is_alive, pid_of
from tests.engine.waiting import eventually

SLACK = 64 * 2**20


def faulty(**fault: object) -> Device:
    """A chip whose module is `tests.engine.faulty_torch`."""
    runtime = Runtime("cpu", "tests.engine.faulty_torch", "FAULT_VISIBLE_DEVICES")
    return replace(CPU, key="acme:0", id="npu0", kind=DeviceKind.NPU, runtime=runtime, visible_as=json.dumps(fault))


async def events_of(engine: WorkerEngine, model: Path, device: Device) -> list[EngineEvent]:
    return [event async for event in engine.generate(asking(model), device)]


def details(events: list[EngineEvent]) -> list[str]:
    return [event.detail for event in events if isinstance(event, StageEvent) and event.stage is Stage.LOADING]


def need_between_fp32_and_bf16(model: Path) -> int:
    shape = read_shape(model)
    assert shape is not None
    return SLACK + 3 * shape.parameters + 3 * 512 * shape.cache_values_per_token


async def test_a_model_that_does_not_fit_is_loaded_smaller(make_engine: MakeEngine, tiny_model: Path) -> None:
    events = await events_of(make_engine(), tiny_model, faulty(free=need_between_fp32_and_bf16(tiny_model)))
    assert isinstance(events[-1], Generation)
    assert events[-1].dtype == "bf16"
    assert any(
        said.startswith("bf16 instead of fp32: ") and " needed, " in said and said.endswith(" free")
        for said in details(events)
    )


async def test_running_out_of_memory_while_loading_tries_the_next_precision(
    make_engine: MakeEngine, tiny_model: Path
) -> None:
    engine = make_engine()
    events = await events_of(engine, tiny_model, faulty(full_in="float32"))
    assert isinstance(events[-1], Generation)
    assert events[-1].dtype == "bf16"
    assert any("bf16 instead of fp32: the device is out of memory (2.00 GiB more" in said for said in details(events))
    assert engine.workers()[0].dtype == "bf16"


async def test_where_nothing_fits_it_says_so_with_numbers(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine, device = make_engine(), faulty(free=SLACK)
    with pytest.raises(DeviceFull, match=r"needs \d.* in fp32 and \d.* in bf16 and the device has 64\.0 MiB free"):
        await events_of(engine, tiny_model, device)
    (status,) = engine.workers()
    assert (status.state, status.pid) == (WorkerState.STOPPED, None)
    assert engine.standing(str(tiny_model), device) == Standing(slots=8)


@pytest.mark.parametrize(
    "fault",
    [
        {"load": "CUDA error: no kernel image is available for execution on the device"},
        {"forward": "CUDA error: invalid device function"},
    ],
)
async def test_a_torch_without_code_for_the_device(
    make_engine: MakeEngine, tiny_model: Path, fault: dict[str, object]
) -> None:
    with pytest.raises(NoKernels, match=r"this torch build \(.+\) has no kernels for this device; install a torch"):
        await events_of(make_engine(), tiny_model, faulty(**fault))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: uncorrectable ECC error encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "HIP error: unspecified launch failure",
        "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
async def test_a_device_that_fails_while_it_loads_is_not_the_models_fault(
    make_engine: MakeEngine, tiny_model: Path, words: str
) -> None:
    with pytest.raises(EngineError) as caught:
        await events_of(make_engine(), tiny_model, faulty(load=words))
    assert type(caught.value) is EngineError
    assert str(tiny_model) in caught.value.message


async def test_weights_that_do_not_go_with_the_configuration_are_the_models_fault(
    make_engine: MakeEngine, tiny_model: Path
) -> None:
    words = "Error(s) in loading state_dict for LlamaForCausalLM: size mismatch"
    with pytest.raises(ModelError, match=r"cannot load .*size mismatch"):
        await events_of(make_engine(), tiny_model, faulty(load=words))


def test_an_accelerator_that_says_nothing_of_itself_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwdash.engine.worker.failure import is_fault_of_device

    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("device is gone")

    error, gpu = RuntimeError("issues during automatic conversion of the weights"), torch.device("cuda:0")
    two = torch.tensor([1, 1])
    monkeypatch.setattr(torch, "ones", lambda *_, **__: two)
    assert not is_fault_of_device(error, gpu)
    monkeypatch.setattr(torch, "ones", broken)
    assert is_fault_of_device(error, gpu)
    assert not is_fault_of_device(error, torch.device("cpu"))
    wrapped = RuntimeError("could not load")
    wrapped.__cause__ = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert is_fault_of_device(wrapped, torch.device("cpu"))


@pytest.mark.skipif("+cpu" not in importlib.metadata.version("torch"), reason="this torch has code for GPUs")
async def test_a_torch_for_the_cpu_is_no_torch_for_a_gpu(make_engine: MakeEngine, tiny_model: Path) -> None:
    capabilities = Capabilities(compute_capability="9.0", dtypes=("fp32", "bf16"), inference=True)
    device = Device("nvidia:1", DeviceKind.GPU, "NVIDIA", "NVIDIA H200", "nvml", "gpu0", capabilities=capabilities)
    with pytest.raises(NoKernels, match=r"this torch build \(.+\+cpu\) has no kernels for sm_90; install a torch"):
        await events_of(make_engine(), tiny_model, replace(device, visible_as="GPU-1"))


# Workers that die before they are ready, with a program that is none in their place


@pytest.fixture
def never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that load for ever."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(process, "child_command", lambda *_: command)


async def until_started(engine: WorkerEngine) -> int:
    await eventually(lambda: any(worker.pid is not None for worker in engine.workers()))
    return pid_of(engine)


async def test_a_worker_killed_while_it_loads_fails_the_first_request_only(
    make_engine: MakeEngine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, never_ready: None
) -> None:
    engine = make_engine()
    first = asyncio.create_task(answered(engine, asking(tiny_model)))
    second = asyncio.create_task(answered(engine, asking(tiny_model)))
    pid = await until_started(engine)
    await eventually(lambda: engine.workers()[0].queued == 2)
    assert engine.standing(str(tiny_model), CPU) == Standing(waiting=2, slots=8)
    monkeypatch.undo()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"SIGKILL \(9\)"):
        await first
    assert engine.standing(str(tiny_model), CPU) == Standing(waiting=1, slots=8)
    _, made, _ = await second
    assert made.tokens.completion > 0


async def test_a_worker_that_hangs_while_it_loads_is_given_up(
    make_engine: MakeEngine, tiny_model: Path, never_ready: None
) -> None:
    engine = make_engine(load_timeout_s=0.7)
    waiting = [asyncio.create_task(answered(engine, asking(tiny_model))) for _ in range(2)]
    pid = await until_started(engine)
    os.kill(pid, signal.SIGSTOP)
    for task in waiting:
        with pytest.raises(EngineError, match=r"was not loaded on cpu0 within 0\.7 s"):
            await task
    assert not is_alive(pid)
    assert engine.standing(str(tiny_model), CPU) == Standing(slots=8)


async def test_workers_that_die_again_and_again_keep_nobody_waiting(
    make_engine: MakeEngine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "raise SystemExit('broken driver')"]
    monkeypatch.setattr(process, "child_command", lambda *_: command)
    engine = make_engine()
    waiting = [asyncio.create_task(answered(engine, asking(tiny_model))) for _ in range(6)]
    await eventually(lambda: any(worker.queued == 6 for worker in engine.workers()))
    waiting[1].cancel()
    outcomes = await asyncio.gather(*waiting, engine.prewarm(str(tiny_model), CPU), return_exceptions=True)
    assert isinstance(outcomes.pop(1), asyncio.CancelledError)
    assert all(isinstance(outcome, WorkerDied) and "broken driver" in str(outcome) for outcome in outcomes)
    assert "3 died in a row" in str(outcomes[-2])
    (status,) = engine.workers()
    assert (status.restarts, status.queued) == (2, 0)

    async with aclosing(engine.generate(asking(tiny_model), CPU)) as late:
        async for event in late:
            assert isinstance(event, StageEvent)
            if "next try in" in event.detail:
                break
    await eventually(lambda: engine.standing(str(tiny_model), CPU) == Standing(slots=8))
