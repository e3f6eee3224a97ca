"""Small models with random weights, one of each family that has a forward pass of our own."""

from __future__ import annotations

from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": 0,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = ("llama", "llama-tied-biased", "mistral", "qwen2", "qwen3", "qwen3-moe", "gpt-oss")


def config_of(family: str, **changes: Any) -> Any:
    """The configuration of a small model of *family*."""
    import transformers

    sizes = {**SIZES, **changes}
    match family:
        case "llama":
            return transformers.LlamaConfig(**sizes)
        case "llama-tied-biased":
            more = {"attention_bias": True, "tie_word_embeddings": True, "rope_parameters": _LLAMA3}
            return transformers.LlamaConfig(**sizes, **more)
        case "mistral":
            return transformers.MistralConfig(**sizes, sliding_window=7)
        case "qwen2":
            return transformers.Qwen2Config(**sizes)
        case "qwen3":
            return transformers.Qwen3Config(**{"head_dim": 16, **sizes})
        case "qwen3-moe":
            more = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
            return transformers.Qwen3MoeConfig(**{"head_dim": 16, **sizes}, **more)
        case "gpt-oss":
            more = {"num_local_experts": 8, "num_experts_per_tok": 3, "sliding_window": 8}
            return transformers.GptOssConfig(**{"head_dim": 16, **sizes}, **more)
    raise ValueError(family)


def model_of(family: str, *, seed: int = 0, scale: float = 0.15, device: str = "cpu", **changes: Any) -> Any:
    """A small model of *family* whose weights are large enough for answers that differ."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(family, **changes), dtype=torch.float32).eval().to(device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or "bias" in name or "sinks" in name:
                parameter.normal_(0, scale)
    return model


def generated(model: Any, prompt: list[int], count: int) -> list[int]:
    """What the library's own greedy ``generate`` makes of *prompt*."""
    import torch

    ids = torch.tensor([prompt], device=model.device)
    with torch.no_grad():
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
    return list(made[0, len(prompt) :].tolist())


def prompt_of(length: int) -> list[int]:
    """A prompt of *length* tokens."""
    return [(7 * place * place + 3 * place) % 290 + 1 for place in range(1, length + 1)]
