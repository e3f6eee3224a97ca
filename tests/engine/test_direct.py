"""Checkpoints read from their files without transformers: the same answers, and the same errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwdash.core.errors import ModelError
from hwdash.engine.message import Load
from tests.engine.family import generated, model_of, prompt_of

PROMPTS = ("Why is the sky blue?", "Write a poem about a lighthouse.", "List three prime numbers.")


def _load(directory: Path, dtype: str = "fp32") -> Load:
    return Load(str(directory), "tiny", "cpu", dtype, threads=1)


def _answer(directory: Path, prompt: list[int], count: int) -> tuple[list[int], tuple[str, ...]]:
    """The tokens that a decoder makes of *prompt* over the files in *directory*, and how the model was read."""
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.loading import load_model
    from hwdash.engine.worker.selection import choose_decoder

    load = _load(directory)
    decoder = choose_decoder(load_model(load, lambda *_: None), load)
    number = decoder.open(prompt, count, Sampling(endless=True))
    while not decoder.read(number):
        pass
    return [one.token for _ in range(count) for one in decoder.advance()], decoder.choices


def _is_direct(choices: tuple[str, ...]) -> bool:
    return any("without transformers" in choice for choice in choices)


@pytest.fixture
def tokenizer_of(tiny_model: Path) -> Callable[[Path], None]:
    """Puts the tiny model's tokenizer beside other weights."""

    def put(directory: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_model / name, directory / name)

    return put


@pytest.mark.parametrize("family", ["llama", "llama-tied-biased", "mistral", "qwen3"])
@pytest.mark.parametrize("shards", ["one", "many"])
def test_families_answer_as_the_library_does(
    family: str, shards: str, tmp_path: Path, tokenizer_of: Callable[[Path], None]
) -> None:
    model = model_of(family, vocab_size=400)
    model.save_pretrained(tmp_path, max_shard_size="50KB" if shards == "many" else "1GB")
    tokenizer_of(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "many")
    expected = generated(model, prompt_of(40), 16)
    made, choices = _answer(tmp_path, prompt_of(40), 16)
    assert _is_direct(choices), choices
    assert made == expected


def test_qwen2_with_the_tokenizer_of_qwen(tmp_path: Path) -> None:
    from tests.engine.text_piece import write_qwen

    model = model_of("qwen2", vocab_size=400)
    model.save_pretrained(tmp_path)
    write_qwen(tmp_path)
    expected = generated(model, prompt_of(20), 12)
    made, choices = _answer(tmp_path, prompt_of(20), 12)
    assert _is_direct(choices), choices
    assert made == expected


def test_names_without_a_prefix(tmp_path: Path, tokenizer_of: Callable[[Path], None]) -> None:
    from safetensors.torch import load_file, save_file

    model = model_of("llama-tied-biased", vocab_size=400)
    model.save_pretrained(tmp_path)
    tokenizer_of(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name.removeprefix("model."): weight for name, weight in load_file(path).items()}, path)
    made, choices = _answer(tmp_path, prompt_of(9), 8)
    assert _is_direct(choices), choices
    assert made == generated(model, prompt_of(9), 8)


def test_the_library_stays_out_of_it(tiny_model: Path) -> None:
    """A whole worker's start and an answer, in a process of its own, with and without 8 bits."""
    program = f"""
import sys
from hwdash.core.inference import Message
from hwdash.engine.message import Generate, Load, Done, Token
from hwdash.engine.worker import failure, loop, start
from hwdash.engine.worker.batch import Batch
for quantize in (True, False):
    load = Load({str(tiny_model)!r}, "tiny", "cpu", "fp32", threads=1, quantize=quantize)
    model, decoder, ready = start.start(load, 0.0, lambda *_: None)
    batch = Batch(model, decoder)
    batch.add(Generate(1, (Message("user", "hello"),), 6))
    said = []
    while batch.busy:
        said.extend(batch.step())
    assert any(isinstance(one, Done) and one.completion_tokens == 6 for one in said), said
    assert any("without transformers" in choice for choice in ready.model.choices), ready.model.choices
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def _changed(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "phi3"},
        {"model_type": ["llama"]},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"hidden_act": "gelu"},
        {"mlp_bias": True},
        {"quantization_config": {"quant_method": "fp8"}},
        {"rms_norm_eps": "absent"},
        {"num_hidden_layers": "many"},
        {"num_attention_heads": 3, "num_key_value_heads": 2},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        {"eos_token_id": "end"},
    ],
)
def test_other_configurations_are_left_to_the_library(
    changes: dict[str, Any], broken_model: Callable[..., Path]
) -> None:
    import torch

    from hwdash.engine.checkpoint import read_checkpoint
    from hwdash.engine.worker.direct import open_directly

    directory = broken_model("")
    _changed(directory, **changes)
    assert isinstance(open_directly(read_checkpoint(directory), "tiny", torch.device("cpu")), str)


def test_the_library_reads_what_is_left_to_it(broken_model: Callable[..., Path]) -> None:
    directory = broken_model("")
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_special_tokens": True}))
    _, choices = _answer(directory, [5, 6, 7], 2)
    assert any("split_special_tokens" in choice for choice in choices)


@pytest.mark.parametrize("damage", ["missing", "head", "shape", "nan"])
def test_the_same_errors_either_way(damage: str, broken_model: Callable[..., Path]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from hwdash.engine.worker.loading import load_model

    directory = broken_model("")
    path = directory / "model.safetensors"
    weights = load_file(path)
    match damage:
        case "missing":
            del weights["model.layers.1.mlp.up_proj.weight"]
        case "head":
            del weights["lm_head.weight"]
        case "shape":
            weights["model.layers.0.self_attn.o_proj.weight"] = torch.zeros(32, 16)
        case "nan":
            weights["model.norm.weight"][3] = torch.nan
            weights["model.layers.0.self_attn.k_proj.weight"][1, 2] = torch.inf
    save_file(weights, path, {"format": "pt"})
    told = []
    for direct in (True, False):
        with pytest.raises(ModelError) as error:
            load_model(_load(directory), lambda *_: None, direct=direct)
        told.append(str(error.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_default_model_answers_as_the_library_does(prompt: str, default_model_root: Path) -> None:
    from transformers import AutoModelForCausalLM

    from hwdash.core.config import DEFAULT_MODEL
    from hwdash.engine.models import ModelStore
    from hwdash.engine.worker.loading import load_model

    directory = ModelStore(default_model_root).resolve(DEFAULT_MODEL)
    model = load_model(_load(directory), lambda *_: None)
    text, _ = model.prompt_text([], False)
    ids = model.encode(model.tokenizer.conversation([{"role": "user", "content": prompt}]), True)
    assert text == ""
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype="float32").eval()
    made, choices = _answer(directory, ids, 16)
    assert _is_direct(choices), choices
    assert made == generated(theirs, ids, 16)
