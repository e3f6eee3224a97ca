"""Text to tokens and back: with the tokenizer of a checkpoint, or with bytes and made-up words where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hwdash.core.errors import ModelError, UsageError
from hwdash.core.text import sanitise_line

NO_LIMIT = 10**9
"""Tokenizers without a limit of their own say 1e30."""
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_MIXER = 2_654_435_761
"""The multiplier of Knuth's multiplicative hash (The Art of Computer Programming 3, 6.4): neighbours get other words."""


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer.

    ``has_template``: it knows how a conversation is written. ``ends`` are the tokens that end an answer,
    ``longest_token`` is the most characters that one token covers. ``context_length`` is None where it sets none.
    """

    has_template: bool
    ends: frozenset[int]
    longest_token: int
    context_length: int | None

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The text of *turns* with the beginning of an answer. Raises `UsageError` when the template refuses them."""
        ...

    def encode(self, text: str, special: bool) -> list[int]:
        """The tokens of *text*, with those that begin a text where *special*."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of *tokens* without special tokens."""
        ...


class CheckpointTokenizer:
    """A `Tokenizer` that came with the weights. *model* names it in errors."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        limit, end = tokenizer.model_max_length, tokenizer.eos_token_id
        self.has_template = bool(tokenizer.chat_template)
        self.ends = frozenset() if end is None else frozenset({int(end)})
        self.longest_token = max((len(token.encode()) for token in tokenizer.get_vocab()), default=1)
        self.context_length = int(limit) if limit < NO_LIMIT else None

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The text of *turns* by the checkpoint's template. Raises `UsageError` when it refuses them."""
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=True
                )
            )
        except TemplateError as error:
            problem = sanitise_line(str(error))
            raise UsageError(
                f"the chat template of {self._model} refuses the messages: {problem}", param="messages"
            ) from None

    def encode(self, text: str, special: bool) -> list[int]:
        """The tokens of *text*, with those that begin a text where *special*."""
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of *tokens* without special tokens."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class ByteTokenizer:
    """A `Tokenizer` without files for a model with *vocabulary* tokens: reads bytes, writes words that mean nothing.

    No token ends an answer, so that answers are as long as they may be.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self.has_template = True
        self.ends: frozenset[int] = frozenset()
        self.longest_token = 1
        self.context_length: int | None = None

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> str:
        """Each of *turns* on a line that begins with its role."""
        return "".join(f"{turn['role']}: {turn['content']}\n" for turn in turns) + "assistant: "

    def encode(self, text: str, special: bool) -> list[int]:
        """One token for each byte of *text* in UTF-8; there are no special ones."""
        return [byte % self._vocabulary for byte in text.encode(errors="replace")]

    def decode(self, tokens: Sequence[int]) -> str:
        """A word for each token, always the same for the same one."""
        return " ".join(_word(token) for token in tokens)


def _word(token: int) -> str:
    number = (token * _MIXER) % 2**32
    letters = []
    for _ in range(1 + number % 3):
        number, consonant = divmod(number // 3, len(_CONSONANTS))
        number, vowel = divmod(number, len(_VOWELS))
        letters.append(_CONSONANTS[consonant] + _VOWELS[vowel])
    return "".join(letters)


def read_tokenizer(directory: Path, model: str) -> CheckpointTokenizer:
    """The tokenizer of the checkpoint in *directory*. Raises `ModelError` where it cannot be read."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        return CheckpointTokenizer(tokenizer, model)
    except MemoryError:
        raise
    except Exception as error:
        problem = sanitise_line(str(error), 200) or type(error).__name__
        if "trust_remote_code" in problem:
            problem = "it needs code of its own, and hwdash runs no code that comes with a model"
        raise ModelError(f"the tokenizer in {directory} cannot be read: {problem}") from error
