"""Models that are a shape only: their names, their size, and networks with drawn weights."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.errors import ModelError, UnknownModel
from hwdash.core.model import SYNTHETIC_SHAPES
from hwdash.engine.models import ModelStore
from hwdash.engine.synthetic import loaded_config

ATTENTION = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}
MIXTURE = {"num_experts_per_tok": 2, "head_dim": 16}
TINY: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **ATTENTION, "attention_bias": True, "mlp_bias": True},
    "tied": {"model_type": "llama", **ATTENTION, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **ATTENTION, "head_dim": 16, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", **ATTENTION, "eos_token_id": 7},
    "qwen3": {"model_type": "qwen3", **ATTENTION},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        **ATTENTION,
        **MIXTURE,
        "num_experts": 8,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [1],
    },
    "gpt_oss": {"model_type": "gpt_oss", **ATTENTION, **MIXTURE, "num_local_experts": 4, "sliding_window": 16},
}
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_248_023_552,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "gpt-oss-20b": 20_914_757_184,
    "smollm2-135m": 134_515_008,
}
"""What the model cards and the headers of the checkpoints say."""


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    """Writes a ``config.json`` and gives the name of the synthetic model behind it."""

    def write(config: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return f"synthetic:{tmp_path}"

    return write


def built(path: Path) -> int:
    from hwdash.engine.worker import synthetic
    from hwdash.engine.worker.loading import DTYPES

    return synthetic.count_parameters(synthetic.empty_network(path, DTYPES["bf16"]))


@pytest.mark.parametrize("shape", SYNTHETIC_SHAPES)
def test_a_shape_has_exactly_the_parameters_of_the_model_that_is_built(tmp_path: Path, shape: str) -> None:
    store = ModelStore(tmp_path)
    found = store.shape(f"synthetic:{shape}")
    assert found is not None
    assert found.parameters == built(store.resolve(f"synthetic:{shape}"))
    assert found.parameters == PUBLISHED.get(shape, found.parameters)
    assert (found.active_parameters is not None) == ("gpt-oss" in shape or "a3b" in shape)


@pytest.mark.parametrize("kind", TINY)
def test_any_configuration_of_a_known_family_is_counted(tmp_path: Path, configured: Any, kind: str) -> None:
    store, name = ModelStore(tmp_path / "store"), configured(TINY[kind])
    found = store.shape(name)
    assert found is not None
    assert found.parameters == built(store.resolve(name))


def test_active_parameters_of_a_mixture(tmp_path: Path) -> None:
    found = ModelStore(tmp_path).shape("synthetic:gpt-oss-20b")
    assert found is not None
    assert found.active_parameters == pytest.approx(
        3.6e9 + 0.58e9, rel=0.01
    )  # the model card does not count embeddings
    assert found.context_length == 131072
    assert found.cache_values_per_token == 2 * 24 * 8 * 64


def test_every_shape_is_shipped_and_nothing_else(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    paths = [store.resolve(f"synthetic:{shape}") for shape in SYNTHETIC_SHAPES]
    assert sorted(paths) == sorted(paths[0].parent.iterdir())


@pytest.mark.parametrize("name", ["", "nonsense", "../x", "relative/path", "smollm2-135m.json", "SmolLM2-135M"])
def test_an_unknown_shape_is_answered_with_those_there_are(tmp_path: Path, name: str) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(UnknownModel, match=r"give synthetic: with one of gpt-oss-20b, .*smollm2-360m"):
        store.resolve(f"synthetic:{name}")
    assert store.shape(f"synthetic:{name}") is None


def test_a_path_reaches_configurations_only(tmp_path: Path, configured: Any) -> None:
    store, name = ModelStore(tmp_path / "store"), configured(TINY["llama"])
    assert store.resolve(name) == store.resolve(f"{name}/config.json") == tmp_path / "config.json"
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    for path in (secret, tmp_path / "nowhere", "/a\0b"):
        with pytest.raises(UnknownModel, match="there is no model directory"):
            store.resolve(f"synthetic:{path}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        store.resolve(name)
    assert store.shape(name) is None


async def test_there_is_nothing_to_fetch_or_remove(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    (step,) = [step async for step in store.pull("synthetic:qwen3-8b")]
    assert step.done is not None
    assert (step.done.size_bytes, step.done.ready, step.done.source) == (0, True, "synthetic")
    with pytest.raises(UnknownModel, match="no shape 'x'"):
        _ = [step async for step in store.pull("synthetic:x")]
    with pytest.raises(ModelError, match="nothing to remove"):
        store.remove("synthetic:qwen3-8b")
    assert store.list() == ()


@pytest.mark.parametrize(
    "config",
    [{"model_type": "t5"}, {}, {**TINY["qwen3"], "num_hidden_layers": "2x"}, {**TINY["llama"], "vocab_size": []}],
)
def test_what_cannot_be_counted_or_built(tmp_path: Path, configured: Any, config: dict[str, Any]) -> None:
    store, name = ModelStore(tmp_path / "store"), configured(config)
    assert store.shape(name) is None
    with pytest.raises(ModelError, match=r"no language model can be made of|must be a whole number"):
        built(store.resolve(name))


def test_code_and_quantization_of_a_checkpoint_do_not_count(configured: Any, tmp_path: Path) -> None:
    more = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "quantization_config": {"quant_method": "mxfp4"}}
    store, name = ModelStore(tmp_path / "store"), configured({**TINY["gpt_oss"], **more})
    assert loaded_config(store.resolve(name)) == TINY["gpt_oss"]
    assert built(store.resolve(name)) == getattr(store.shape(name), "parameters", None)


@pytest.mark.parametrize("kind", TINY)
def test_drawn_networks_compute_what_transformers_computes(configured: Any, tmp_path: Path, kind: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from hwdash.engine.worker.synthetic import draw_weights, empty_network

    config = {**TINY[kind], "initializer_range": 0.3}
    if kind == "llama":
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    path = ModelStore(tmp_path / "store").resolve(configured(config))
    shares: list[float] = []
    network = empty_network(path, torch.float32)
    draw_weights(network, "synthetic:x", torch.device("cpu"), shares.append)
    usual = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    usual.load_state_dict(network.state_dict())
    usual.tie_weights()
    tokens = torch.randint(0, 300, (1, 40))
    with torch.inference_mode():
        ours, theirs = network(input_ids=tokens).logits, usual(input_ids=tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.std() > 0.01
    for (name, buffer), (_, expected) in zip(network.named_buffers(), usual.named_buffers(), strict=True):
        assert torch.equal(buffer, expected), name
    tied = network.get_input_embeddings().weight is network.get_output_embeddings().weight
    assert tied == bool(config.get("tie_word_embeddings"))
    matrices = [p for name, p in network.named_parameters() if p.dim() > 1 and not name.endswith("bias")]
    assert all(0.2 < float(matrix.std()) < 0.4 for matrix in matrices)
    assert all(share <= 1 for share in shares)


def test_the_name_decides_the_weights(configured: Any, tmp_path: Path) -> None:
    import torch

    from hwdash.engine.worker.synthetic import draw_weights, empty_network

    path = ModelStore(tmp_path / "store").resolve(configured(TINY["tied"]))

    def drawn(name: str) -> torch.Tensor:
        network = empty_network(path, torch.bfloat16)
        draw_weights(network, name, torch.device("cpu"), lambda share: None)
        assert all(p.dtype is torch.bfloat16 for p in network.parameters())
        return torch.cat([p.flatten() for p in network.parameters()])

    assert torch.equal(drawn("synthetic:a"), drawn("synthetic:a"))
    assert not torch.equal(drawn("synthetic:a"), drawn("synthetic:b"))


@given(st.text(), st.sampled_from([200, 256, 49152, 201088]))
def test_text_becomes_tokens_of_the_vocabulary(text: str, vocabulary: int) -> None:
    from hwdash.engine.worker.tokenizer import ByteTokenizer

    tokens = ByteTokenizer(vocabulary).encode(text, special=True)
    assert len(tokens) >= len(text)
    assert all(0 <= token < vocabulary for token in tokens)
    assert (len(tokens) == 0) == (text == "")


@given(st.lists(st.integers(0, 201087), max_size=40))
def test_tokens_become_readable_noise(tokens: list[int]) -> None:
    from hwdash.engine.worker.detokenizer import Detokenizer
    from hwdash.engine.worker.tokenizer import ByteTokenizer

    tokenizer = ByteTokenizer(201088)
    text = tokenizer.decode(tokens)
    assert len(text.split()) == len(tokens)
    assert not any(unicodedata.category(character).startswith("C") for character in text)
    pieces = Detokenizer(tokenizer.decode)
    assert "".join(pieces.push(token) for token in tokens) + pieces.flush() == text


def test_neighbouring_tokens_are_different_words() -> None:
    from hwdash.engine.worker.tokenizer import ByteTokenizer

    words = {ByteTokenizer(300).decode([token]) for token in range(300)}
    assert len(words) > 150


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (
            "num_hidden_layers",
            1_000_000_000,
            "num_hidden_layers must be a whole number from 1 to 1,024, not 1000000000",
        ),
        ("hidden_size", -64, "hidden_size must be a whole number from 1 to 262,144, not -64"),
        ("num_attention_heads", 0, "num_attention_heads must be a whole number from 1 to 4,096, not 0"),
        ("vocab_size", "many", "vocab_size must be a whole number from 1 to 16,777,216, not 'many'"),
        ("num_key_value_heads", 3, r"num_attention_heads \(4\) must be a multiple of num_key_value_heads \(3\)"),
    ],
)
def test_sizes_that_no_model_has_are_refused_by_name(tmp_path: Path, field: str, value: object, told: str) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, field: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=told):
        ModelStore(tmp_path / "models").resolve(f"synthetic:{tmp_path}")
