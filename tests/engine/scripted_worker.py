"""A worker without torch, which does as it is told: ``python scripted_worker.py DIRECTORY FD``.

*DIRECTORY* is the memory of a device: each worker that is loaded has a file there, named by its pid, and the file
``room`` says how many fit. Models whose name begins with ``slow`` never become ready, others at once. Prompts are
commands: ``deaf`` hears no cancel of it, ``hang`` ends all answering, ``die`` ends the process, ``full`` is out of
memory; all others get their words one by one, a word of each at a time. A task gives ``repeats`` reports; one with
``prompt_tokens`` 0 gives none, one with 1 ends the process after its first, one with 2 fails.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path

from hwdash.core.inference import FinishReason
from hwdash.core.measurement import LoadedModel, Measured
from hwdash.core.trial import DtypeTrial
from hwdash.engine.frame import encode, worker_decoder
from hwdash.engine.message import (
    Cancel,
    Done,
    Failed,
    FromWorker,
    Generate,
    Load,
    Loading,
    Measure,
    Ping,
    Pong,
    Prefill,
    Prepare,
    Prepared,
    Ready,
    Report,
    Token,
    ToWorker,
    Tried,
    Try,
)
from hwdash.engine.worker.lifeline import write_to

_STEP_S = 0.01


class Script:
    """One scripted worker."""

    def __init__(self, directory: Path, connection: socket.socket) -> None:
        self._directory = directory
        self._socket = connection
        self._decoder = worker_decoder()
        self._running: dict[int, tuple[Generate, int]] = {}
        self._tasks: dict[int, tuple[Measure, int]] = {}
        self._load: Load | None = None

    def run(self) -> None:
        """Serve until the socket is closed."""
        while True:
            if select.select([self._socket], [], [], _STEP_S)[0]:
                data = self._socket.recv(65536)
                if not data:
                    return
                for message in self._decoder.feed(data):
                    self._take(message)
            self._step()

    def _send(self, message: FromWorker) -> None:
        self._socket.sendall(encode(message))

    def _take(self, message: ToWorker) -> None:
        match message:
            case Prepare():
                self._send(Prepared())
            case Load():
                self._begin(message)
            case Ping():
                self._send(Pong(message.id))
            case Generate():
                self._send(Prefill(message.id, 3))
                self._running[message.id] = message, 0
            case Try():
                self._try(message)
            case Measure():
                self._tasks[message.id] = message, 0
            case Cancel() if message.id not in self._running:
                (self._directory / f"{message.id}.cancelled").touch()
            case Cancel() if message.id in self._running and self._text(message.id) != "deaf":
                _, count = self._running.pop(message.id)
                self._send(Done(message.id, FinishReason.CANCELLED, 3, count))

    def _try(self, message: Try) -> None:
        """Models whose name begins with ``tries`` are tried at once, with ``dies`` it is the end, others say nothing."""
        assert self._load is not None
        if self._load.model.startswith("dies"):
            os._exit(5)
        if self._load.model.startswith("tries"):
            found = (
                DtypeTrial("fp32", 1.0, 4.0, 1.0),
                *(DtypeTrial(name, 1.0, 1.0, 0.5, True) for name in message.dtypes),
            )
            self._send(Tried(message.id, found, "9.9"))

    def _text(self, number: int) -> str:
        return self._running[number][0].messages[-1].content

    def _begin(self, load: Load) -> None:
        if load.log:
            write_to(load.log)
        sys.stderr.write(f"loading {load.model}\n")
        self._send(Loading("importing nothing"))
        if load.model.startswith("slow"):
            time.sleep(600)
        room = int((self._directory / "room").read_text())
        if sum(_is_alive(file.name) for file in self._directory.iterdir()) >= room:
            smaller = ", ".join(load.smaller) or "nothing else"
            self._send(Failed("device_full", f"no room for {load.model} in {load.dtype}, nor in {smaller}"))
            sys.exit(0)
        (self._directory / str(os.getpid())).touch()
        (self._directory / f"{load.model}.load").write_bytes(encode(load))
        loaded = LoadedModel(load.dtype, 1000, 4000, 64, decoder="script", choices=("it is a test",))
        self._load = load
        self._send(Ready(loaded, chat_template=False))

    def _step(self) -> None:
        for number, (request, count) in list(self._running.items()):
            text = self._text(number)
            if text == "hang":
                time.sleep(600)
            if text == "die":
                os._exit(3)
            if text == "full":
                del self._running[number]
                self._send(Failed("device_full", "no room for the keys and values", number))
                continue
            count += 1
            self._running[number] = request, count
            self._send(Token(number, f"{text} ", count, time.monotonic()))
            if count >= request.max_tokens:
                del self._running[number]
                self._send(Done(number, FinishReason.LENGTH, 3, count, 2.0, 0.5, f"digest of {text}"))
        for number, (measure, count) in list(self._tasks.items()):
            self._measure(number, measure, count)

    def _measure(self, number: int, measure: Measure, count: int) -> None:
        task = measure.task
        assert self._load is not None
        if task.prompt_tokens == 0:
            return
        if task.prompt_tokens == 1 and count == 1:
            os._exit(4)
        if task.prompt_tokens == 2:
            self._send(Failed("engine", "the task came to nothing", number))
            return
        count += 1
        self._tasks[number] = measure, count
        last = count == task.repeats
        problem = "too many" if task.batch > self._load.slots else ""
        self._send(Report(number, Measured(1.0, 2.0, tokens=count, last=last, problem=problem)))
        if last:
            del self._tasks[number]


def _is_alive(name: str) -> bool:
    try:
        os.kill(int(name), 0)
    except (ValueError, ProcessLookupError):
        return False
    return "\nState:\tZ" not in Path(f"/proc/{name}/status").read_text()


if __name__ == "__main__":
    Script(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))).run()
