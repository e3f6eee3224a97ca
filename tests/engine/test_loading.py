"""From a checkpoint or a shape to a model that computes, and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwdash.core.errors import HwdashError, ModelError
from hwdash.core.inference import Message
from hwdash.engine.message import Load
from tests.engine.test_synthetic import TINY
from tests.tiny_model import CONTEXT, GREEDY_PROMPT

CHAT = (Message("user", GREEDY_PROMPT),)


def loaded(directory: Path, *, synthetic: bool = False, direct: bool = True) -> tuple[Any, list[str]]:
    from hwdash.engine.worker.loading import load_model

    said: list[str] = []
    load = Load(str(directory), "some model", "cpu", "fp32", 1, synthetic=synthetic)
    return load_model(load, lambda detail, progress: said.append(detail), direct=direct), said


def test_a_checkpoint_is_loaded_and_described(tiny_model: Path) -> None:
    model, said = loaded(tiny_model)
    assert (model.dtype, model.context_length, model.has_template) == ("fp32", CONTEXT, True)
    assert 4 * model.parameters >= model.memory_bytes >= 2 * model.parameters > 0  # fp16 where that is exact
    assert "without transformers" in model.choices[0]
    assert any(line.startswith("reading the weights: ") and line.endswith(" free") for line in said)
    text, remark = model.prompt_text(CHAT, template=True)
    assert remark == ""
    assert model.decode(model.encode("the quick fox", template=False)) == "the quick fox"
    assert len(model.ends) == 1
    assert len(model.encode(text, template=True)) > len(model.encode(GREEDY_PROMPT, template=False))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("qwen3", ["sdpa"]), ("qwen3_moe", ["sdpa", "eager"]), ("gpt_oss", ["eager", "eager"]), ("qwen2", ["sdpa"])],
)
def test_a_shape_is_loaded_without_a_file_but_its_configuration(tmp_path: Path, kind: str, words: list[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY[kind]))
    model, said = loaded(tmp_path / "config.json", synthetic=True)
    assert (model.ends, model.context_length, model.has_template) == (frozenset(), 512, True)
    assert len(model.choices) == len(words)
    assert all(word in choice for word, choice in zip(words, model.choices, strict=True))
    assert any(line.startswith("drawing the weights: ") for line in said)
    text, remark = model.prompt_text(CHAT, template=True)
    assert (text, remark) == (f"user: {GREEDY_PROMPT}\nassistant: ", "")
    assert len(model.encode(text, template=True)) == len(text)


def changed(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(broken_model: Callable[[str], Path], value: float) -> None:
    directory = broken_model("")
    name = "model.layers.1.mlp.up_proj.weight"

    def damage(weights: dict[str, Any]) -> None:
        weights[name][3, 4] = value

    changed(directory, damage)
    with pytest.raises(ModelError, match=rf"{name} has numbers that are NaN or infinite; download it again"):
        loaded(directory)


def test_weights_of_another_shape_are_named(broken_model: Callable[[str], Path]) -> None:
    directory = broken_model("")

    def damage(weights: dict[str, Any]) -> None:
        weights["model.norm.weight"] = weights["model.norm.weight"][:16].clone()

    changed(directory, damage)
    with pytest.raises(ModelError, match=r"model\.norm\.weight is 16 and config\.json asks for 32"):
        loaded(directory)


def test_missing_weights_are_named(broken_model: Callable[[str], Path]) -> None:
    directory = broken_model("")
    changed(directory, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 weights \(model\.norm\.weight"):
        loaded(directory)


def test_code_that_comes_with_a_model_is_never_run(broken_model: Callable[[str], Path]) -> None:
    directory = broken_model("")
    ran = directory / "ran"
    (directory / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((directory / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (directory / "config.json").write_text(json.dumps(config))
    assert loaded(directory)[0].parameters > 0  # transformers has a llama of its own
    config["model_type"] = "evil"
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"needs code of its own \(auto_map in config\.json\)"):
        loaded(directory)
    assert not ran.exists()


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}', "[]"])
def test_a_tokenizer_that_cannot_be_read(broken_model: Callable[[str], Path], content: str) -> None:
    directory = broken_model("")
    (directory / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be read: "):
        loaded(directory)


def test_a_checkpoint_without_a_template_takes_plain_text(broken_model: Callable[[str], Path]) -> None:
    directory = broken_model("")
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    model, _ = loaded(directory)
    text, remark = model.prompt_text(CHAT, template=True)
    assert (text, model.has_template) == (GREEDY_PROMPT, False)
    assert "no chat template" in remark


def test_want_of_memory_is_seen_through_other_errors(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, logging

    said = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 1 GiB free"

    def wrapped(*_: object, **__: object) -> None:
        try:
            raise RuntimeError(said)
        except RuntimeError as error:
            raise RuntimeError("We encountered some issues") from error

    def told_in_the_log(*_: object, **__: object) -> None:
        logging.get_logger("transformers.modeling_utils").warning("LOAD REPORT\nCONVERSION\n%s", said)
        raise RuntimeError("We encountered some issues during automatic conversion of the weights")

    for failing in (wrapped, told_in_the_log):
        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", failing)
        with pytest.raises(HwdashError, match=r"out of memory \(2\.50 GiB more were needed, .* are free\)") as caught:
            loaded(tiny_model, direct=False)
        assert caught.value.code == "device_full"


def test_grouped_products_give_way_where_they_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwdash.engine.worker.implementation import choose_implementations

    (tmp_path / "config.json").write_text(json.dumps(TINY["gpt_oss"]))
    model, _ = loaded(tmp_path / "config.json", synthetic=True)
    used: list[str] = []

    def run() -> None:
        used.append(model.network.get_experts_implementation()[""])
        if used[-1] == "grouped_mm":
            raise RuntimeError("no kernel for this")

    device = torch.device("cuda:0")
    monkeypatch.setattr("hwdash.engine.worker.implementation.is_fault_of_device", lambda error, device: False)
    choices = choose_implementations(model.network, device, torch.float32, run)
    assert used[-2:] == ["grouped_mm", "eager"]
    assert choices[1] == (
        "experts: one after another (eager), since grouped products do not run here: no kernel for this"
    )
    used.clear()
    choices = choose_implementations(model.network, device, torch.float32, lambda: None)
    assert choices[1].startswith("experts: grouped_mm")
