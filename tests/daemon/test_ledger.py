"""What is learned of devices: paces, verdicts, breakers, and the shapes of models."""

from __future__ import annotations

import asyncio

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.errors import DeviceFull, HwdashError, ModelError, NoKernels, PromptTooLong, ServerDown, WorkerDied
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.inference import Timing
from hwdash.core.model import ModelShape
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.status import AdmissionStatus, BreakerState
from hwdash.daemon.gate import Gate
from hwdash.daemon.ledger import TYPICAL_ANSWER, Ledger
from hwdash.daemon.shape import ShapeBook
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.routing.knowledge import Circumstance
from hwdash.store.pace import StoredAnswer
from tests.routing.build import device_status, snapshot_of

GPU = device_status("gpu0")
KEY = GPU.device.key
FULL = DeviceFull("gpu0: out of memory")


class Desk:
    """A ledger, its clock and what it told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine()
        self.told: list[Event] = []
        self.ledger = Ledger(self.engine, 4, self.told.append, self.clock)

    def of(self, model: str = "m", named: str = "", status: DeviceStatus = GPU) -> Circumstance:
        return self.ledger.knowledge(model, snapshot_of(status), None, named=named).of(KEY)

    def attempt(self, outcome: HwdashError | bool, model: str = "m") -> None:
        self.ledger.begin(KEY, model)
        self.ledger.end(GPU, model, outcome)


def test_a_pace_has_neither_cold_start_nor_queue_in_it() -> None:
    desk = Desk()
    desk.ledger.learn(KEY, "m", Timing(queue_s=2.0, cold_start_s=3.0, ttft_s=5.5, itl_p50_s=0.01), 0.5)
    pace = desk.of().pace
    assert pace is not None
    assert (pace.samples, pace.ttft_s.value, pace.itl_s.value) == (1, 0.5, 0.01)  # type: ignore[union-attr]
    assert (pace.cold_start_s.value, pace.joules_per_token.value) == (3.0, 0.5)  # type: ignore[union-attr]
    assert desk.of("other").pace is None


def test_earlier_answers_count_where_nothing_newer_was_learned() -> None:
    desk = Desk()
    desk.ledger.learn(KEY, "new", Timing(ttft_s=1.0), None)
    desk.ledger.seed([StoredAnswer(KEY, name, 9.0) for name in ("new", "old", "old")])
    new, old = desk.of("new").pace, desk.of("old").pace
    assert new is not None
    assert old is not None
    assert (new.samples, old.samples) == (1, 2)


def test_full_memory_is_held_against_one_model_until_there_is_clearly_more() -> None:
    desk = Desk()
    desk.attempt(FULL)
    assert desk.of().barred == FULL.message
    assert desk.of(named="gpu0").barred == desk.of(named=KEY).barred == desk.of("other").barred == ""
    pool = GPU.largest_pool
    assert pool is not None
    for more, barred in ((2**20, FULL.message), (pool.total_bytes // 10, "")):
        status = device_status("gpu0", free=pool.free_bytes + more)
        desk.ledger.review(snapshot_of(status))
        assert desk.of(status=status).barred == barred
    assert [event.severity for event in desk.told] == [Severity.WARNING, Severity.INFO]


def test_full_memory_is_tried_again_after_a_minute_by_one_request() -> None:
    desk = Desk()
    desk.attempt(FULL)
    desk.clock.advance(59.0)
    assert desk.of().barred
    desk.clock.advance(1.0)
    assert not desk.of().barred
    desk.ledger.begin(KEY, "m")
    assert desk.of().barred
    desk.ledger.end(GPU, "m", outcome=True)
    assert not desk.of().barred
    assert [event.words for event in desk.told][-1] == "m fits again"


def test_missing_kernels_are_held_against_the_device_for_good_but_not_against_a_server_there() -> None:
    desk = Desk()
    desk.attempt(NoKernels("no kernels for sm_12"))
    desk.attempt(NoKernels("no kernels for sm_12"), "other")
    desk.clock.advance(1e6)
    assert desk.of("third", named="gpu0").barred == "no kernels for sm_12"
    assert len(desk.told) == 1
    desk.engine.standings[KEY] = Standing(server="rack", slots=8)
    assert desk.of("third").barred == ""


def test_who_names_a_server_that_is_thought_to_be_down_finds_out() -> None:
    desk = Desk()
    for server, named in ((None, "does not answer"), ("rack", "")):
        desk.engine.standings[KEY] = Standing(server=server, problem="does not answer")
        assert desk.of().barred == "does not answer"
        assert desk.of(named="gpu0").barred == named


@pytest.mark.parametrize("error", [WorkerDied("dead"), ServerDown("down")])
def test_a_breaker_opens_tries_one_and_closes(error: HwdashError) -> None:
    desk = Desk()
    for _ in range(3):
        assert desk.of().barred == ""
        desk.attempt(error)
    assert "3 failures in a row" in desk.of().barred
    assert desk.of(named="gpu0").barred == ""
    desk.clock.advance(11.0)
    assert desk.of().barred == ""
    desk.ledger.begin(KEY, "m")
    assert "one request is trying it now" in desk.of().barred
    desk.ledger.end(GPU, "m", outcome=False)
    assert desk.of().barred == ""
    desk.attempt(outcome=True)
    assert [event.words.split(":")[0] for event in desk.told] == [
        "no prompts go to it for now",
        "it answers again",
    ]
    assert {event.kind for event in desk.told} == {EventKind.DEVICE}


@pytest.mark.parametrize("error", [PromptTooLong("long"), ModelError("torn"), FULL, HwdashError("a bug")])
def test_what_is_not_the_device_s_fault_opens_no_breaker(error: HwdashError) -> None:
    desk = Desk()
    for _ in range(9):
        desk.attempt(error)
    (state,) = desk.ledger.admission(snapshot_of(GPU))
    assert state.breaker is BreakerState.CLOSED


def test_knowledge_has_what_runs_waits_and_is_loaded() -> None:
    async def run() -> None:
        desk = Desk()
        assert desk.ledger.admission(snapshot_of(GPU)) == ()
        desk.engine.standings[KEY] = Standing(loaded=True, slots=2, server="rack")
        gate = desk.ledger.gates[KEY] = Gate("gpu0", 8, 2, desk.clock)
        for _ in range(3):
            gate.enter()
        assert desk.of() == Circumstance(None, True, 2, 1, 2, server="rack")
        assert desk.ledger.admission(snapshot_of(GPU)) == (AdmissionStatus("gpu0", 2, 1, 2),)

    asyncio.run(run())


def test_an_answer_is_not_taken_to_be_as_long_as_it_may_be() -> None:
    knowledge = Desk().ledger.knowledge("m", snapshot_of(GPU), None, 10, 100_000)
    assert (knowledge.prompt_tokens, knowledge.answer_tokens) == (10, TYPICAL_ANSWER)


async def test_shapes_are_read_once_and_again_after_a_while() -> None:
    clock, reads = ManualClock(), []

    async def read(model: str) -> ModelShape | None:
        reads.append(model)
        return ModelShape(len(reads), 1, 1)

    book = ShapeBook(read, clock)
    assert [await book.find("m") for _ in range(3)] == [ModelShape(1, 1, 1)] * 3
    clock.advance(6.0)
    assert await book.find("m") == ModelShape(1, 1, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await book.find("m") == ModelShape(2, 1, 1)
    for number in range(100):
        await book.find(f"model {number}")
    assert await book.find("m") == ModelShape(103, 1, 1)
    book.close()


async def test_a_disk_that_does_not_answer_holds_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(_: str) -> ModelShape | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("hwdash.daemon.shape._PATIENCE_S", 0.01)
    book = ShapeBook(read, ManualClock())
    assert await book.find("m") is None
    assert book.at_hand("m") is None
    book.close()
