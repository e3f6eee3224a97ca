"""Several requests at once: the same tokens as alone, whoever comes, leaves or fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hwdash.core.inference import FinishReason
from hwdash.core.text import sanitise
from hwdash.engine.message import Done, Failed, FromWorker, Prefill, Token
from tests.tiny_model import CONTEXT

if TYPE_CHECKING:
    from hwdash.engine.worker.decoder import Made
    from tests.engine.desk import Desk

TEXTS = ("the quick brown fox", "Grüße", "user assistant system user", "x")


def raising(error: Exception, when: Callable[[], bool] = lambda: True) -> Callable[..., None]:
    def hook(*_: object) -> None:
        if when():
            raise error

    return hook


def once(error: Exception) -> Callable[..., None]:
    left = [error]
    return raising(error, lambda: bool(left and left.pop()))


def tokens_of(number: int) -> Callable[[Sequence[FromWorker]], bool]:
    """Whether request *number* has text."""
    return lambda messages: any(isinstance(message, Token) and message.id == number for message in messages)


def test_requests_that_join_at_different_moments_get_what_generate_makes(desk: Desk) -> None:
    from tests.engine.desk import asking, digest_of, done, finished, text

    batch = desk.batch(slots=3)
    messages = []
    for number, prompt in enumerate(TEXTS, 1):  # the fourth waits for a slot
        batch.add(asking(number, prompt, max_tokens=20))
        messages += [*batch.step(), *batch.step()]
    messages += finished(batch)
    for number, prompt in enumerate(TEXTS, 1):
        expected = desk.answers(prompt, 20)
        account = done(messages, number)
        assert account.digest == digest_of(expected)
        assert text(messages, number) == sanitise(desk.model.decode(expected))
        assert (account.finish_reason, account.completion_tokens) == (FinishReason.LENGTH, 20)
        assert account.prompt_tokens == len(desk.model.encode(prompt, False))
        assert 0 < account.device_s <= account.active_s
    assert isinstance(messages[0], Prefill)


def test_who_waits_is_served_in_order_and_never_more_than_there_are_slots(desk: Desk) -> None:
    from tests.engine.desk import Faulty, asking, finished

    decoder = Faulty(desk.decoder(slots=2))
    batch = desk.batch(decoder)
    for number in range(1, 6):
        batch.add(asking(number, max_tokens=2 + number))
    most = []
    decoder.stepping = lambda: most.append(len(decoder.opened))
    begun = [message.id for message in finished(batch) if isinstance(message, Prefill)]
    assert begun == [1, 2, 3, 4, 5]
    assert max(most) == 2
    assert not decoder.opened


def test_a_cancelled_request_does_not_disturb_the_others(desk: Desk) -> None:
    from tests.engine.desk import Faulty, asking, digest_of, done, finished, of, until

    decoder = Faulty(desk.decoder(slots=3))
    batch = desk.batch(decoder)
    batch.add(asking(1, TEXTS[0], max_tokens=30))
    batch.add(asking(2, TEXTS[1], max_tokens=CONTEXT))
    messages = until(batch, tokens_of(2))
    batch.add(asking(3, "word " * 600))
    batch.add(asking(4))
    until(batch, lambda told: any(isinstance(message, Prefill) for message in told))
    batch.cancel(2)  # runs
    batch.cancel(3)  # is being read
    batch.cancel(4)  # waits
    batch.cancel(99)
    told = batch.step()
    for number in (2, 3, 4):
        assert done(told, number).finish_reason is FinishReason.CANCELLED
    assert done(told, 2).digest == digest_of(desk.answers(TEXTS[1], done(told, 2).completion_tokens))
    assert done(told, 4).active_s == 0.0
    assert len(decoder.opened) == 1
    messages += [*told, *finished(batch)]
    assert done(messages, 1).digest == digest_of(desk.answers(TEXTS[0], 30))
    assert not of(finished(batch), 2)


def test_a_seed_gives_the_same_tokens_whoever_else_is_there(desk: Desk) -> None:
    from tests.engine.desk import asking, done, finished

    def digests(*seeds: int | None, top_p: float = 1.0) -> list[str]:
        batch = desk.batch()
        for number, seed in enumerate(seeds):
            batch.add(asking(number, TEXTS[0], seed=seed, temperature=1.5, top_p=top_p, max_tokens=16))
            batch.step()
        messages = finished(batch)
        return [done(messages, number).digest for number in range(len(seeds))]

    (alone,) = digests(7)
    assert digests(3, 7, 5)[1] == alone
    assert digests(7, 7) == [alone, alone]
    assert len({*digests(3, 7, 5), *digests(None, None)}) == 5
    assert digests(7, top_p=0.3) == digests(7, 1, top_p=0.3)[:1] != [alone]


def test_a_long_prompt_does_not_stop_an_answer(desk: Desk) -> None:
    from tests.engine.desk import asking, digest_of, done, finished, until

    batch = desk.batch()
    batch.add(asking(1, TEXTS[0], max_tokens=200))
    messages = until(batch, tokens_of(1))
    long = "the quick brown fox " * 200
    batch.add(asking(2, long, max_tokens=3))
    messages += until(batch, lambda told: any(isinstance(message, Prefill) for message in told))
    chunks = -(-len(desk.model.encode(long, False)) // 128)
    assert chunks >= 5
    meanwhile = until(batch, tokens_of(2))
    assert sum(isinstance(message, Token) and message.id == 1 for message in meanwhile) == chunks - 1
    # A short prompt does not wait until a long one is read.
    batch.add(asking(3, long, max_tokens=3))
    batch.add(asking(4, TEXTS[3], max_tokens=3))
    messages += meanwhile + (told := until(batch, tokens_of(4)))
    assert not tokens_of(3)(told)
    messages += finished(batch)
    for number, prompt, count in ((1, TEXTS[0], 200), (2, long, 3), (3, long, 3), (4, TEXTS[3], 3)):
        assert done(messages, number).digest == digest_of(desk.answers(prompt, count))


def test_answers_end_at_stop_strings_at_end_tokens_and_at_the_context(desk: Desk) -> None:
    from dataclasses import replace

    from hwdash.engine.worker.batch import Batch
    from tests.engine.desk import asking, digest_of, done, finished, text

    whole = desk.answers(TEXTS[0], 12)
    answer = sanitise(desk.model.decode(whole))
    end = whole[6]
    model = replace(desk.model, ends=frozenset({end}), context_length=len(desk.model.encode(TEXTS[0], False)) + 4)
    batch = desk.batch()
    batch.add(asking(1, TEXTS[0], stop=(answer[5:8],)))
    batch.add(asking(2, TEXTS[0], stop=("never in there",)))
    messages = finished(batch)
    assert text(messages, 1) == answer[: answer.index(answer[5:8])]
    assert done(messages, 1).finish_reason is FinishReason.STOP
    assert text(messages, 2) == answer
    batch = Batch(replace(model, context_length=None), desk.decoder())
    batch.add(asking(1, TEXTS[0]))
    account = done(finished(batch), 1)
    kept = whole[: whole.index(end)]
    assert (account.finish_reason, account.completion_tokens) == (FinishReason.STOP, len(kept))
    assert account.digest == digest_of(kept)
    batch = Batch(replace(model, ends=frozenset()), desk.decoder())
    batch.add(asking(1, TEXTS[0]))
    batch.add(asking(2, TEXTS[0] * 9))
    messages = finished(batch)
    assert (done(messages, 1).finish_reason, done(messages, 1).completion_tokens) == (FinishReason.LENGTH, 4)
    assert messages[-1] != messages[0]
    (refused,) = [message for message in messages if isinstance(message, Failed)]
    assert (refused.id, refused.code, refused.param) == (2, "prompt_too_long", "messages")


def test_a_damaged_token_fails_its_request_only(desk: Desk) -> None:
    from hwdash.engine.worker.decoder import DAMAGED
    from tests.engine.desk import Faulty, asking, digest_of, done, failed, finished

    def spoilt(made: Made) -> Made:
        return type(made)(made.number, DAMAGED, made.at_s) if made.number == 2 else made

    decoder = Faulty(desk.decoder())
    decoder.given = spoilt
    batch = desk.batch(decoder)
    for number in (1, 2, 3):
        batch.add(asking(number, TEXTS[number]))
    messages = finished(batch)
    assert "NaN or infinity; its weights are damaged" in failed(messages, 2).message
    for number in (1, 3):
        assert done(messages, number).digest == digest_of(desk.answers(TEXTS[number], 12))
    assert not decoder.opened


def test_who_finds_no_room_waits_for_others_and_fails_alone(desk: Desk) -> None:
    from hwdash.core.errors import DeviceFull
    from tests.engine.desk import Faulty, asking, done, failed, finished

    decoder = Faulty(desk.decoder())
    tries: list[int] = []

    def one_at_a_time(prompt: Sequence[int]) -> None:
        tries.append(len(prompt))
        if decoder.opened or len(prompt) > 100:
            raise DeviceFull("no room for so many")

    decoder.opening = one_at_a_time
    batch = desk.batch(decoder)
    batch.add(asking(1))
    batch.add(asking(2))
    batch.add(asking(3, "word " * 200))
    messages = finished(batch)
    ends = [message.id for message in messages if isinstance(message, Done | Failed)]
    assert ends == [1, 2, 3]
    assert done(messages, 1).digest == done(messages, 2).digest
    assert (failed(messages, 3).code, failed(messages, 3).message) == (DeviceFull.code, "no room for so many")
    assert len(tries) == 5  # a request that waits for room is tried again when somebody has left, not at every step


def test_who_waits_behind_one_that_gives_up_is_served_at_once(desk: Desk) -> None:
    from hwdash.core.errors import DeviceFull
    from tests.engine.desk import Faulty, asking, done, finished

    decoder = Faulty(desk.decoder())

    def short_ones(prompt: Sequence[int]) -> None:
        if len(prompt) > 100:
            raise DeviceFull("no room for so many")

    decoder.opening = short_ones
    batch = desk.batch(decoder)
    batch.add(asking(1, max_tokens=50))
    batch.add(asking(2, "word " * 200))
    batch.add(asking(3, max_tokens=2))
    batch.step()
    batch.cancel(2)
    messages = finished(batch)
    assert done(messages, 3).finish_reason is FinishReason.LENGTH
    assert [message.id for message in messages if isinstance(message, Done)] == [2, 3, 1]


def test_one_that_is_known_to_lack_memory_fails_and_not_the_youngest(desk: Desk) -> None:
    from hwdash.core.errors import DeviceFull
    from hwdash.engine.worker.decoder import SequenceFailed
    from tests.engine.desk import Faulty, asking, done, failed, finished, until

    error = SequenceFailed(1)
    error.__cause__ = DeviceFull("no room for more")
    decoder = Faulty(desk.decoder())
    batch = desk.batch(decoder)
    for number in (1, 2):
        batch.add(asking(number, TEXTS[number]))
    messages = until(batch, tokens_of(2))
    decoder.stepping = once(error)
    messages += finished(batch)
    assert (failed(messages, 1).code, failed(messages, 1).message) == (DeviceFull.code, "no room for more")
    assert done(messages, 2).finish_reason is FinishReason.LENGTH


def test_running_out_of_memory_while_a_prompt_is_read_fails_that_request(desk: Desk) -> None:
    import torch

    from hwdash.core.errors import DeviceFull
    from tests.engine.desk import OUT_OF_MEMORY, Faulty, asking, digest_of, done, failed, finished

    decoder = Faulty(desk.decoder())
    batch = desk.batch(decoder)
    batch.add(asking(1, TEXTS[0]))
    messages = batch.step()
    decoder.reading = once(torch.OutOfMemoryError(OUT_OF_MEMORY))
    batch.add(asking(2))
    batch.add(asking(3, TEXTS[1]))
    messages += finished(batch)
    assert failed(messages, 2).code == DeviceFull.code
    assert "2.00 GiB more were needed" in failed(messages, 2).message
    assert done(messages, 1).digest == digest_of(desk.answers(TEXTS[0], 12))
    assert done(messages, 3).digest == digest_of(desk.answers(TEXTS[1], 12))
    assert not decoder.opened


def test_running_out_of_memory_in_a_step_fails_the_youngest(desk: Desk) -> None:
    import torch

    from hwdash.core.errors import DeviceFull
    from tests.engine.desk import OUT_OF_MEMORY, Faulty, asking, digest_of, done, failed, finished, until

    decoder = Faulty(desk.decoder())
    batch = desk.batch(decoder)
    for number in (0, 1, 2):
        batch.add(asking(number, TEXTS[number]))
    messages = until(batch, tokens_of(2))
    decoder.stepping = once(torch.OutOfMemoryError(OUT_OF_MEMORY))
    messages += finished(batch)
    assert failed(messages, 2).code == DeviceFull.code
    for number in (0, 1):
        assert done(messages, number).digest == digest_of(desk.answers(TEXTS[number], 12))


@pytest.mark.parametrize("known", [True, False])
def test_any_other_failure_of_a_step_fails_whom_it_concerns(desk: Desk, known: bool) -> None:
    from hwdash.engine.worker.decoder import SequenceFailed
    from tests.engine.desk import Faulty, asking, digest_of, done, failed, finished, until

    error: Exception = RuntimeError("shapes do not match")
    if known:
        cause, error = error, SequenceFailed(1)
        error.__cause__ = cause
    decoder = Faulty(desk.decoder(slots=2))
    batch = desk.batch(decoder)
    for number in (1, 2, 3):
        batch.add(asking(number, TEXTS[number]))
    messages = until(batch, tokens_of(2))
    decoder.stepping = once(error)
    messages += finished(batch)
    for number in (1,) if known else (1, 2):
        assert failed(messages, number).message == "the model failed: shapes do not match"
    for number in (2, 3) if known else (3,):
        assert done(messages, number).digest == digest_of(desk.answers(TEXTS[number], 12))
    assert not batch.broken


def test_an_error_beyond_repair_fails_everybody_once(desk: Desk) -> None:
    from tests.engine.desk import Faulty, asking, failed, of, until

    decoder = Faulty(desk.decoder(slots=2))
    batch = desk.batch(decoder)
    for number in (1, 2, 3):
        batch.add(asking(number))
    until(batch, tokens_of(2))
    decoder.stepping = raising(RuntimeError("CUDA error: an illegal memory access was encountered"))
    messages = batch.step()
    assert batch.broken
    assert not batch.busy
    for number in (1, 2, 3):
        assert "illegal memory access" in failed(messages, number).message
        assert len(of(messages, number)) == 1


def test_the_device_time_of_requests_adds_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import answer, batch
    from hwdash.engine.worker.decoder import Made
    from tests.engine.desk import Faulty, asking, done, finished, until

    now = [100.0]
    for module in (batch, answer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def spend(seconds: float) -> None:
        now[0] += seconds

    decoder = Faulty(desk.decoder())
    decoder.reading = lambda _: spend(2.0)
    decoder.stepping = lambda: spend(1.0)
    decoder.given = lambda made: Made(made.number, made.token, now[0])
    served = desk.batch(decoder)
    served.add(asking(1, max_tokens=6))
    messages = until(served, tokens_of(1))  # read 100-102, step to 103
    served.add(asking(2, max_tokens=2))  # read 103-105, steps to 106 and 107, together with 1
    messages += finished(served)  # 1 goes on alone: 108, 109, 110
    one, two = done(messages, 1), done(messages, 2)
    assert (one.active_s, two.active_s) == (10.0, 4.0)
    assert two.device_s == pytest.approx(2.0 + 0.5 + 0.5)
    assert one.device_s == pytest.approx(2.0 + 1.0 + 0.5 + 0.5 + 3.0)
    assert one.device_s + two.device_s == pytest.approx(now[0] - 100.0)


def test_a_model_without_template_says_so(desk: Desk) -> None:
    from copy import copy
    from dataclasses import replace

    from hwdash.engine.worker.batch import Batch
    from tests.engine.desk import asking, finished

    tokenizer = copy(desk.model.tokenizer)
    tokenizer.has_template = False
    batch = Batch(replace(desk.model, tokenizer=tokenizer), desk.decoder())
    batch.add(asking(1, template=True))
    first = finished(batch)[0]
    assert isinstance(first, Prefill)
    assert "no chat template" in first.detail
