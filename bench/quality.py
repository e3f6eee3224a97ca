"""What weights in 8 bits do to answers: the default model as it is and with the weights that a CPU holds, side by side.

On the text of the README: perplexity, and how often both say the same next token. Then answers to a few prompts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.report import Figure, write
from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.paths import paths_from

TEXT = Path(__file__).parent.parent / "README.md"
TOKENS = 1024
ANSWER = 48
PROMPTS = (
    "What is the capital of France?",
    "Explain in two sentences what a graphics card does.",
    "List three fruits.",
    "Why is the sky blue?",
    "Write a short poem about the sea.",
)
WAYS = ("fp32", "fp16, exact", "int8")


def run() -> None:
    """Measure and write ``quality.json``."""
    path = paths_from(os.environ).models / DEFAULT_MODEL
    if not (path / "manifest.json").exists():
        print(f"skip  quality: needs the default model; run: hwdash models pull {DEFAULT_MODEL}")
        return
    raw: dict[str, dict[str, Any]] = {}
    plain = None
    for way in WAYS:
        told, logits = _measure(path, way)
        plain = logits if plain is None else plain
        told["same_next_token"] = float((logits.argmax(-1) == plain.argmax(-1)).float().mean())
        raw[way] = told
        print(
            f"{way}: perplexity {told['perplexity']:.3f}, same next token {told['same_next_token']:.1%}", *told["held"]
        )
    for number, prompt in enumerate(PROMPTS):
        print(f"> {prompt}")
        for way in WAYS:
            print(f"  {way + ':':12} {raw[way]['answers'][number]!r}")
    worse = raw["int8"]["perplexity"] / raw["fp32"]["perplexity"]
    exact = raw["fp16, exact"]["perplexity"] / raw["fp32"]["perplexity"]
    figures = [
        Figure("perplexity with exact fp16 weights to that with fp32", exact, 1.0001, "x"),
        Figure("perplexity with int8 weights to that with fp32", worse, 1.01, "x"),
        Figure("same next token with int8 weights", raw["int8"]["same_next_token"], 0.95, "", at_most=False),
    ]
    write("quality", figures, raw)


def _measure(path: Path, way: str) -> tuple[dict[str, Any], Any]:
    """Perplexity, answers and how weights are held, and the logits on the text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hwdash.engine.worker.quantized import Holder

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()
    holder = None if way == "fp32" else Holder(eight_bits=way == "int8")
    if holder is not None:
        _hold(model, holder)
    tokens = torch.tensor(tokenizer(TEXT.read_text())["input_ids"][:TOKENS])[None]
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0].float()
        likelihood = logits[:-1].log_softmax(-1).gather(1, tokens[0, 1:, None])
        answers = [_answer(model, tokenizer, prompt) for prompt in PROMPTS]
    told = {
        "perplexity": float((-likelihood.mean()).exp()),
        "answers": answers,
        "held": list(holder.words) if holder is not None else [],
    }
    return told, logits


def _hold(model: Any, holder: Any) -> None:
    """Have each linear layer of *model* multiply by what *holder* makes of its weights."""
    import torch

    class Held(torch.nn.Module):
        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = holder(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            product: torch.Tensor = self.linear(rows.reshape(-1, rows.shape[-1]))
            return product.view(*rows.shape[:-1], -1)

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, Held(child))


def _answer(model: Any, tokenizer: Any, prompt: str) -> str:
    turn = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**asked, max_new_tokens=ANSWER, do_sample=False)
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
