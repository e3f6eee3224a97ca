"""Engines whose workers are scripted: see `tests.engine.scripted_worker`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest

from hwdash.core.config import EngineConfig
from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.inference import PROMPT, EngineEvent, Generation, Message, PromptRequest, TokenEvent
from hwdash.core.status import WorkerStatus
from hwdash.engine import process
from hwdash.engine.frame import worker_decoder
from hwdash.engine.message import Load
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.waiting import eventually

T = TypeVar("T")
ENDLESS = 1_000_000
DEVICE = Device(
    "acme:0",
    DeviceKind.CPU,
    "Acme",
    "Acme CPU",
    "host",
    id="cpu0",
    capabilities=Capabilities(dtypes=("fp32", "fp16"), inference=True),
)


class AnyModel(ModelStore):
    """Has every model."""

    def resolve(self, name: str) -> Path:
        return self._root


class Scene:
    """A device of scripted workers, on which *room* models fit at once, and engines over it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._memory = directory / "memory"
        self._memory.mkdir()
        self.room(100)
        self.engines: list[WorkerEngine] = []
        script = str(Path(__file__).with_name("scripted_worker.py"))
        monkeypatch.setattr(
            process,
            "child_command",
            lambda _, descriptor: [sys.executable, "-P", script, str(self._memory), descriptor],
        )

    def room(self, models: int) -> None:
        """So many models fit from now on."""
        (self._memory / "room").write_text(str(models))

    def engine(self, **settings: float) -> WorkerEngine:
        """An engine; it is closed after the test."""
        config = EngineConfig(**settings)  # type: ignore[arg-type]
        self.engines.append(WorkerEngine(AnyModel(self._directory), config, self._directory / "logs"))
        return self.engines[-1]

    async def close(self) -> None:
        """Close all engines, and wait for the ends of their processes, which a busy machine may delay."""
        for engine in self.engines:
            await engine.close()
        pids = [int(file.name) for file in self._memory.iterdir() if file.name.isdecimal()]
        await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        await asyncio.sleep(0)

    def load_of(self, model: str) -> Load:
        """What the worker that loaded *model* last was told."""
        (message,) = worker_decoder().feed((self._memory / f"{model}.load").read_bytes())
        assert isinstance(message, Load)
        return message


def ask(text: str, tokens: int = 3, model: str = "one", origin: str = PROMPT) -> PromptRequest:
    """A prompt for a scripted worker."""
    return PromptRequest((Message("user", text),), model, max_tokens=tokens, origin=origin)


async def said(engine: WorkerEngine, request: PromptRequest, device: Device = DEVICE) -> str:
    """The whole answer."""
    events = [event async for event in engine.generate(request, device)]
    assert isinstance(events[-1], Generation)
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


async def drained(stream: AsyncGenerator[T, None]) -> list[T]:
    """The rest of *stream*."""
    async with asyncio.timeout(20):
        return [event async for event in stream]


def worker(engine: WorkerEngine, model: str = "one") -> WorkerStatus:
    """The only worker for *model*."""
    (status,) = [status for status in engine.workers() if status.model == model]
    return status


def pid_of(engine: WorkerEngine, model: str = "one") -> int:
    """Its pid."""
    pid = worker(engine, model).pid
    assert pid is not None
    return pid


@contextlib.asynccontextmanager
async def running(
    engine: WorkerEngine, *texts: str, model: str = "one"
) -> AsyncIterator[list[AsyncGenerator[EngineEvent, None]]]:
    """Endless answers to *texts*, each with its first event taken once all of them are with the worker."""
    streams = [engine.generate(ask(text, ENDLESS, model), DEVICE) for text in texts]
    async with contextlib.AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(aclosing(stream))
        await asyncio.gather(*(anext(stream) for stream in streams))
        await eventually(lambda: worker(engine, model).running == len(texts))
        yield streams
