"""Turns a GGUF file into a safetensors checkpoint; a program of its own, so that torch stays out of the daemon.

``python -m hwdash.engine.worker.convert FILE.gguf DIRECTORY`` writes the checkpoint in bf16 with tokenizer, chat template
and generation configuration, and says on standard output how far it is, as `hwdash.engine.child.Child` reads it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hwdash.engine.worker.lifeline import die_with_parent, say


def _step(name: str, start: float, end: float) -> None:
    say({"step": name, "from": start, "to": end})


def convert(source: Path, target: Path) -> None:
    """Write the weights of the GGUF file *source* to the new directory *target*. Raises what the libraries raise."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    torch.set_grad_enabled(False)
    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    _step("converting", 0.0, 0.2)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    _step("converting", 0.2, 0.9)
    if (quantization := getattr(transformers, "GgufConfig", None)) is not None:
        where["quantization_config"] = quantization(dequantize=True)
    read = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.bfloat16, **where)
    # A model read from GGUF refuses to be saved, even when nothing in it is quantized any more.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    ends = {tokenizer.eos_token_id, config.eos_token_id} - {None}
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id
    )
    _step("saving", 0.9, 1.0)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    die_with_parent()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
