"""Captured decoding on a CUDA device: the same tokens as `generate`, alone, among others, and when the cache grows."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.engine.family import generated, model_of, prompt_of

pytestmark = pytest.mark.gpu

_FAMILIES = ("llama", "mistral", "qwen3", "qwen3-moe", "gpt-oss")
_SIZES = {"head_dim": 64, "hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 4096}


def decoder_of(network: Any, *, flash: bool, places: int = 2048, ends: frozenset[int] = frozenset()) -> Any:
    from hwdash.engine.worker.graph import GraphDecoder

    return GraphDecoder(network, 4, ends, places, flash=flash)


@pytest.mark.parametrize("family", _FAMILIES)
def test_greedy_tokens_are_those_of_generate(family: str) -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    model = model_of(family, device="cuda", scale=0.1, **_SIZES)
    long, short = prompt_of(50), prompt_of(11)
    expected_long, expected_short = generated(model, long, 40), generated(model, short, 30)
    decoder = decoder_of(extract(model), flash=False)
    first, second = decoder.open(long, 40, Sampling()), decoder.open(short, 30, Sampling())
    found: dict[int, list[int]] = {first: [], second: []}
    assert decoder.read(first)
    for step in range(60):
        if step == 5:
            assert decoder.read(second)
        for made in decoder.advance():
            found[made.number].append(made.token)
    assert found == {first: expected_long, second: expected_short}
    assert decoder.capture_s < 1.0


@pytest.mark.parametrize("family", _FAMILIES)
def test_flash_and_fused_kernels_are_as_near_to_the_truth_as_the_library(family: str) -> None:
    import torch

    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.fused import Fused, fused
    from hwdash.engine.worker.keyvalue import KeyValueStore, Rows, flash_problem

    model = model_of(family, device="cuda", scale=0.04, **_SIZES).to(torch.bfloat16)
    prompt = torch.tensor([prompt_of(200)], device="cuda")
    with torch.no_grad():
        truth = copy.deepcopy(model).float()(prompt).logits[0]
        theirs = model(prompt).logits[0]
    network = extract(model)
    operations, why = fused(network.device, network.dtype, 256, 512, network.heads)
    assert isinstance(operations, Fused), why
    assert flash_problem(network) == ""
    network.use(operations)
    store = KeyValueStore(network, 512, flash=True)
    found = []
    with torch.inference_mode():
        for first, end in ((0, 100), (100, 160)):
            attend = store.attend_chunk(64, first, end - first)
            positions = torch.arange(first, end, device="cuda")
            found.append(network.logits(network.forward(prompt[0, first:end], positions, attend)))
        for place in range(160, 200):
            starts = torch.tensor([0, 64], dtype=torch.int32, device="cuda")
            rows = Rows(starts, torch.tensor([0, place], device="cuda"), 512)
            step = network.forward(prompt[0, [0, place]], rows.positions, store.attend_rows(rows))
            found.append(network.logits(step)[1:])
    ours_off, theirs_off = (
        ((logits.float() - truth).norm() / truth.norm()).item() for logits in (torch.cat(found), theirs)
    )
    # Experts that are nearly equally likely are chosen otherwise by the smallest rounding.
    assert ours_off < (2.0 if "moe" in family or "oss" in family else 1.2) * theirs_off


def test_a_cache_that_grows_and_moves_changes_nothing() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    model = model_of("llama", device="cuda", scale=0.1, **_SIZES)
    expected = generated(model, prompt_of(20), 1500)
    decoder = decoder_of(extract(model), flash=False, places=1400)
    number, other = decoder.open(prompt_of(20), 1500, Sampling()), decoder.open(prompt_of(30), 50, Sampling())
    assert decoder.read(number)
    assert decoder.read(other)
    found: dict[int, list[int]] = {number: [], other: []}
    while len(found[number]) < 1500:
        for made in decoder.advance():
            found[made.number].append(made.token)
    assert len(found[other]) == 50
    assert found[number] == expected


def test_a_seed_gives_its_tokens_whoever_else_is_there_and_an_end_stops_the_row() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    model = model_of("qwen3", device="cuda", scale=0.1, **_SIZES)
    greedy = generated(model, prompt_of(12), 12)
    decoder = decoder_of(extract(model), flash=False, ends=frozenset({greedy[4]}))

    def answer(sampling: Sampling, *others: Sampling) -> list[int]:
        neighbours = [decoder.open(prompt_of(12), 40, other) for other in others]
        number = decoder.open(prompt_of(12), 15, sampling)
        tokens: list[int] = []
        for opened in (*neighbours, number):
            assert decoder.read(opened)
        for _ in range(20):
            tokens += [made.token for made in decoder.advance() if made.number == number]
        for opened in (*neighbours, number):
            decoder.close(opened)
        return tokens

    alone = answer(Sampling(0.9, 0.8, 7))
    assert answer(Sampling(0.9, 0.8, 7), Sampling(), Sampling(1.5, 1.0, 3)) == alone
    assert answer(Sampling()) == greedy[: greedy.index(greedy[4]) + 1]


def test_an_answer_that_is_let_go_leaves_its_places_to_the_next() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    model = model_of("llama", device="cuda", scale=0.1, **_SIZES)
    expected = generated(model, prompt_of(9), 20)
    decoder = decoder_of(extract(model), flash=False, places=600)
    for _ in range(50):
        number = decoder.open(prompt_of(30), 100, Sampling())
        decoder.read(number)
        decoder.advance()
        decoder.close(number)
    number = decoder.open(prompt_of(9), 20, Sampling())
    decoder.read(number)
    found: list[int] = []
    while len(found) < 20:
        found += [made.token for made in decoder.advance()]
    assert found == expected


def test_an_endless_sequence_goes_on_beside_one_that_ends() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    model = model_of("qwen3", device="cuda", scale=0.1, **_SIZES)
    greedy = generated(model, prompt_of(12), 15)
    decoder = decoder_of(extract(model), flash=False, ends=frozenset({greedy[4]}))
    ending = decoder.open(prompt_of(12), 15, Sampling())
    endless = decoder.open(prompt_of(12), 15, Sampling(endless=True))
    found: dict[int, list[int]] = {ending: [], endless: []}
    for number in found:
        assert decoder.read(number)
    for _ in range(20):
        for made in decoder.advance():
            found[made.number].append(made.token)
    assert found == {ending: greedy[: greedy.index(greedy[4], 1) + 1], endless: greedy}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_operations_that_are_compiled_while_tokens_come_are_taken_over_or_declined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hwdash.engine.worker import compiled, graph
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    monkeypatch.setattr(graph, "forbid_compiling", lambda: None)  # it holds for the whole process
    monkeypatch.setattr(compiled, "_GAIN", float("-inf"))
    model = model_of("llama", device="cuda", scale=0.1, **_SIZES)
    expected = generated(model, prompt_of(20), 400)
    network = extract(model)
    upgrade = compiled.upgrade_of(network, 4, 512)
    decoder = graph.GraphDecoder(network, 4, frozenset(), 2048, flash=False, upgrade=upgrade)
    number = decoder.open(prompt_of(20), 400, Sampling())
    assert decoder.read(number)
    upgrade.begin()
    found: list[int] = []
    while len(found) < 400:
        found += [made.token for made in decoder.advance()]
        if len(found) == 200:
            upgrade._thread.join(120)
    assert decoder.choices[0].startswith("compiled kernels took over"), decoder.choices
    assert isinstance(network.operations, compiled.Compiled)
    # Kernels that round otherwise may choose another of two tokens that are nearly equally likely.
    assert found[:200] == expected[:200]
