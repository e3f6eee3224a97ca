"""Child processes: how they are started, and those with a job, such as a download: progress, error, certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

import hwdash
from hwdash.core.errors import ModelError
from hwdash.core.text import sanitise_line
from hwdash.engine.disk import size_of

_POLL_S = 0.2
_PERCENT = re.compile(r"\b(\d{1,3})%\|")
_REMEMBERED_LINES = 30
_LONGEST_LINE = 65_536


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs *module* of hwdash with this interpreter, without the current directory on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This environment with *extra*, in which a child finds hwdash also where it runs from a source tree."""
    environ = {**os.environ, **extra}
    environ.pop("HWDASH_TOKEN", None)
    home = str(Path(hwdash.__file__).parent.parent)
    if home != sysconfig.get_path("purelib"):
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (home, environ.get("PYTHONPATH"))))
    return environ


class Child:
    """Runs *command*; leaving the block kills it with all its own children. Its output goes nowhere but here.

    Lines of JSON are its messages: ``{"step", "from", "to"}`` for progress, ``{"error"}``, and ``{"facts"}``, which
    are collected in `facts`. tqdm's bars refine the progress between ``from`` and ``to``; all other lines may explain
    a failure.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self._command = command
        self._environment = environment
        self._directory = directory
        self._process: asyncio.subprocess.Process
        self._lines: list[str] = []
        self._error = ""
        self.facts: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._directory,
            env=dict(self._environment),
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """The child's messages until it closes its output; a tqdm bar counts as ``{"percent": n}``."""
        assert self._process.stdout is not None
        rest = b""
        while data := await self._process.stdout.read(65536):
            *lines, rest = re.split(rb"[\r\n]+", rest + data)
            rest = rest[-_LONGEST_LINE:]
            for line in lines:
                if (message := self._read(line.decode(errors="replace"))) is not None:
                    yield message

    async def progress(self) -> AsyncIterator[tuple[str, float]]:
        """The child's steps, each with how far the whole job is, 0 to 1."""
        step, low, high = "", 0.0, 0.0
        async for message in self.messages():
            if "step" in message:
                step, low, high = message["step"], message["from"], message["to"]
                yield step, low
            elif "percent" in message:
                yield step, low + (high - low) * message["percent"] / 100

    async def growth(self, directory: Path) -> AsyncIterator[int]:
        """The bytes of all files below *directory*, again and again until the child ends."""
        drained = asyncio.ensure_future(self._drain())
        try:
            while not drained.done():
                await asyncio.wait({drained}, timeout=_POLL_S)
                yield await asyncio.to_thread(size_of, directory)
        finally:
            drained.cancel()

    async def succeeded(self, what_failed: str, advice: str = "") -> None:
        """Wait for the end. Raises `ModelError` with the child's own explanation when it is a failure."""
        if await self._process.wait():
            reason = self._error or self._explanation()
            raise ModelError("; ".join(filter(None, (f"{what_failed}: {reason}", advice))))

    async def _drain(self) -> None:
        async for _ in self.messages():
            pass

    def _read(self, line: str) -> dict[str, Any] | None:
        if line.startswith("{"):
            with contextlib.suppress(msgspec.DecodeError):
                message: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
                self._error = sanitise_line(str(message.get("error", self._error)), 300)
                self.facts |= message.get("facts", {})
                return message
        if (percent := _PERCENT.search(line)) is not None:
            return {"percent": min(100, int(percent[1]))}
        if line.strip():
            self._lines = [*self._lines[1 - _REMEMBERED_LINES :], line]
        return None

    def _explanation(self) -> str:
        """The line that explains a failure best: what failed to connect, else pip's first error, else the last line."""
        for pattern in (r"Temporary failure in name resolution|Network is unreachable|Connection refused", r"^ERROR: "):
            for line in self._lines:
                if found := re.search(pattern, line):
                    text = line.removeprefix("ERROR: ") if pattern.startswith("^") else found[0]
                    return sanitise_line(text, 200)
        ended = f"exit code {self._process.returncode}"
        return sanitise_line(self._lines[-1], 200) if self._lines else ended
