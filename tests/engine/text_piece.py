"""Tokenizers of a few hundred tokens, as checkpoints bring them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = ["the quick brown fox jumps over the lazy dog", "user assistant system", "Grüße 日本語 👩‍👩‍👧 ✈️"] * 4
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n    {%- if message['role'] == 'refused' %}{{ raise_exception('no') }}"
    "{% endif %}<{{ message['role'] }}>{% generation %}{{ message | tojson }}{% endgeneration %}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt and not tools %}<assistant>{% endif %}"
)
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _special(content: str) -> Any:
    from tokenizers import AddedToken

    return AddedToken(content, special=True, normalized=False)


def _settings(directory: Path, **settings: Any) -> None:
    (directory / "tokenizer_config.json").write_text(json.dumps({"backend": "tokenizers", **settings}))


def write_bytes(directory: Path, **settings: Any) -> None:
    """A byte-level vocabulary with a beginning of text, as Llama 3 has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [_special(content) for content in ("<s>", "</s>", "<tool>")]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=380,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(directory / "tokenizer.json"))
    more = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE, "model_max_length": 512}
    _settings(directory, **{"tokenizer_class": "PreTrainedTokenizerFast", **more, **settings})


def write_pieces(directory: Path) -> None:
    """Pieces with bytes for what they lack, as SentencePiece makes them and Llama 2 has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    words = ["the", "▁the", "▁", "quick", "o", "n", "e", "t", "h", "q", "u", "i", "c", "k"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    vocabulary |= {word: 300 + number for number, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [("t", "h")][:0], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([_special(content) for content in ("<unk>", "<s>", "</s>")])
    tokenizer.save(str(directory / "tokenizer.json"))
    _settings(
        directory,
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<s>",
        eos_token={"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False},
        unk_token="<unk>",
        chat_template=[{"name": "other", "template": "no"}, {"name": "default", "template": TEMPLATE}],
    )


def write_qwen(directory: Path) -> None:
    """A vocabulary that is cut as Qwen's are."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_QWEN), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=370, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    tokenizer.add_special_tokens([_special(content) for content in ("<|endoftext|>", "<|im_end|>")])
    tokenizer.save(str(directory / "tokenizer.json"))
    more = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None}
    _settings(directory, tokenizer_class="Qwen2Tokenizer", **more, chat_template=TEMPLATE, add_prefix_space=False)
