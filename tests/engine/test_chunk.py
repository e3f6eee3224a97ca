"""How many tokens of a prompt are read at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from hwdash.engine.worker.chunk import Chunk
from tests.engine.family import generated, model_of, prompt_of

if TYPE_CHECKING:
    from tests.engine.desk import Desk


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("each_s", "sizes"), [(0.0, [16, 128, 128]), (0.004, [16, 48, 48]), (0.01, [16, 16]), (2.0, [16, 16])]
)
def test_a_cpu_reads_so_many_tokens_at_once_as_it_can_in_a_quarter_of_a_second(each_s: float, sizes: list[int]) -> None:
    clock = Clock()
    chunk = Chunk("cpu", clock=clock)
    found = []
    for _ in sizes:
        found.append(chunk.size)
        with chunk.measured(chunk.size):
            clock.now += each_s * chunk.size
    assert found == sizes


def test_a_chunk_that_fails_or_is_short_tells_nothing_and_a_slow_one_counts_at_once() -> None:
    clock = Clock()
    chunk = Chunk("cpu", clock=clock)
    with chunk.measured(16):
        clock.now += 0.01
    with chunk.measured(15):
        clock.now += 10
    failing = chunk.measured(128)
    failing.__enter__()
    clock.now += 10
    assert not failing.__exit__(RuntimeError, RuntimeError(), None)
    assert chunk.size == 128
    with chunk.measured(128):
        clock.now += 1.0
    assert chunk.size == 32


def test_accelerators_and_groups_have_one_size() -> None:
    clock = Clock()
    for chunk, size in ((Chunk("cuda", clock=clock), 2048), (Chunk("cpu", 64, clock), 64)):
        with chunk.measured(size):
            clock.now += 100
        assert chunk.size == size


@pytest.mark.parametrize("kind", ["library", "eager"])
def test_chunks_of_any_sizes_give_the_tokens_of_generate(kind: str, desk: Desk) -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.library import LibraryDecoder

    model = model_of("llama")
    prompt = prompt_of(300)
    expected = generated(model, prompt, 10)
    moments = itertools.chain((0.0, 0.001, 1.0), itertools.repeat(99.0))  # a fast chunk, then a slow one
    chunk = Chunk("cpu", clock=lambda: next(moments))
    decoder: EagerDecoder | LibraryDecoder
    if kind == "eager":
        decoder = EagerDecoder(extract(model), 2, chunk=chunk)
    else:
        decoder = LibraryDecoder(desk.with_network(model).model, 2, chunk=chunk)
    number = decoder.open(prompt, 10, Sampling())
    sizes = [chunk.size]
    while not decoder.read(number):
        sizes.append(chunk.size)
    assert sizes == [16, 128, 16, 128, 128]
    assert [made.token for _ in range(10) for made in decoder.advance()] == expected
