"""Full load by a model: prompts read one after another, or tokens made of several sequences at once."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Sequence

from hwdash.core.measurement import Task
from hwdash.engine.worker.decoder import DAMAGED, Decoder, Made, Sampling
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.prompt import random_prompt
from hwdash.engine.worker.step import Step, Unfit

_SEED = 5
_DROPPED = 2
"""Steps after a beginning that do not count: the first has the end of reading the prompts in it."""
_PATIENCE = 4
"""Steps without any token after which all answers have ended; a decoder may be a step ahead of what it gives."""
_FRUITLESS = 10
"""Beginnings without a counted step after which there is nothing to measure."""
_LONG_ANSWER = 1024
"""Tokens of a sequence in a task that goes on for a time, after which it begins anew."""


def prompts(decoder: Decoder, model: ReadyModel, task: Task) -> Generator[Step | None]:
    """Random prompts read one at a time, each until its first token is there. Raises `Unfit`."""
    _check_context(model, task.prompt_tokens, 1)
    source = random.Random(_SEED)  # noqa: S311
    count = 1 + task.batch * task.repeats
    number = 0
    while task.seconds is not None or number < count:
        prompt = random_prompt(model, task.prompt_tokens, source)
        began = time.monotonic()
        sequences = _Sequences(decoder)
        try:
            sequences.open(prompt, 1)
            yield from sequences.read()
            made = yield from sequences.advance()
        finally:
            sequences.close()
        if number > 0 and made:  # the first one warms up
            yield Step(max(one.at_s for one in made) - began, tokens=task.prompt_tokens)
        number += 1


def tokens(decoder: Decoder, model: ReadyModel, task: Task) -> Generator[Step | None]:
    """Steps of ``task.batch`` sequences with random prompts, as the host sees their tokens come. Raises `Unfit`."""
    if not 1 <= task.batch <= decoder.slots:
        raise Unfit(f"{task.batch} sequences at once were asked for and this worker decodes 1 to {decoder.slots}")
    _check_context(model, task.prompt_tokens, task.new_tokens, 0 if task.seconds is not None else 1 + _DROPPED)
    source = random.Random(_SEED)  # noqa: S311
    if task.seconds is not None:
        yield from _relay(decoder, model, task, source)
        return
    left, fruitless = task.new_tokens, 0
    while left > 0:
        counted = 0
        for step in _round(decoder, model, task, left, source):
            counted += step is not None
            yield step
        left -= counted
        fruitless = 0 if counted else fruitless + 1
        if fruitless >= _FRUITLESS:
            raise Unfit(f"the answers of {model.name} to random prompts end at once, {fruitless} times in a row")


def _round(
    decoder: Decoder, model: ReadyModel, task: Task, steps: int, source: random.Random
) -> Generator[Step | None]:
    """All sequences from their prompts to their last tokens, or to the end of the first of them: *steps* that count."""
    limit = steps + 1 + _DROPPED
    if model.context_length is not None:
        limit = min(limit, model.context_length - task.prompt_tokens)
    sequences = _Sequences(decoder)
    try:
        for _ in range(task.batch):
            sequences.open(random_prompt(model, task.prompt_tokens, source), limit)
        yield from sequences.read()
        before = 0.0
        for count in range(limit):
            made = yield from sequences.advance()
            if len(made) < task.batch:
                return
            now = max(one.at_s for one in made)
            if count > _DROPPED:
                read = decoder.read_bytes(task.prompt_tokens + count, task.batch)
                yield Step(now - before, tokens=len(made), bytes=read)
            before = now
    finally:
        sequences.close()


def _relay(decoder: Decoder, model: ReadyModel, task: Task, source: random.Random) -> Generator[Step | None]:
    """Sequences without end: each that has its tokens makes room for a new one, never many at the same time.

    So that the load is even, and what reading prompts takes does not come in waves.
    """
    longest = max(task.new_tokens, _LONG_ANSWER)
    if model.context_length is not None:
        longest = min(longest, model.context_length - task.prompt_tokens)
    sequences = _Sequences(decoder)
    lengths = [max(1, longest * (place + 1) // task.batch) for place in range(task.batch)]
    context, before, fruitless = task.prompt_tokens + longest // 2, 0.0, 0
    try:
        while True:
            for length in lengths:
                sequences.open(random_prompt(model, task.prompt_tokens, source), length)
            yield from sequences.read()
            made = yield from sequences.advance()
            lengths = [longest] * sequences.drop_ended(made)
            fruitless = 0 if made else fruitless + 1
            if fruitless >= _FRUITLESS:
                raise Unfit(f"{model.name} makes no tokens of random prompts, {fruitless} times in a row")
            if made:
                now = max(one.at_s for one in made)
                if before:
                    yield Step(now - before, tokens=len(made), bytes=decoder.read_bytes(context, len(made)))
                before = now
    finally:
        sequences.close()


class _Sequences:
    """What a task has open. Its generators yield None where the task can be asked to stop."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._left: dict[int, int] = {}
        self._unread: list[int] = []

    def open(self, prompt: Sequence[int], limit: int) -> None:
        """Take in a sequence. Raises `DeviceFull`."""
        number = self._decoder.open(prompt, limit, Sampling(endless=True))
        self._left[number] = limit
        self._unread.append(number)

    def read(self) -> Iterator[None]:
        """Read the prompts that are not read yet."""
        while self._unread:
            while not self._decoder.read(self._unread[0]):
                yield None
            del self._unread[0]

    def drop_ended(self, made: Sequence[Made]) -> int:
        """Let go of those that got their last token with *made*; gives how many."""
        for one in made:
            self._left[one.number] -= 1
        ended = [one.number for one in made if self._left[one.number] <= 0]
        for number in ended:
            self._decoder.close(number)
            del self._left[number]
        return len(ended)

    def advance(self) -> Generator[None, None, Sequence[Made]]:
        """The tokens of the next step; none when all sequences have ended. Raises `Unfit` for damaged ones."""
        made: Sequence[Made] = ()
        for _ in range(_PATIENCE):
            made = self._decoder.advance()
            if made:
                break
            yield None
        if any(one.token == DAMAGED for one in made):
            raise Unfit("the model computed NaN or infinity; its weights are damaged or do not stand this precision")
        return made

    def close(self) -> None:
        """Let go of all."""
        for number in self._left:
            self._decoder.close(number)
        self._left.clear()
        self._unread.clear()


def _check_context(model: ReadyModel, prompt_tokens: int, new_tokens: int, dropped: int = 0) -> None:
    context = model.context_length
    if prompt_tokens < 1:
        raise Unfit("a prompt has at least one token")
    if context is not None and prompt_tokens + new_tokens + dropped > context:
        more = f" and {dropped} before them that do not count" if dropped else ""
        raise Unfit(
            f"a prompt of {prompt_tokens} tokens with {new_tokens} new ones{more} does not fit into {context}, "
            f"the context of {model.name}"
        )
