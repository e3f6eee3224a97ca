"""The bookkeeping of captured decoding, with steps that run at once instead of being captured."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.family import generated, model_of, prompt_of

_OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt-oss"])
def test_greedy_tokens_are_those_of_generate_beside_one_that_comes_later(family: str) -> None:
    from tests.engine.stepwise import Bench

    model = model_of(family)
    expected = [generated(model, prompt_of(length), 25) for length in (30, 11)]
    bench = Bench(model)
    first = bench.open(prompt_of(30), 25)
    bench.advance(5)
    second = bench.open(prompt_of(11), 25)
    bench.advance(40)
    assert [bench.tokens[first], bench.tokens[second]] == expected


def test_an_end_stops_its_row_and_an_endless_one_goes_on() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from tests.engine.stepwise import Bench

    model = model_of("qwen3")
    greedy = generated(model, prompt_of(12), 15)
    bench = Bench(model, ends=frozenset({greedy[4]}))
    ending, endless = bench.open(prompt_of(12), 15), bench.open(prompt_of(12), 15, Sampling(endless=True))
    bench.advance(20)
    assert bench.tokens[ending] == greedy[: greedy.index(greedy[4], 1) + 1]
    assert bench.tokens[endless] == greedy


def test_a_sequence_that_outgrows_its_places_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import graph
    from tests.engine.stepwise import Bench

    monkeypatch.setattr(graph, "_ANSWER", 1)
    model = model_of("llama")
    expected = [generated(model, prompt_of(length), 20) for length in (250, 20)]
    bench = Bench(model, places=600)
    numbers = [bench.open(prompt_of(250), 20), bench.open(prompt_of(20), 20)]
    bench.advance(25)
    assert [bench.tokens[number] for number in numbers] == expected


def test_where_there_is_no_room_the_one_that_needs_it_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hwdash.core.errors import DeviceFull
    from hwdash.engine.worker import graph
    from hwdash.engine.worker.decoder import SequenceFailed
    from hwdash.engine.worker.keyvalue import KeyValueStore
    from tests.engine.stepwise import Bench

    monkeypatch.setattr(graph, "_ANSWER", 1)
    model = model_of("llama")
    expected = generated(model, prompt_of(20), 20)
    bench = Bench(model, places=600)
    growing, other = bench.open(prompt_of(250), 20), bench.open(prompt_of(20), 20)

    def full(*_: object) -> None:
        raise RuntimeError(_OUT_OF_MEMORY)

    monkeypatch.setattr(KeyValueStore, "grow", full)
    for _ in range(2):  # again and again, without a change
        with pytest.raises(SequenceFailed) as failure:
            bench.advance(25)
        assert failure.value.number == growing
        assert isinstance(failure.value.__cause__, DeviceFull)
    bench.decoder.close(growing)
    bench.advance(25)
    assert bench.tokens[other] == expected


def test_a_capture_that_fails_leaves_all_where_they_were() -> None:
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = [generated(model, prompt_of(length), 12) for length in (9, 17)]
    bench = Bench(model)
    first = bench.open(prompt_of(9), 12)
    bench.capture.failures += [RuntimeError("no capture"), RuntimeError("nor now")]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            bench.advance()
    bench.advance(3)
    second = bench.open(prompt_of(17), 12)
    bench.capture.failures.append(RuntimeError("not for two"))
    with pytest.raises(RuntimeError, match="not for two"):
        bench.advance()
    bench.advance(20)
    assert [bench.tokens[first], bench.tokens[second]] == expected


def test_memory_that_is_missing_for_tokens_on_their_way_fails_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = generated(model, prompt_of(9), 6)
    bench = Bench(model)
    number = bench.open(prompt_of(9), 6)

    def refused(_: int) -> Any:
        raise RuntimeError("cannot pin memory")

    with monkeypatch.context() as patch:
        patch.setattr(bench.capture, "landing", refused)
        with pytest.raises(RuntimeError, match="pin"):
            bench.advance(3)
    bench.advance(10)
    assert bench.tokens[number] == expected


def test_a_damaged_first_token_is_told_and_never_looked_up() -> None:
    import torch

    from hwdash.engine.worker.decoder import DAMAGED
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    bench = Bench(model)
    number = bench.open(prompt_of(9), 6)
    bench.advance(2)  # an embedding of a negative token would raise
    assert bench.tokens[number][0] == DAMAGED


def test_steps_of_short_sequences_are_captured_one_by_one_while_nobody_waits() -> None:
    from tests.engine.stepwise import Bench

    bench = Bench(model_of("llama"), places=600)
    more: list[bool] = []
    while not more or more[-1]:
        more.append(bench.decoder.idle())
    rows = 1
    while rows < bench.decoder.slots:
        rows *= 2
    assert len(more) == rows.bit_length()  # one for 1, 2, 4 … rows
    before = bench.capture.captured
    bench.open(prompt_of(5), 4)
    bench.advance(4)
    assert bench.capture.captured == before


def test_no_step_asks_which_experts_are_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker.expert import ExpertFeed
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.graph import GraphDecoder
    from tests.engine.stepwise import Bench, Stepwise

    model = model_of("qwen3-moe")
    expected = generated(model, prompt_of(9), 8)
    bench = Bench(model)
    numbers = [bench.open(prompt_of(9), 8) for _ in range(3)]

    def asking(*_: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(ExpertFeed, "_one_by_one", asking)
    bench.advance(12)
    assert [bench.tokens[number] for number in numbers] == [expected] * 3
    network = extract(model_of("gpt-oss"))
    GraphDecoder(network, 100, frozenset(), 512, flash=False, capture=Stepwise())
    assert {layer.feed.most_rows for layer in network.layers if isinstance(layer.feed, ExpertFeed)} == {128}


def test_tokens_of_a_sequence_that_was_let_go_are_not_given() -> None:
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = generated(model, prompt_of(11), 12)
    bench = Bench(model)
    gone, other = bench.open(prompt_of(9), 12), bench.open(prompt_of(11), 12)
    bench.advance(3)  # one more step is under way
    count = len(bench.tokens[gone])
    assert count
    bench.decoder.close(gone)
    bench.advance(15)
    assert len(bench.tokens[gone]) == count
    assert bench.tokens[other] == expected


def test_nothing_captured_before_the_cache_grew_is_launched_after_it() -> None:
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = [generated(model, prompt_of(length), 20) for length in (20, 300)]
    bench = Bench(model, places=512)
    first = bench.open(prompt_of(20), 20)
    bench.advance(3)
    size, captured = bench.decoder._store.segments.size, bench.capture.captured
    second = bench.open(prompt_of(300), 20)
    assert bench.decoder._store.segments.size > size
    bench.decoder.close(second)
    bench.advance(2)
    assert bench.capture.captured == captured + 1  # the same step once more
    second = bench.open(prompt_of(300), 20)
    bench.advance(30)
    assert [bench.tokens[first], bench.tokens[second]] == expected
