"""A worker's messages: in a real process over a real socket, and the order in which its loop serves them."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwdash.core.inference import FinishReason, Message
from hwdash.core.measurement import Load as Work
from hwdash.core.measurement import Task
from hwdash.engine.child import child_environment
from hwdash.engine.frame import encode, supervisor_decoder
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
    Ready,
    Report,
    Token,
    ToWorker,
    Tried,
    Try,
)
from tests.tiny_model import CONTEXT

if TYPE_CHECKING:
    from tests.engine.desk import Desk, Faulty

ENDLESS = Task(Work.DECODE, prompt_tokens=8, seconds=1e9, report_s=0.0)


def prompt(number: int, max_tokens: int = 8, text: str = "hello") -> Generate:
    return Generate(number, (Message("user", text),), max_tokens, template=False)


class Wire:
    """The supervisor's end of a real worker."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(120)
        self._decoder = supervisor_decoder()
        self._heard: list[FromWorker] = []
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hwdash.engine.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stderr=subprocess.DEVNULL,
                env=child_environment({}),
            )

    def send(self, *messages: ToWorker) -> None:
        self._socket.sendall(b"".join(map(encode, messages)))

    def until(self, last: Callable[[FromWorker], bool]) -> list[FromWorker]:
        """What comes up to the message that *last* is true for."""
        heard = []
        while True:
            while self._heard:
                heard.append(self._heard.pop(0))
                if last(heard[-1]):
                    return heard
            data = self._socket.recv(2**20)
            assert data, "the worker ended"
            self._heard += self._decoder.feed(data)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    try:
        yield wire
    finally:
        wire.close()
        wire.process.wait(30)


def test_a_worker_from_its_load_to_its_end(wire: Wire, tiny_model: Path) -> None:
    wire.send(Load(str(tiny_model), "tiny", "cpu", "fp32", threads=1, slots=2))
    *loading, ready = wire.until(lambda message: not isinstance(message, Loading))
    assert len(loading) > 1
    assert isinstance(ready, Ready)
    assert ready.chat_template
    about = ready.model
    assert (about.dtype, about.context_length) == ("fp32", CONTEXT)
    assert about.decoder
    assert about.choices
    assert all(about.choices)
    assert about.read_bytes is not None
    assert 0 < about.read_bytes < about.memory_bytes
    for seconds in (about.import_s, about.load_s, about.first_token_s):
        assert seconds is not None
        assert seconds > 0
    assert (about.start_s, about.capture_s) == (None, None)

    wire.send(prompt(1, CONTEXT), prompt(2, CONTEXT), prompt(3), Ping(7))
    begun = wire.until(lambda message: isinstance(message, Token) and message.id == 2)
    assert Pong(7) in begun
    assert not any(isinstance(message, Prefill) and message.id == 3 for message in begun)
    wire.send(Cancel(1))
    told = wire.until(lambda message: isinstance(message, Done) and message.id == 3)
    (cancelled,) = [message for message in told if isinstance(message, Done) and message.id == 1]
    assert cancelled.finish_reason is FinishReason.CANCELLED
    assert any(isinstance(message, Token) and message.id == 2 for message in told[told.index(cancelled) :])
    wire.send(Cancel(2), Measure(4, ENDLESS), prompt(5))
    wire.until(lambda message: isinstance(message, Report) and message.id == 4)
    wire.send(Ping(8))
    meanwhile = wire.until(lambda message: message == Pong(8))
    assert not any(isinstance(message, Prefill) for message in meanwhile)
    wire.send(Cancel(4))
    rest = wire.until(lambda message: isinstance(message, Done) and message.id == 5)
    assert [message.measured.last for message in rest if isinstance(message, Report)][-1]
    assert wire.process.poll() is None
    wire.close()
    assert wire.process.wait(30) == 0


def test_a_worker_that_cannot_load_says_why_and_ends(wire: Wire, tmp_path: Path) -> None:
    wire.send(Load(str(tmp_path), "nothing", "cpu", "fp32"))
    failed = wire.until(lambda message: not isinstance(message, Loading))[-1]
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (None, "model")
    assert wire.process.wait(30) == 0


# The loop alone, which is stopped by a message that it does not know


class _End(Exception):
    pass


class Stage:
    """A loop in this thread. ``plan`` maps a number of sends to what comes in after them."""

    def __init__(self, desk: Desk, decoder: Faulty, *messages: ToWorker) -> None:
        self.decoder = decoder
        self.sent: list[FromWorker] = []
        self.packets: list[Sequence[FromWorker]] = []
        self.on_message: Callable[[FromWorker], None] = lambda _: None
        self.idles = 0
        self._desk = desk
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self.put(*messages)

    def put(self, *messages: ToWorker) -> None:
        for message in messages:
            self._inbox.put(message)

    def run(self) -> list[FromWorker]:
        """Serve until the inbox is empty and nothing runs; what was sent."""
        from hwdash.engine.worker.loop import Loop

        self.decoder.idling = self._idle
        try:
            Loop(self._desk.model, self.decoder, self._inbox, self._send).run()
        except _End:
            assert not self.decoder.opened
        return self.sent

    def _send(self, messages: Sequence[FromWorker]) -> None:
        assert messages
        self.packets.append(messages)
        for message in messages:
            self.sent.append(message)
            self.on_message(message)

    def _idle(self) -> None:
        self.idles += 1
        if self._inbox.empty():
            error = _End("CUDA error: nobody is left")  # an error beyond repair ends the loop
            raise error


@pytest.fixture
def stage(desk: Desk) -> Callable[..., Stage]:
    from tests.engine.desk import Faulty

    return lambda *messages: Stage(desk, Faulty(desk.decoder()), *messages)


def test_a_ping_is_answered_between_two_steps_of_an_answer(stage: Callable[..., Stage]) -> None:
    play = stage(prompt(1, 6))

    def ask(message: FromWorker) -> None:
        if isinstance(message, Token) and message.count == 2:
            play.put(Ping(5))

    play.on_message = ask
    told = play.run()
    counts = [message.count for message in told[: told.index(Pong(5))] if isinstance(message, Token)]
    assert counts == [1, 2]
    assert isinstance(told[-1], Done)
    assert play.idles == 1


def test_the_messages_of_a_step_leave_together(stage: Callable[..., Stage]) -> None:
    play = stage(prompt(1), prompt(2, 4), prompt(3))
    play.run()
    together = [[message.id for message in packet if isinstance(message, Token)] for packet in play.packets]
    assert [1, 2, 3] in together
    (last,) = [packet for packet in play.packets if any(isinstance(m, Done) and m.id == 2 for m in packet)]
    assert any(isinstance(message, Token) and message.id == 1 for message in last)


def test_a_cancel_takes_effect_at_the_next_step(stage: Callable[..., Stage]) -> None:
    play = stage(prompt(1, CONTEXT))

    def stop(message: FromWorker) -> None:
        if isinstance(message, Token) and message.count == 3:
            play.put(Cancel(1))

    play.on_message = stop
    done = play.run()[-1]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.completion_tokens) == (FinishReason.CANCELLED, 3)


def test_a_task_waits_for_requests_and_later_requests_for_the_task(stage: Callable[..., Stage]) -> None:
    short = Task(Work.DECODE, prompt_tokens=4, new_tokens=3)
    play = stage(prompt(1), Measure(2, short), prompt(3), Measure(4, short), prompt(5))
    ends = [message.id for message in play.run() if isinstance(message, Prefill | Done | Report)]
    assert ends == [1, 1, 2, 3, 3, 4, 5, 5]


def test_what_waits_for_a_task_can_be_cancelled(stage: Callable[..., Stage]) -> None:
    play = stage(Measure(1, ENDLESS), prompt(2), Measure(3, ENDLESS), prompt(4))
    play.put(Cancel(2), Cancel(3))

    def stop(message: FromWorker) -> None:
        if isinstance(message, Report) and message.id == 1 and not message.measured.last:
            play.put(Cancel(1), Ping(9))

    play.on_message = stop
    told = play.run()
    assert Done(2, FinishReason.CANCELLED, 0, 0) in told
    (report,) = [message for message in told if isinstance(message, Report) and message.id == 3]
    assert (report.measured.last, report.measured.steps_s) == (True, ())
    (last,) = [message for message in told if isinstance(message, Report) and message.id == 1 and message.measured.last]
    assert told.index(Pong(9)) < told.index(last)
    assert isinstance(told[-1], Done)
    assert (told[-1].id, told[-1].finish_reason) == (4, FinishReason.LENGTH)


@pytest.mark.parametrize("work", [prompt(1), Measure(1, Task(Work.DECODE))])
def test_a_device_beyond_repair_ends_the_loop(stage: Callable[..., Stage], work: ToWorker) -> None:
    def fault() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    play = stage(work)
    play.decoder.stepping = fault
    last = play.run()[-1]
    assert play.idles == 0
    if isinstance(last, Report):
        assert "unspecified launch failure" in last.measured.problem
    else:
        assert isinstance(last, Failed)
        assert last.id == 1


def test_work_between_requests_that_fails_fails_nobody(stage: Callable[..., Stage]) -> None:
    play = stage()
    tries: list[str] = []
    end = play._idle

    def fail_first() -> None:
        tries.append("try")
        if len(tries) == 1:
            play.put(prompt(1))
            raise RuntimeError("cannot compile")
        end()

    play._idle = fail_first  # type: ignore[method-assign]
    assert isinstance(play.run()[-1], Done)
    assert len(tries) == 2


def test_a_worker_tries_the_precisions_it_is_asked_for(wire: Wire, tiny_model: Path) -> None:
    wire.send(Load(str(tiny_model), "tiny", "cpu", "fp32", threads=1, slots=2, quantize=True))
    ready = wire.until(lambda message: not isinstance(message, Loading))[-1]
    assert isinstance(ready, Ready)
    assert any("weights held in" in choice for choice in ready.model.choices)
    wire.send(Try(7, ("bf16",)))
    tried = wire.until(lambda message: isinstance(message, Tried))[-1]
    assert isinstance(tried, Tried)
    assert tried.id == 7
    assert [trial.dtype for trial in tried.trials][:2] == ["fp32", "bf16"]
    assert all(trial.weights_per_s for trial in tried.trials)
    assert tried.torch == version("torch")


def test_a_request_comes_before_a_trial_and_ends_one(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwdash.engine.worker import trial

    play = stage(Try(7, ("bf16",)), prompt(1, 2), Ping(3))
    products: list[str] = []
    real = trial._made

    def made(device: object, dtype: str, make: object) -> object:
        products.append(dtype)
        if len(products) == 1:
            play.put(Ping(4), prompt(2, 2))
        return real(device, dtype, make)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "_made", made)
    sent = play.run()
    (tried,) = [message for message in sent if isinstance(message, Tried)]
    assert (tried.id, tried.trials) == (7, ())
    assert products == ["fp32"]  # the one that ran when the request came
    order = [message for message in sent if isinstance(message, Done | Tried | Pong)]
    assert [message.id for message in order] == [3, 1, 4, 7, 2]


def test_a_trial_is_called_off(stage: Callable[..., Stage]) -> None:
    assert stage(Try(7, ("bf16",)), Cancel(7)).run() == []


def test_a_trial_that_fails_has_no_figures(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import trial

    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(trial, "_matrix", full)
    sent = stage(Try(7, ("bf16",)), prompt(1, 2)).run()
    sent += stage(Try(8, ("bf16",))).run()
    assert [(message.id, message.trials) for message in sent if isinstance(message, Tried)] == [(7, ()), (8, ())]
