"""Text out of tokens while they are made: whole characters only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 4  # bytes of UTF-8: the most replacement characters that one unfinished character can cause
_LONGEST_WINDOW = 64
_KEPT_OF_NOISE = 2 * _LONGEST_CHARACTER


class Detokenizer:
    """Decodes tokens as they come. The pieces joined are the text of all tokens decoded at once.

    Only a short window of tokens is decoded each time. It begins with tokens whose text is already out, because the
    text of a token can depend on the one before it (the leading space of SentencePiece vocabularies). A replacement
    character at the end may be the first bytes of a character and waits for the next token.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._context = 0  # tokens at the start of the window that were complete when the newest text went out
        self._shown = 0  # characters of the window's text that are out

    def push(self, token: int) -> str:
        """The text that *token* completes; may be empty."""
        self._window.append(token)
        text = self._decode(self._window)
        if len(self._window) > _LONGEST_WINDOW:
            return self._give_up_waiting(text)
        if text.endswith(_INCOMPLETE) or len(text) <= self._shown:
            return ""
        piece = text[self._shown :]
        self._window = self._window[self._context :]
        self._context = len(self._window)
        self._shown = len(self._decode(self._window))
        return piece

    def _give_up_waiting(self, text: str) -> str:
        """So many tokens are noise: let out what cannot change any more, all but the last, maybe unfinished character."""
        held = 0
        while held < min(len(text), _LONGEST_CHARACTER) and text[len(text) - held - 1] == _INCOMPLETE:
            held += 1
        piece = text[self._shown : len(text) - held]
        self._window = self._window[-_KEPT_OF_NOISE:]
        self._context = 0
        self._shown = max(0, len(self._decode(self._window)) - held)
        return piece

    def flush(self) -> str:
        """What is left when no more tokens come: bytes that never became a character, as U+FFFD."""
        text = self._decode(self._window)
        piece = text[self._shown :]
        self._shown = len(text)
        return piece
