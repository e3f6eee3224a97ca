"""What models need, read from their own metadata, also where that is nonsense."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.model import ModelShape
from hwdash.engine import shape as shapes
from hwdash.engine.catalogue import CATALOGUE, catalogue_shape
from hwdash.engine.models import ModelStore
from hwdash.engine.shape import Shapes, read_shape, shape_of
from tests.tiny_model import CONTEXT

LLAMA = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
MIXTRAL = {**LLAMA, "num_local_experts": 8, "num_experts_per_tok": 2}


def checkpoint(directory: Path, config: object, tensors: Mapping[str, list[int]]) -> Path:
    """A checkpoint of bf16 *tensors* full of zeros."""
    directory.mkdir(exist_ok=True)
    header: dict[str, object] = {}
    end = 0
    for name, dimensions in tensors.items():
        begin, end = end, end + 2 * math.prod(dimensions)
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + bytes(end))
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_the_shape_of_a_real_checkpoint(tiny_model: Path) -> None:
    found = read_shape(tiny_model)
    assert found is not None
    assert (found.layers, found.cache_values_per_token, found.context_length) == (2, 2 * 2 * 2 * 8, CONTEXT)
    assert 0 < found.parameters * 4 < (tiny_model / "model.safetensors").stat().st_size
    assert found.active_parameters is None


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (LLAMA, 2 * 32 * 8 * 128),
        ({**LLAMA, "num_key_value_heads": None}, 2 * 32 * 32 * 128),
        ({**LLAMA, "head_dim": 64}, 2 * 32 * 8 * 64),
        ({**LLAMA, "sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, 2 * 32 * 8 * 128),
        ({"hidden_size": 1, "text_config": LLAMA}, 2 * 32 * 8 * 128),
        ({**LLAMA, "is_encoder_decoder": False, "mamba_d_state": None}, 2 * 32 * 8 * 128),
    ],
)
def test_the_cache_of_attention(config: dict[str, object], values: int) -> None:
    found = shape_of(config, 8_030_261_248)
    assert found is not None
    assert found.cache_values_per_token == values


@pytest.mark.parametrize(
    "more",
    [
        {"num_key_value_heads": [8, 8]},
        {"num_key_value_heads": 64},
        {"head_dim": "128"},
        {"head_dim": -1},
        {"hidden_size": 4},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": True},
        {"layer_types": ["full_attention", "linear_attention"]},
        {"layer_types": [["full_attention"]]},
        {"layer_types": "full_attention"},
        {"layers_block_type": ["mamba", "attention"]},
        {"mamba_d_state": 128},
        {"kv_lora_rank": 512},
        {"multi_query": True},
        {"is_encoder_decoder": True},
        {"quantization_config": {"quant_method": "awq"}},
        {"text_config": {"num_hidden_layers": 2}},
        {"text_config": {**LLAMA, "state_size": 16}},
    ],
)
def test_what_is_not_understood_has_no_shape(more: dict[str, object]) -> None:
    assert shape_of({**LLAMA, **more}, 1000) is None


def test_a_mixture_reads_the_chosen_experts_only(tmp_path: Path) -> None:
    experts = {f"model.layers.0.mlp.experts.{index}.w1.weight": [100, 10] for index in range(8)}
    rest = {"model.embed_tokens.weight": [50, 10], "model.layers.0.mlp.shared_experts.w1.weight": [30, 10]}
    found = read_shape(checkpoint(tmp_path / "separate", MIXTRAL, {**experts, **rest}))
    assert found is not None
    assert (found.parameters, found.active_parameters) == (8800, 2800)
    assert found.read_bytes("bf16") == 5600
    assert found.weight_bytes("bf16") == 17600

    fused = {"model.layers.0.mlp.experts.gate_up_proj": [8, 100, 10], **rest}
    config = {**LLAMA, "num_experts": 8, "num_experts_per_tok": 4}
    found = read_shape(checkpoint(tmp_path / "fused", config, fused))
    assert found is not None
    assert found.active_parameters == 4800


@pytest.mark.parametrize("more", [{"num_experts_per_tok": 9}, {"num_experts_per_tok": None}, {"num_local_experts": -8}])
def test_a_mixture_that_cannot_be_reckoned_reads_all(more: dict[str, object]) -> None:
    found = shape_of({**MIXTRAL, **more}, 8800, 8000)
    assert found is not None
    assert found.active_parameters is None
    assert found.read_bytes("bf16") == found.weight_bytes("bf16")


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([10**40, -1, 0, 8]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [*MIXTRAL, "head_dim", "max_position_embeddings", "layer_types", "num_experts", "quantization_config", "mamba_x"]
)
_CONFIGS = st.dictionaries(_KEYS | st.text(max_size=5), _JUNK).map(lambda changes: {**MIXTRAL, **changes})


@given(_CONFIGS | st.fixed_dictionaries({"text_config": _CONFIGS}), st.integers(-1, 10**13), st.integers(-1, 10**13))
def test_no_configuration_gives_nonsense(config: dict[str, Any], parameters: int, experts: int) -> None:
    found = shape_of(config, parameters, experts)
    if found is None:
        return
    numbers = [found.parameters, found.layers, found.cache_values_per_token]
    numbers += [number for number in (found.context_length, found.active_parameters) if number is not None]
    assert all(type(number) is int and 0 < number < 10**25 for number in numbers)
    assert found.read_bytes("bf16") <= found.weight_bytes("bf16")


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [1.5, 4], "data_offsets": [0, 12]},
        {"shape": [-3, -2], "data_offsets": [0, 12]},
        {"shape": [10**30], "data_offsets": [0, 12]},
        {"shape": [2, 3], "data_offsets": [12, 0]},
        {"shape": [2, 3], "data_offsets": [0, 12.0]},
        {"shape": "23", "data_offsets": [0, 12]},
        {"shape": [True], "data_offsets": [0, 12]},
    ],
)
def test_a_header_that_cannot_be_has_no_shape(tmp_path: Path, tensor: dict[str, object]) -> None:
    directory = checkpoint(tmp_path / "m", LLAMA, {"a": [2, 3]})
    assert Shapes().of(directory) is not None
    header = json.dumps({"a": {"dtype": "BF16", **tensor}}).encode()
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    assert Shapes().of(directory) is None


@pytest.mark.parametrize("config", ["[" * 100_000, "[]", "{", '{"a": 1' + "0" * 5000 + "}"])
def test_a_configuration_that_is_none_has_no_shape(tmp_path: Path, config: str) -> None:
    directory = checkpoint(tmp_path / "m", LLAMA, {"a": [2, 3]})
    (directory / "config.json").write_text(config)
    assert Shapes().of(directory) is None


def test_a_pipe_in_place_of_a_configuration_holds_nobody_up(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "m", LLAMA, {"a": [2, 3]})
    (directory / "config.json").unlink()
    os.mkfifo(directory / "config.json")
    assert Shapes().of(directory) is None


def test_a_checkpoint_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    real = shapes.read_shape

    def counted(directory: Path) -> ModelShape | None:
        reads.append(directory)
        return real(directory)

    monkeypatch.setattr(shapes, "read_shape", counted)
    directory = checkpoint(tmp_path / "m", LLAMA, {"a": [2, 3]})
    store = ModelStore(tmp_path)
    assert store.shape(str(directory)) == store.shape(str(directory)) is not None
    assert len(reads) == 1
    checkpoint(directory, {**LLAMA, "num_hidden_layers": 16}, {"a": [2, 3], "b": [4]})
    changed = store.shape(str(directory))
    assert changed is not None
    assert (changed.layers, changed.parameters) == (16, 10)
    shutil.rmtree(directory)
    assert store.shape(str(directory)) is None
    assert len(reads) == 2


def test_a_model_of_the_catalogue_has_a_shape_before_it_is_fetched(tmp_path: Path, tiny_model: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.shape(DEFAULT_MODEL) == catalogue_shape(DEFAULT_MODEL) == CATALOGUE[DEFAULT_MODEL].shape
    assert [store.shape(name) for name in ("org/absent", "..", "", "/", "/nowhere", "/a\0b")] == [None] * 6
    shutil.copytree(tiny_model, tmp_path / DEFAULT_MODEL)
    assert store.shape(DEFAULT_MODEL) == read_shape(tiny_model)


@pytest.mark.model
def test_the_catalogue_tells_the_shape_of_the_default_model(default_model_root: Path) -> None:
    assert read_shape(default_model_root / DEFAULT_MODEL) == catalogue_shape(DEFAULT_MODEL)
