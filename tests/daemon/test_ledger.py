"""What is learned of devices: paces, verdicts, breakers, and the shapes of models."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hwdash.core.clock import ManualClock
from hwdash.core.device import MemoryPool
from hwdash.core.errors import (
    DeviceFull,
    EngineError,
    HwdashError,
    ModelError,
    NoKernels,
    PromptTooLong,
    ServerDown,
    WorkerDied,
    error_from_wire,
)
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.inference import Timing
from hwdash.core.model import ModelShape
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.status import AdmissionStatus, BreakerState
from hwdash.daemon.circuit import Circuits
from hwdash.daemon.ledger import TYPICAL_ANSWER, Ledger
from hwdash.daemon.shape import ShapeBook
from hwdash.engine.engine import Standing
from hwdash.engine.fake import FakeEngine
from hwdash.routing.knowledge import Circumstance
from hwdash.store.pace import StoredAnswer
from tests.routing.build import CAPPED, GIB, device_status, snapshot_of

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
        self.ledger.end(self.ledger.begin(GPU, model), outcome)

    def state(self) -> AdmissionStatus:
        (state,) = self.ledger.admission(snapshot_of(GPU)) or (AdmissionStatus("gpu0"),)
        return state


def test_a_pace_has_neither_cold_start_nor_queue_in_it() -> None:
    desk = Desk()
    desk.ledger.learn(KEY, "m", Timing(queue_s=2.0, cold_start_s=3.0, ttft_s=5.5, itl_p50_s=0.01), 0.5)
    pace = desk.of().pace
    assert pace is not None
    assert (pace.samples, pace.ttft_s.value, pace.itl_s.value) == (1, 0.5, 0.01)  # type: ignore[union-attr]
    assert (pace.cold_start_s.value, pace.joules_per_token.value) == (3.0, 0.5)  # type: ignore[union-attr]
    assert desk.of("other").pace is None


@pytest.mark.parametrize(
    ("timing", "itl_s"),
    [(Timing(itl_p50_s=2e-5, tokens_per_s=100.0), 0.01), (Timing(itl_p50_s=0.5, tokens_per_s=0.0), 0.5)],
)
def test_the_speed_of_the_whole_answer_counts_and_not_the_gaps_between_its_pieces(timing: Timing, itl_s: float) -> None:
    desk = Desk()
    desk.ledger.learn(KEY, "m", timing, None)
    pace = desk.of().pace
    assert pace is not None
    assert pace.itl_s is not None
    assert pace.itl_s.value == pytest.approx(itl_s)


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
    for more, barred in ((2867 * 2**20, FULL.message), (2868 * 2**20, "")):  # 2 % of 140 GiB are 2867.2 MiB.
        status = device_status("gpu0", free=130 * GIB + more)
        desk.ledger.review(snapshot_of(status))
        assert desk.of(status=status).barred == barred
    assert [event.severity for event in desk.told] == [Severity.WARNING, Severity.INFO]


def test_on_a_small_device_clearly_more_memory_is_256_mib() -> None:
    desk = Desk()

    def small(used_mib: int) -> DeviceStatus:
        return replace(GPU, pools=(MemoryPool("hbm", 4 * GIB, used_mib * 2**20, (4096 - used_mib) * 2**20),))

    desk.ledger.end(desk.ledger.begin(small(4000), "m"), FULL)
    for used_mib, barred in ((3745, FULL.message), (3744, "")):
        desk.ledger.review(snapshot_of(small(used_mib)))
        assert desk.of().barred == barred


def test_memory_that_was_taken_while_a_model_loaded_is_back_when_it_is_free_again() -> None:
    desk = Desk()

    def review(free_gib: int) -> str:
        desk.ledger.review(snapshot_of(device_status("gpu0", free=free_gib * GIB)))
        return desk.of().barred

    desk.attempt(FULL)  # with 130 GiB free as it began
    assert review(1) == FULL.message  # what the failed worker had taken may be in it
    assert review(130) == FULL.message
    desk.clock.advance(3.0)
    assert review(1) == FULL.message
    assert review(130) == ""


def test_full_memory_is_tried_again_after_a_minute_by_one_request() -> None:
    desk = Desk()
    desk.attempt(FULL)
    desk.clock.advance(59.0)
    assert desk.of().barred
    desk.clock.advance(1.0)
    assert not desk.of().barred
    attempt = desk.ledger.begin(GPU, "m")
    assert desk.of().barred
    assert desk.of().again_s == 60.0
    desk.ledger.end(attempt, outcome=True)
    assert not desk.of().barred
    assert [event.words for event in desk.told][-1] == "m runs there again"


def test_a_model_that_was_loaded_fits_whatever_one_prompt_needs() -> None:
    desk = Desk()
    desk.engine.standings[KEY] = Standing(loaded=True)
    attempt = desk.ledger.begin(GPU, "m")
    desk.engine.standings[KEY] = Standing(loaded=False)
    desk.ledger.end(attempt, FULL)
    assert not desk.of().barred
    assert desk.told == []


def test_missing_kernels_of_a_model_are_held_against_it_there_until_it_is_answered() -> None:
    desk = Desk()
    for _ in range(2):
        desk.attempt(NoKernels("no kernels for this"))
    desk.clock.advance(1e6)
    circumstance = desk.of()
    assert (circumstance.barred, circumstance.again_s) == ("no kernels for this", None)
    assert desk.of(named="gpu0").barred == desk.of("other").barred == ""
    assert desk.state().verdicts == ("m: no kernels for this",)
    desk.engine.standings[KEY] = Standing(server="rack", slots=8)
    assert desk.of().barred == ""
    desk.engine.standings.clear()
    desk.attempt(outcome=True)
    assert desk.of().barred == ""
    assert [event.words for event in desk.told] == [
        "no prompts for m go to it any more: no kernels for this",
        "m runs there again",
    ]


def test_a_build_of_torch_without_the_device_is_held_against_every_model() -> None:
    desk = Desk()
    desk.attempt(error_from_wire("no_kernels", "no kernels for sm_12", "device"))
    assert desk.of("other").barred == "no kernels for sm_12"
    assert desk.of("other", named="gpu0").barred == ""
    assert desk.state().verdicts == ("no kernels for sm_12",)
    desk.attempt(True, "third")
    assert desk.of("other").barred == ""


def test_who_names_a_server_that_is_thought_to_be_down_finds_out() -> None:
    desk = Desk()
    for server, named in ((None, "does not answer"), ("rack", "")):
        desk.engine.standings[KEY] = Standing(server=server, problem="does not answer")
        assert desk.of().barred == "does not answer"
        assert desk.of(named="gpu0").barred == named


@pytest.mark.parametrize("error", [WorkerDied("dead"), ServerDown("down"), EngineError("not loaded in time")])
def test_a_breaker_opens_tries_one_and_closes(error: HwdashError) -> None:
    desk = Desk()
    for _ in range(3):
        assert desk.of().barred == ""
        desk.attempt(error)
    assert "3 failures in a row" in desk.of().barred
    assert desk.of().again_s == 10.0
    assert (desk.state().breaker, desk.state().problem) == (BreakerState.OPEN, f"m: {desk.of().barred}")
    assert desk.of(named="gpu0").barred == desk.of("other").barred == ""
    desk.clock.advance(11.0)
    assert desk.of().barred == ""
    trial = desk.ledger.begin(GPU, "m")
    assert "one request is trying it now" in desk.of().barred
    # Others that end meanwhile leave the trial alone.
    desk.attempt(outcome=False)
    desk.attempt(FULL)
    assert "one request is trying it now" in desk.of().barred
    desk.ledger.end(trial, outcome=False)
    assert "one request" not in desk.of().barred
    desk.attempt(outcome=True)
    assert desk.of().barred == ""
    assert desk.state().breaker is BreakerState.CLOSED
    told = [event.words.split(":")[0] for event in desk.told if "memory" not in event.words]
    assert told == ["no prompts for m go to it for now", "it answers m again"]
    assert {event.kind for event in desk.told} == {EventKind.DEVICE}


def test_a_device_on_which_three_models_fail_is_kept_from_all_until_one_is_answered() -> None:
    desk = Desk()
    for number in range(3):
        assert desk.of("fresh").barred == ""
        for _ in range(2):
            desk.attempt(WorkerDied("dead"), f"m{number}")
    assert desk.of("fresh").barred == "3 different models failed in a row, last: dead; next try in 10 s"
    assert desk.state().problem == desk.of("fresh").barred
    desk.clock.advance(11.0)
    trial = desk.ledger.begin(GPU, "m0")
    assert "one request is trying it now" in desk.of("fresh").barred
    # A model that is known to fail does not put off the others.
    desk.ledger.end(trial, WorkerDied("dead"))
    assert desk.of("fresh").barred == ""
    desk.attempt(True, "fresh")
    assert [event.words.split(":")[0] for event in desk.told][-1] == "it answers again"
    assert desk.state().breaker is BreakerState.OPEN
    assert desk.of("m1").barred == ""


def test_one_incident_counts_once() -> None:
    desk = Desk()
    attempts = []
    for _ in range(4):
        attempts.append(desk.ledger.begin(GPU, "m"))
        desk.clock.advance(0.1)
    for attempt in attempts:
        desk.ledger.end(attempt, ServerDown("connection reset"))
    assert desk.of().barred == ""
    assert desk.state().breaker is BreakerState.CLOSED


def test_names_that_a_server_fails_do_not_pile_up() -> None:
    circuits = Circuits()
    for number in range(2000):
        circuits.failed("k", f"m{number}", "down", 0.0, 0.0)
    assert circuits.standing("k", 0.0)[1].startswith("64 different models failed in a row")
    assert len(circuits._models) == 1024


@pytest.mark.parametrize("error", [PromptTooLong("long"), ModelError("torn"), FULL, HwdashError("a bug")])
def test_what_is_not_the_device_s_fault_opens_no_breaker(error: HwdashError) -> None:
    desk = Desk()
    for _ in range(9):
        desk.attempt(error)
    assert desk.state().breaker is BreakerState.CLOSED


async def test_knowledge_has_what_runs_waits_and_is_loaded() -> None:
    desk = Desk()
    assert desk.ledger.admission(snapshot_of(GPU)) == ()
    desk.engine.standings[KEY] = Standing(loaded=True, slots=2, server="rack")
    for _ in range(3):
        desk.ledger.line(GPU, "m", 8).enter()
    assert desk.of() == desk.of("other") == Circumstance(None, True, 2, 1, 2, server="rack")
    assert desk.state() == AdmissionStatus("gpu0", 2, 1, 2)


async def test_a_worker_of_our_own_takes_one_request_and_the_device_as_many_as_are_set() -> None:
    desk = Desk()
    for _ in range(2):
        desk.ledger.line(GPU, "m", 8).enter()
    assert desk.of() == Circumstance(None, False, 1, 1, 1)
    assert desk.of("other") == Circumstance(None, False, 1, 1, 4)
    assert desk.state() == AdmissionStatus("gpu0", 1, 1, 4)
    hot = device_status("gpu0", throttle=CAPPED)
    desk.ledger.review(snapshot_of(hot))
    assert desk.of(status=hot) == Circumstance(None, False, 1, 1, 1)
    assert desk.state() == AdmissionStatus("gpu0", 1, 1, 2, "power cap: 2 at once instead of 4")


@pytest.mark.parametrize(("standing", "limit"), [(Standing(slots=3), 3), (Standing(slots=9), 4), (Standing(), 1)])
async def test_before_the_first_request_the_limits_are_the_same(standing: Standing, limit: int) -> None:
    desk = Desk()
    desk.engine.standings[KEY] = standing
    assert desk.of().limit == limit
    desk.ledger.line(GPU, "m", 8).enter().leave()
    assert desk.of().limit == limit


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
