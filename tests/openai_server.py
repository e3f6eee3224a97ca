"""A server with OpenAI's API on a real socket that answers, and misbehaves, as a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Writer = asyncio.StreamWriter
Script = Callable[["Asked", Writer], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class OpenAiServer:
    """What is to be answered, and what was asked. ``models`` None: there is no list (404)."""

    url: str = ""
    models: Sequence[str] | None = ("a-model",)
    list_status: int = 200
    list_body: bytes | None = None
    script: Script | None = None
    asked: list[Asked] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Future[None]] = field(default_factory=set)
    running: int = 0
    most_running: int = 0

    @property
    def prompts(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.ensure_future(self._answer(reader, writer))
        self.tasks.add(task)
        try:
            await asyncio.wait((task,))
        finally:
            self.tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                asked = await _request(reader)
                self.asked.append(asked)
                if asked.path.endswith("/models"):
                    await self._list(asked, writer)
                else:
                    await self._prompt(asked, reader, writer)
                await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _list(self, asked: Asked, writer: Writer) -> None:
        status, body = self.list_status, self.list_body
        if asked.method == "HEAD":
            reply(writer, 405 if status == 200 else status, b"")
            return
        if body is None:
            body = json.dumps({"data": [{"id": name} for name in self.models or ()]}).encode()
        reply(writer, 404 if self.models is None else status, body)

    async def _prompt(self, asked: Asked, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        script = asyncio.ensure_future((self.script or say("Hello", " there"))(asked, writer))
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait((script, gone), return_when=asyncio.FIRST_COMPLETED)
            if not script.done() or isinstance(script.exception(), ConnectionError):
                self.hung_up.set()
        finally:
            self.running -= 1
            for task in (script, gone):
                task.cancel()
            await asyncio.gather(script, gone, return_exceptions=True)


@contextlib.asynccontextmanager
async def openai_server(**changes: Any) -> AsyncIterator[OpenAiServer]:
    """A server that listens on a port of its own while the block runs."""
    state = OpenAiServer(**changes)
    async with await asyncio.start_server(state.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        state.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield state
        finally:
            left = list(state.tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await asyncio.sleep(0)


def reply(writer: Writer, status: int, body: bytes, form: str = "application/json", **headers: str) -> None:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Words", f"content-type: {form}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


def begin(writer: Writer, form: str = "text/event-stream; charset=utf-8") -> None:
    """The head of a stream that ends with the connection."""
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {form}\r\nconnection: close\r\n\r\n".encode())


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text} | more, "finish_reason": finish}]})


def usage(prompt: int, completion: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


DONE = event(b"[DONE]")


def say(*words: str, finish: str | None = "stop") -> Script:
    """Each word as one chunk, then the end in the usual form."""
    return stream(
        delta(None, role="assistant"), *(delta(word) for word in words), delta(None, finish), usage(7, len(words)), DONE
    )


def stream(*pieces: bytes) -> Script:
    """These bytes, each written by itself, then the end of the connection."""

    async def script(asked: Asked, writer: Writer) -> None:
        begin(writer)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


def stall(*pieces: bytes) -> Script:
    """These bytes, then nothing, until the other end hangs up."""

    async def script(asked: Asked, writer: Writer) -> None:
        await stream(*pieces)(asked, writer)
        await asyncio.Event().wait()

    return script


def refuse(status: int, body: Any = None, **headers: str) -> Script:
    """An error of HTTP with a JSON body."""

    async def script(asked: Asked, writer: Writer) -> None:
        reply(writer, status, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)

    return script


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(body) if body else None)
