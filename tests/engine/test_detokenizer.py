"""Text while it is made: whole characters, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hwdash.engine.worker.detokenizer import Detokenizer

SAMPLES = [
    "Grüße aus Köln, naïve café",
    "日本語とEmoji 🎉 und 👩‍👩‍👧‍👦 Familie",
    "🏳️‍🌈🇩🇪👍🏽 flags and tones",
    "a\u0301 combining e\u0308",
    "नमस्ते दुनिया العربية",
    "  leading\n\n  spaces\ttabs\r\nlines ",
]
WORDS = "the quick brown fox jumps over the lazy dog Grüße café 日本 👍"


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, show_progress=False, special_tokens=["<s>"]
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As in SentencePiece vocabularies: a leading-space mark, and bytes where no piece fits."""
    vocabulary = {"<unk>": 0, "<s>": 1} | {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
    for character in sorted(set(WORDS.replace("👍", "").replace("日", "").replace(" ", "▁"))):
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


TOKENIZERS = {"byte-level": byte_level(), "byte-fallback": byte_fallback()}


def decoder_of(tokenizer: Tokenizer) -> Callable[[Sequence[int]], str]:
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


def streamed(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(decoder_of(tokenizer))
    return [*(detokenizer.push(token) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", SAMPLES)
def test_pieces_join_to_the_whole_and_break_no_character(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text).ids
    pieces = streamed(tokenizer, ids)
    whole = "".join(pieces)
    assert whole == decoder_of(tokenizer)(ids)
    assert whole.strip() == text.strip()
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\N{REPLACEMENT CHARACTER}")))
def test_any_text_comes_out_whole(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text).ids
    assert "".join(streamed(tokenizer, ids)) == decoder_of(tokenizer)(ids)


@given(st.lists(st.integers(0, 300), max_size=300))
def test_random_byte_level_tokens_come_out_whole(ids: list[int]) -> None:
    tokenizer = TOKENIZERS["byte-level"]
    assert "".join(streamed(tokenizer, ids)) == decoder_of(tokenizer)(ids)


def test_the_window_stays_short_when_nothing_ever_becomes_a_character() -> None:
    widths = []

    def decode(ids: Sequence[int]) -> str:
        widths.append(len(ids))
        return "\N{REPLACEMENT CHARACTER}" * len(ids)

    detokenizer = Detokenizer(decode)
    for _ in range(1000):
        detokenizer.push(7)
    assert max(widths) < 150
