"""Our own forward pass: what `generate` makes, for each family, alone and among others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.family import FAMILIES, generated, model_of, prompt_of


def answer_of(decoder: Any, number: int, count: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < count:
        tokens += [made.token for made in decoder.advance() if made.number == number]
    return tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_generate_alone_and_beside_others(family: str) -> None:
    from hwdash.engine.worker.chunk import Chunk
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract, reason_against

    model = model_of(family)
    long, short = prompt_of(200), prompt_of(11)
    expected_long, expected_short = generated(model, long, 20), generated(model, short, 40)
    assert reason_against(model) == ""
    decoder = EagerDecoder(extract(model), slots=4, chunk=Chunk("cpu", 128))
    first, second = decoder.open(long, 20, Sampling()), decoder.open(short, 40, Sampling())
    reads = 1
    while not decoder.read(first):
        reads += 1
    assert reads == 2
    found: dict[int, list[int]] = {first: [], second: []}
    for step in range(60):
        if step == 5:
            assert decoder.read(second)
        for made in decoder.advance():
            found[made.number].append(made.token)
    assert found == {first: expected_long, second: expected_short}


def test_a_sequence_that_leaves_does_not_disturb_the_others() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract

    model = model_of("llama")
    expected = generated(model, prompt_of(9), 30)
    decoder = EagerDecoder(extract(model), slots=4)
    numbers = [decoder.open(prompt_of(length), 100, Sampling()) for length in (5, 9, 20)]
    for number in numbers:
        while not decoder.read(number):
            pass
    tokens: list[int] = []
    while len(tokens) < 30:
        tokens += [made.token for made in decoder.advance() if made.number == numbers[1]]
        if len(tokens) == 6:
            decoder.close(numbers[0])
        if len(tokens) == 12:
            decoder.close(numbers[2])
    assert tokens == expected


def test_a_seed_gives_its_tokens_whoever_else_is_there() -> None:
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract

    decoder = EagerDecoder(extract(model_of("qwen3")), slots=4)
    sampling = Sampling(0.9, 0.8, 7)

    def answer(*others: Sampling) -> list[int]:
        neighbours = [decoder.open(prompt_of(12), 40, other) for other in others]
        number = decoder.open(prompt_of(12), 15, sampling)
        for opened in (*neighbours, number):
            assert decoder.read(opened)
        tokens = answer_of(decoder, number, 15)
        for opened in (*neighbours, number):
            decoder.close(opened)
        return tokens

    alone = answer()
    assert answer(Sampling(), Sampling(1.5, 1.0, 3)) == alone
    sampling = Sampling(0.9, 0.8, 8)
    assert answer() != alone


def test_a_damaged_model_gives_the_sign_of_it_and_stops() -> None:
    from hwdash.engine.worker.decoder import DAMAGED, Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract

    model = model_of("llama")
    model.model.layers[1].mlp.down_proj.weight.data[3, 3] = float("nan")
    decoder = EagerDecoder(extract(model), slots=1)
    number = decoder.open(prompt_of(4), 5, Sampling())
    assert decoder.read(number)
    assert [made.token for made in decoder.advance()] == [DAMAGED]
    assert list(decoder.advance()) == []


def test_what_was_kept_of_a_sequence_stays_when_it_outgrows_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.engine.worker import eager
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.extract import extract

    monkeypatch.setattr(eager, "_FIRST_ROOM", 3)
    model = model_of("llama")
    expected = generated(model, prompt_of(9), 30)
    decoder = eager.EagerDecoder(extract(model), slots=1)
    number = decoder.open(prompt_of(9), 30, Sampling())
    assert decoder.read(number)
    assert answer_of(decoder, number, 30) == expected


def test_the_gate_of_gpt_oss_has_bounds() -> None:
    import torch

    from hwdash.engine.worker.expert import clamped_gate

    gates, ups = torch.tensor([100.0, -100.0, 2.0, 50.0]), torch.tensor([100.0, 3.0, -100.0, -1.0])
    mixed = torch.stack((gates, ups), dim=-1).view(1, 8)
    low, high = 2.0, 7.0
    found = clamped_gate(1.0, high)(mixed)
    sigmoids = torch.sigmoid(torch.tensor([high, -100.0, low, high]))
    expected = torch.tensor([8.0 * high, 4.0 * -100.0, -6.0 * low, 0.0]) * sigmoids
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried to allocate 2.00 GiB", "operation not permitted"])
def test_a_step_that_cannot_be_captured_is_done_without_unless_memory_is_missing(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    import torch

    from hwdash.engine.message import Load
    from hwdash.engine.worker import selection
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.operation import Plain

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(selection, "GraphDecoder", failing)
    monkeypatch.setattr(selection, "fused", lambda *_: (Plain(), "plain ones"))
    monkeypatch.setattr(selection, "flash_problem", lambda _: "no flash")
    model: Any = SimpleNamespace(device=torch.device("cpu"), group=None, ends=frozenset(), context_length=99)
    load = Load("path", "a model", "cuda:0", "fp32")
    network = extract(model_of("llama"))
    if "memory" in words:
        with pytest.raises(RuntimeError, match="out of memory"):
            selection._captured(model, network, load, ())
    else:
        decoder = selection._captured(model, network, load, ())
        assert decoder.kind == "eager"
        assert "cannot be captured (operation not permitted)" in decoder.choices[0]


def test_the_weights_are_taken_out_of_the_library_s_model() -> None:
    from hwdash.engine.worker.extract import extract

    model = model_of("llama")
    before = sum(parameter.nbytes for parameter in model.parameters())
    network = extract(model)
    assert sum(parameter.nbytes for parameter in model.parameters()) < before / 100
    embedding = network.embedding.nbytes
    norms = network.layers[0].norm.nbytes
    assert network.weight_bytes() == pytest.approx(before - embedding + 64 * 4, abs=norms + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "gemma3_text"}, "no forward pass of its own for gemma3_text"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "embedded by dynamic"),
        ({"hidden_act": "gelu"}, "activation is gelu"),
        ({"mlp_bias": True}, "feeds have a bias"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized"),
    ],
)
def test_what_has_no_forward_pass_of_our_own(change: dict[str, Any], told: str) -> None:
    from hwdash.engine.worker.extract import reason_against

    model = model_of("llama")
    for name, value in change.items():
        object.__setattr__(model.config, name, value)
    assert told in reason_against(model)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt-oss"])
def test_keys_and_values_of_many_sequences_in_one_store(family: str) -> None:
    """The attention of captured steps, by gathering, gives what the sequences' own attention gives."""
    import torch

    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.keyvalue import KeyValueStore, Rows

    model = model_of(family)
    prompts = [prompt_of(30), prompt_of(25)[5:]]
    with torch.no_grad():
        expected = [model(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    network = extract(model)
    store = KeyValueStore(network, 200, flash=False)
    starts = [store.segments.take(50), store.segments.take(50)]
    assert starts == [1, 51]
    with torch.inference_mode():
        for prompt, start in zip(prompts, starts, strict=True):
            for first, end in ((0, 10), (10, len(prompt) - 1)):
                chunk = store.attend_chunk(start or 0, first, end - first)
                network.forward(torch.tensor(prompt[first:end]), torch.arange(first, end), chunk)
        store.grow(300)
        positions = torch.tensor([len(prompt) - 1 for prompt in prompts] + [0])
        rows = Rows(torch.tensor([*starts, store.nowhere], dtype=torch.int32), positions, 64)
        tokens = torch.tensor([prompt[-1] for prompt in prompts] + [0])
        logits = network.logits(network.forward(tokens, positions, store.attend_rows(rows)))
    for row, wanted in enumerate(expected):
        torch.testing.assert_close(logits[row], wanted, rtol=1e-3, atol=1e-3)
