"""A daemon in this process: the real service and server over a fake source and a fake engine."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwdash.client.endpoint import Endpoint
from hwdash.client.http import HttpClient
from hwdash.core.config import Config, StoreConfig
from hwdash.core.inference import Message, PromptRequest
from hwdash.daemon.app import create_app
from hwdash.daemon.events import EventLog
from hwdash.daemon.server import SocketServer
from hwdash.daemon.service import Identity, Service
from hwdash.daemon.socket import listening
from hwdash.engine.engine import Engine
from hwdash.engine.fake import FakeEngine
from hwdash.monitor.monitor import Monitor
from hwdash.sources.fake import FakeSource, fake_gpu
from hwdash.store.store import Store
from tests.daemon.fake_models import MODEL, FakeModels

KEY = fake_gpu(0).key


@dataclass
class Living:
    """A running daemon and the ways to reach it."""

    service: Service
    client: HttpClient
    socket: Path
    store: Store
    models: FakeModels
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, method: str, target: str, body: bytes = b"", headers: str = "") -> tuple[int, str, bytes]:
        """A hand-made request: status, head and body of the answer."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        length = f"Content-Length: {len(body)}\r\n" if "Content-Length" not in headers else ""
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{length}\r\n".encode())
        writer.write(body)
        answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode().lower(), rest


def ask_for(text: str = "one two three", **changes: Any) -> PromptRequest:
    return PromptRequest(**({"messages": (Message("user", text),), "model": MODEL} | changes))


@contextmanager
def short_directory() -> Iterator[Path]:
    """A private directory whose path is short enough for a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="hwd-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sockets_of(pid: int) -> int:
    """How many sockets a process has open. (A database opens its files when it needs them.)"""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def living(
    source: FakeSource | None = None,
    engine: Engine | None = None,
    *,
    interval_s: float = 0.1,
    config: Config | None = None,
) -> AsyncIterator[Living]:
    source = source or FakeSource([fake_gpu(0)])
    with short_directory() as directory, listening(directory / "run" / "s") as listener:
        store = await Store.open(directory / "hwdash.db", StoreConfig())
        events = EventLog(store.add_event)
        models = FakeModels()
        service = Service(
            Monitor([source], interval_s, on_event=events.add),
            engine or FakeEngine(),
            store,
            models,
            config or Config(),
            Identity(str(directory / "run" / "s")),
            events,
        )
        socket = directory / "run" / "s"
        daemon = Living(service, HttpClient(Endpoint(socket=socket)), socket, store, models)
        await service.start()
        server = SocketServer(create_app(service, daemon.stop.set))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield daemon
        finally:
            source.release()
            service.stopping.set()
            server.end()
            await serving
            await service.close()
