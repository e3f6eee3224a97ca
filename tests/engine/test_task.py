"""Measuring tasks: sane figures, an end when they are told to, and words for what cannot be run."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from hwdash.core.measurement import Load, Measured, Task
from tests.tiny_model import CONTEXT

if TYPE_CHECKING:
    from hwdash.engine.worker.decoder import Decoder, Made
    from tests.engine.desk import Desk, Faulty


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import arithmetic

    monkeypatch.setattr(arithmetic, "_HOST_COPY_BYTES", 2**22)
    monkeypatch.setattr(arithmetic, "_PRODUCT_S", 0.005)


def ran(desk: Desk, task: Task, decoder: Decoder | None = None, stop_after: int | None = None) -> list[Measured]:
    from hwdash.engine.worker.task import run_task

    asked = itertools.count(1)
    reports = list(
        run_task(
            decoder or desk.decoder(), desk.model, task, lambda: stop_after is not None and next(asked) >= stop_after
        )
    )
    assert [report.last for report in reports] == [False] * (len(reports) - 1) + [True]
    for one, other in itertools.pairwise(reports):
        assert one.began_s < one.ended_s == other.began_s
        assert one.problem == ""
    return reports


def only(desk: Desk, task: Task, decoder: Decoder | None = None) -> Measured:
    (report,) = ran(desk, task, decoder)
    assert sum(report.steps_s) <= report.ended_s - report.began_s + 1e-3
    assert all(step > 0 for step in report.steps_s)
    return report


def test_copies(desk: Desk) -> None:
    report = only(desk, Task(Load.COPY, repeats=3))
    assert (len(report.steps_s), report.bytes, report.tokens, report.flops) == (3, 3 * 2 * 2**22, 0, 0.0)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_products(desk: Desk, dtype: str | None) -> None:
    report = only(desk, Task(Load.MATMUL, repeats=3, dtype=dtype))
    side = (report.flops / 3 / 2) ** (1 / 3)
    assert len(report.steps_s) == 3
    assert round(side) in {256, 512, 1024, 2048}
    assert (report.bytes, report.tokens, report.problem) == (0, 0, "")


def test_products_in_a_precision_that_there_is_not(desk: Desk) -> None:
    assert only(desk, Task(Load.MATMUL, dtype="fp5")).problem.startswith(
        "products in fp5 cannot be measured; there are"
    )


def test_prompts(desk: Desk) -> None:
    from tests.engine.desk import Faulty

    decoder = Faulty(desk.decoder())
    prompts: list[tuple[int, ...]] = []
    decoder.opening = lambda prompt: prompts.append(tuple(prompt))
    report = only(desk, Task(Load.PREFILL, batch=2, prompt_tokens=200, repeats=3), decoder)
    assert (len(report.steps_s), report.tokens, report.bytes) == (6, 6 * 200, 0)
    assert {len(prompt) for prompt in prompts} == {200}
    assert len(set(prompts)) == 7  # one to warm up, and none of them the same
    assert all(0 <= token < desk.model.network.config.vocab_size for prompt in prompts for token in prompt)
    assert not decoder.opened


def test_decoding(desk: Desk) -> None:
    from tests.engine.desk import Faulty

    decoder = Faulty(desk.decoder())
    report = only(desk, Task(Load.DECODE, batch=3, prompt_tokens=10, new_tokens=7), decoder)
    assert (len(report.steps_s), report.tokens) == (7, 21)
    least, most = (decoder.read_bytes(context, 3) for context in (10, 20))
    assert 7 * least < report.bytes < 7 * most
    assert not decoder.opened


@pytest.mark.parametrize("load", Load)
def test_a_task_for_a_time_tells_of_itself_until_then(desk: Desk, load: Load) -> None:
    from tests.engine.desk import Faulty

    decoder = Faulty(desk.decoder())
    reports = ran(desk, Task(load, batch=2, prompt_tokens=8, seconds=0.3, repeats=1, report_s=0.02), decoder)
    assert len(reports) > 2
    assert all(report.steps_s for report in reports[:-1])
    assert reports[-1].ended_s - reports[0].began_s >= 0.3
    assert not decoder.opened


def test_a_task_may_use_the_whole_context(desk: Desk) -> None:
    report = only(desk, Task(Load.DECODE, prompt_tokens=CONTEXT - 5, new_tokens=2))
    assert (len(report.steps_s), report.problem) == (2, "")


def test_sequences_of_a_long_task_end_one_after_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import sequence
    from tests.engine.desk import Faulty

    monkeypatch.setattr(sequence, "_LONG_ANSWER", 8)
    decoder = Faulty(desk.decoder())
    steps = [0]
    begun: list[int] = []

    def stepping() -> None:
        steps[0] += 1

    decoder.stepping = stepping
    decoder.opening = lambda _: begun.append(steps[0])
    task = Task(Load.DECODE, batch=4, prompt_tokens=5, new_tokens=2, seconds=1e9, report_s=1e9)
    ran(desk, task, decoder, stop_after=40)
    assert begun[:8] == [0, 0, 0, 0, 2, 4, 6, 8]


def test_sequences_begin_anew_when_their_context_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import sequence
    from tests.engine.desk import Faulty

    monkeypatch.setattr(sequence, "_LONG_ANSWER", 4)
    decoder = Faulty(desk.decoder())
    begun: list[int] = []
    decoder.opening = lambda prompt: begun.append(len(prompt))
    reports = ran(desk, Task(Load.DECODE, batch=2, prompt_tokens=5, new_tokens=2, seconds=0.3), decoder)
    assert len(begun) >= 4
    assert sum(report.tokens for report in reports) > 8
    assert not decoder.opened


@pytest.mark.parametrize("load", Load)
@pytest.mark.parametrize("after", [1, 5])
def test_a_task_stops_when_it_is_told_to(desk: Desk, load: Load, after: int) -> None:
    from tests.engine.desk import Faulty

    decoder = Faulty(desk.decoder())
    task = Task(load, batch=2, prompt_tokens=300, new_tokens=10**4, repeats=10**9, seconds=1e9, report_s=1e9)
    (report,) = ran(desk, task, decoder, stop_after=after)
    assert len(report.steps_s) <= after
    assert report.problem == ""
    assert not decoder.opened


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Task(Load.DECODE, batch=5), "5 sequences at once were asked for and this worker decodes 1 to 4"),
        (
            Task(Load.DECODE, prompt_tokens=CONTEXT, new_tokens=9),
            rf"{CONTEXT} tokens with 9 new ones and 3 before .* {CONTEXT}, the",
        ),
        (Task(Load.DECODE, prompt_tokens=CONTEXT - 3, new_tokens=1), "with 1 new ones and 3 before them .* not fit"),
        (Task(Load.PREFILL, prompt_tokens=CONTEXT), rf"{CONTEXT} tokens with 1 new ones does not fit into {CONTEXT}"),
        (Task(Load.PREFILL, prompt_tokens=0), "at least one token"),
    ],
)
def test_what_does_not_fit_is_told(desk: Desk, task: Task, problem: str) -> None:
    import re

    assert re.search(problem, only(desk, task).problem)


@pytest.mark.parametrize("hook", ["opening", "reading", "stepping"])
def test_running_out_of_memory_is_told(desk: Desk, hook: str) -> None:
    import torch

    from tests.engine.desk import OUT_OF_MEMORY, Faulty

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    decoder = Faulty(desk.decoder())
    setattr(decoder, hook, full)
    report = only(desk, Task(Load.DECODE, batch=2), decoder)
    assert report.problem.startswith("the device is out of memory (2.00 GiB more were needed")
    assert not decoder.opened


def ending(desk: Desk, after: int) -> Faulty:
    """A decoder whose sequences end after so many tokens."""
    from tests.engine.desk import Faulty

    given: dict[int, int] = {}
    decoder = Faulty(desk.decoder())

    def count(made: Made) -> Made | None:
        given[made.number] = given.get(made.number, 0) + 1
        return made if given[made.number] <= after else None

    decoder.given = count
    return decoder


def test_where_answers_end_others_begin(desk: Desk) -> None:
    decoder = ending(desk, 5)
    report = only(desk, Task(Load.DECODE, batch=2, new_tokens=7), decoder)
    assert (len(report.steps_s), report.tokens, report.problem) == (7, 14, "")
    assert not decoder.opened


def test_answers_that_end_at_once_cannot_be_measured(desk: Desk) -> None:
    report = only(desk, Task(Load.DECODE, new_tokens=7), ending(desk, 2))
    assert report.problem == "the answers of tiny to random prompts end at once, 10 times in a row"


def test_damaged_weights_are_told(desk: Desk) -> None:
    from hwdash.engine.worker.decoder import DAMAGED, Made
    from tests.engine.desk import Faulty

    decoder = Faulty(desk.decoder())
    decoder.given = lambda made: Made(made.number, DAMAGED, made.at_s)
    assert "NaN or infinity" in only(desk, Task(Load.DECODE), decoder).problem


def test_a_device_beyond_repair_is_told_and_raised(desk: Desk) -> None:
    from hwdash.engine.worker.task import run_task
    from tests.engine.desk import Faulty

    def fault() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    decoder = Faulty(desk.decoder())
    decoder.stepping = fault
    reports = run_task(decoder, desk.model, Task(Load.DECODE), lambda: False)
    last = next(reports)
    assert last.last
    assert "unspecified launch failure" in last.problem
    with pytest.raises(RuntimeError, match="unspecified"):
        next(reports)
