"""Decoding by the library's own forward pass: what generate makes, and a step that fails leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from hwdash.core.errors import DeviceFull

if TYPE_CHECKING:
    from tests.engine.desk import Desk

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.4,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def prompt_of(tokens: int) -> list[int]:
    return [(7 * place * place + 3 * place) % 290 for place in range(1, tokens + 1)]


@pytest.fixture(scope="module")
def windowed(desk: Desk) -> Desk:
    """A model whose layers see the last tokens only."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    return desk.with_network(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=24, tie_word_embeddings=True)))


@pytest.mark.parametrize("tokens", [1, 128, 129, 300])
def test_greedy_tokens_are_those_of_generate(desk: Desk, tokens: int) -> None:
    prompt = prompt_of(tokens)
    assert desk.decode(prompt, 30) == desk.generated(prompt, 30)


@pytest.mark.parametrize("tokens", [5, 40, 140])
def test_layers_with_a_window(windowed: Desk, tokens: int) -> None:
    prompt = prompt_of(tokens)
    assert windowed.decode(prompt, 30) == windowed.generated(prompt, 30)


def read_all(decoder: Any, *prompts: Sequence[int], limit: int = 8) -> list[int]:
    from hwdash.engine.worker.decoder import Sampling

    numbers = [decoder.open(prompt, limit, Sampling()) for prompt in prompts]
    for number in numbers:
        while not decoder.read(number):
            pass
    return numbers


class Failing:
    """Stands in for a network and fails in the call that is set, after it has written to the cache."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.in_calls = -1

    def __call__(self, **arguments: Any) -> Any:
        result = self._network(**arguments)
        self.in_calls -= 1
        if self.in_calls == 0:
            raise RuntimeError("out of memory")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@pytest.mark.parametrize("with_window", [False, True])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_failed_step_can_be_made_again(desk: Desk, windowed: Desk, steps_before: int, with_window: bool) -> None:
    from dataclasses import replace

    from hwdash.engine.worker.decoder import SequenceFailed
    from hwdash.engine.worker.library import LibraryDecoder

    own = windowed if with_window else desk
    network = Failing(own.model.network)
    decoder = LibraryDecoder(replace(own.model, network=network), 4)
    prompts = prompt_of(150), prompt_of(20)
    first, second = read_all(decoder, *prompts, limit=10)
    made: dict[int, list[int]] = {first: [], second: []}

    def step() -> None:
        for one in decoder.advance():
            made[one.number].append(one.token)

    for _ in range(1 + steps_before):
        step()
    network.in_calls = 2
    with pytest.raises(SequenceFailed) as caught:
        step()
    assert (caught.value.number, str(caught.value.__cause__)) == (second, "out of memory")
    while len(made[second]) < 10:
        step()
    for number, prompt in zip((first, second), prompts, strict=True):
        assert made[number] == own.generated(prompt, 10)
    assert list(decoder.advance()) == []


def test_a_failed_chunk_can_be_read_again(desk: Desk) -> None:
    from dataclasses import replace

    from hwdash.engine.worker.chunk import Chunk
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.library import LibraryDecoder

    network = Failing(desk.model.network)
    decoder = LibraryDecoder(replace(desk.model, network=network), 4, chunk=Chunk("cpu", 128))
    prompt = prompt_of(300)
    number = decoder.open(prompt, 5, Sampling())
    assert not decoder.read(number)
    network.in_calls = 1
    with pytest.raises(RuntimeError):
        decoder.read(number)
    assert [decoder.read(number) for _ in range(3)] == [False, False, True]
    assert [one.token for _ in range(5) for one in decoder.advance()] == desk.generated(prompt, 5)


def test_sequences_end_at_their_limit_and_closed_ones_give_nothing(desk: Desk) -> None:
    from hwdash.engine.worker.decoder import Sampling

    decoder = desk.decoder()
    first, second = read_all(decoder, prompt_of(5), prompt_of(9), limit=2)
    unread = decoder.open(prompt_of(400), 2, Sampling())
    assert [one.number for one in decoder.advance()] == [first, second]
    decoder.close(first)
    decoder.close(first)
    assert [one.number for one in decoder.advance()] == [second]
    assert list(decoder.advance()) == []
    assert decoder.open(prompt_of(3), 1, Sampling()) not in {first, second, unread}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_damaged_weights_give_a_damaged_token_and_no_more(desk: Desk, temperature: float) -> None:

    import torch

    from hwdash.engine.worker.decoder import DAMAGED, Sampling

    network = copy.deepcopy(desk.model.network)
    with torch.no_grad():
        network.lm_head.weight[5] = float("nan")
    sampling = Sampling(temperature, top_p=0.9, seed=1)
    assert desk.with_network(network).decode(prompt_of(4), 3, sampling) == [DAMAGED]


def test_a_seed_gives_the_tokens_that_our_own_forward_pass_draws(desk: Desk) -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.library import LibraryDecoder

    network = copy.deepcopy(desk.model.network)
    sampling = Sampling(1.0, 0.9, seed=11)
    answers = []
    for decoder in (LibraryDecoder(desk.model, 1), EagerDecoder(extract(network), 1)):
        number = decoder.open(prompt_of(20), 12, sampling)
        while not decoder.read(number):
            pass
        answers.append([made.token for _ in range(12) for made in decoder.advance()])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 2


def test_where_a_prompt_finds_no_room_it_is_refused_with_numbers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import memory
    from hwdash.engine.worker.decoder import Sampling

    decoder = desk.decoder()
    read_all(decoder, prompt_of(3))
    monkeypatch.setattr(memory, "available_bytes", lambda _: 100 * 2**10)
    decoder.open(prompt_of(100), 50, Sampling())  # 256 bytes a token
    with pytest.raises(DeviceFull, match=r"600 tokens need 150 KiB .* and 100 KiB are free"):
        decoder.open(prompt_of(500), 100, Sampling())


def test_what_a_step_reads(desk: Desk, windowed: Desk) -> None:
    network = desk.model.network
    weights = sum(weight.nbytes for weight in network.parameters()) - network.model.embed_tokens.weight.nbytes
    decoder = desk.decoder()
    assert decoder.read_bytes(0) == weights
    read_all(decoder, prompt_of(3))
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, groups, width, bytes
    assert decoder.read_bytes(100) == weights + 100 * per_token
    assert decoder.read_bytes(100, 3) == 3 * (weights + 100 * per_token)

    tied = windowed.decoder()
    read_all(tied, prompt_of(40))
    assert tied.read_bytes(0) == sum(weight.nbytes for weight in windowed.model.network.parameters())
    assert tied.read_bytes(100) - tied.read_bytes(0) == 24 * 2 * 2 * 2 * 16 * 4


def test_of_a_mixture_the_experts_that_are_taken_are_read(desk: Desk) -> None:
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(2)
    network = MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2))
    experts = 2 * 4 * 3 * 64 * 128 * 4  # layers, experts, matrices, their sides, bytes
    weights = sum(weight.nbytes for weight in network.parameters()) - network.model.embed_tokens.weight.nbytes
    mixture = desk.with_network(network)
    assert mixture.decoder().read_bytes(0) == weights - experts // 2
    assert mixture.decode(prompt_of(7), 12) == mixture.generated(prompt_of(7), 12)
