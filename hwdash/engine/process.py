"""One worker process, seen from the daemon: its socket, its log, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hwdash.core.errors import EngineError
from hwdash.core.text import sanitise_line
from hwdash.engine.child import child_command, child_environment
from hwdash.engine.frame import FrameError, encode, supervisor_decoder
from hwdash.engine.message import FromWorker, Prepared, ToWorker

_LOG_BYTES = 1_000_000
_DEATH_PATIENCE_S = 5.0
_KILLED_PATIENCE_S = 0.5
_REAP_S = 0.3
_log = logging.getLogger(__name__)

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


def rotated_log(path: Path) -> int:
    """A file descriptor that appends to *path*, which is set aside as ``.1`` when it has grown past a megabyte."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class WorkerProcess(asyncio.Protocol):
    """A running worker. *on_message* is called in the event loop for each message, *on_end* once when it is gone.

    ``ended`` is set when it cannot be talked to any more. ``first_word_s`` is how long it took from its start, or from
    `hand_over`, to the first thing that it said, None before that; that it is prepared does not count, it sets
    ``prepared``. ``log`` is the file that has its output.
    """

    def __init__(self, on_message: Callable[[FromWorker], None], on_end: Callable[[], None], log: Path) -> None:
        self.log = log
        self.ended = asyncio.Event()
        self.first_word_s: float | None = None
        self.prepared = False
        self._spoke = asyncio.Event()
        self._next_log: Path | None = None
        self._started_at = 0.0
        self._reason = ""
        self._on_message = on_message
        self._on_end = on_end
        self._decoder = supervisor_decoder()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None before the start and after the end."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """The process exists, whether it can be talked to or not."""
        return self._process is not None and self._process.returncode is None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the process. Raises `EngineError` when the system refuses."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                log = await asyncio.to_thread(rotated_log, self.log)
                self._started_at = time.monotonic()
                try:
                    self._process = await asyncio.create_subprocess_exec(
                        *child_command("hwdash.engine.worker", str(theirs.fileno())),
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,
                        env=child_environment({**_QUIET, **environment}),
                    )
                finally:
                    os.close(log)
        except OSError as error:
            ours.close()
            raise EngineError(f"cannot start a worker: {error}") from error
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    async def hand_over(self, on_message: Callable[[FromWorker], None], on_end: Callable[[], None], log: Path) -> None:
        """Belong to somebody else from now on, who tells it to write to *log*. Raises `EngineError` for a bad place."""
        self._on_message, self._on_end = on_message, on_end
        self._started_at = time.monotonic()
        self._next_log = log
        try:
            os.close(await asyncio.to_thread(rotated_log, log))
        except OSError as error:
            raise EngineError(f"cannot start a worker: {error}") from error

    def send(self, message: ToWorker) -> None:
        """Send *message*; nothing happens when the worker is gone. Raises `FrameError` for what cannot be sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    async def speaks(self, patience_s: float) -> bool:
        """Whether it says anything, be it that it is prepared, or ends, within *patience_s*; at once where it has spoken."""
        if self.first_word_s is None and not self.ended.is_set():
            self._spoke.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._spoke.wait(), patience_s)
        return self._spoke.is_set() or self.first_word_s is not None or self.ended.is_set()

    def disown(self) -> None:
        """Belong to nobody from now on: what it says, and its end, are told to nobody any more."""
        self._on_message, self._on_end = lambda _: None, lambda: None

    def close(self) -> None:
        """Close the socket, which ends a worker that can still listen."""
        if self._transport is not None:
            self._transport.close()

    def kill(self, reason: str = "") -> None:
        """End the process whatever it is doing. *reason* is what `cause_of_death` tells then."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()  # a close would wait for a stopped process to take what was not sent yet
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, patience_s: float) -> None:
        """Close, wait up to *patience_s*, then kill. Returns when the process is gone, or a moment later if it stays."""
        self.close()
        if not await self.gone(patience_s):
            self.kill()
            await self.gone(_REAP_S)

    async def gone(self, patience_s: float) -> bool:
        """Whether there is no process any more, after *patience_s* at the latest."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), patience_s)
        return not self.alive

    async def cause_of_death(self) -> str:
        """How the process ended, in words: why it was killed here, or the signal, or the exit code with its last words."""
        if self._process is None:
            return "did not start"
        if self._reason:
            await self.gone(_KILLED_PATIENCE_S)
            return self._reason
        try:
            code = await asyncio.wait_for(self._process.wait(), _DEATH_PATIENCE_S)
        except TimeoutError:
            self.kill()
            return "closed its connection and did not end"
        if code < 0:
            hint = ", perhaps by the kernel for want of memory" if code == -signal.SIGKILL else ""
            return f"was killed by {_signal_name(-code)}{hint}"
        line = await asyncio.to_thread(_last_line, self.log) if code else ""
        return f"ended with exit code {code}" + (f" ({line})" if line else "")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`: hands on what the worker said."""
        try:
            messages = self._decoder.feed(data)
        except FrameError:
            _log.exception("worker %s does not keep to the protocol", self.pid)
            self.kill("said what is no message of the protocol and was ended")
            return
        for message in messages:
            self._spoke.set()
            if isinstance(message, Prepared):
                self.prepared = True
                continue
            if self.first_word_s is None:
                self.first_word_s = time.monotonic() - self._started_at
                self.log = self._next_log or self.log
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`: the worker closed its end, which it only does by ending."""
        self.ended.set()
        self._spoke.set()
        self._on_end()


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
        return next((sanitise_line(line, 120) for line in reversed(lines) if line.strip()), "")
    return ""
