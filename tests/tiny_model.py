"""Builds a Llama of a few kilobytes with random weights, so that real workers can be tested without a download.

Run as a program (``python -m tests.tiny_model DIR``), so that the tests themselves need not load torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CONTEXT = 16384
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = ["the quick brown fox jumps over the lazy dog", "user assistant system", "Grüße 日本語 👩‍👩‍👧 ✈️"] * 4
GREEDY_PROMPT = "Say something"
GREEDY_TOKENS = 24


def build(directory: Path) -> None:
    """Write the checkpoint to *directory*, with ``greedy.json``: what ``model.generate`` makes of `GREEDY_PROMPT`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHAT_TEMPLATE
    end = fast.eos_token_id

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[end].zero_()  # never the likeliest token: greedy answers end at max_tokens
    model.generation_config = GenerationConfig(eos_token_id=[end], pad_token_id=end)
    model.save_pretrained(directory)
    fast.save_pretrained(directory)

    prompt = fast.apply_chat_template(
        [{"role": "user", "content": GREEDY_PROMPT}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**prompt, max_new_tokens=GREEDY_TOKENS, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    text = fast.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    (directory / "greedy.json").write_text(json.dumps({"ids": made.tolist(), "text": text}))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
