"""Foreign text cannot reach a terminal's controls."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.text import sanitise, sanitise_line


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    assert all(char in "\t\n" or unicodedata.category(char) != "Cc" for char in sanitise(text))
    assert all(unicodedata.category(char) != "Cc" for char in sanitise_line(text))


@given(st.text(), st.integers(2, 50))
def test_lines_keep_the_limit(text: str, limit: int) -> None:
    assert len(sanitise_line(text, limit)) <= limit


def test_escape_sequences_lose_their_escape() -> None:
    assert "\x1b" not in sanitise("a\x1b]0;owned\x07b")
    assert sanitise("Grüße\n\tdas ist 日本 🎉") == "Grüße\n\tdas ist 日本 🎉"


def test_marks_of_direction_and_bytes_that_are_no_text_are_replaced() -> None:
    line = sanitise_line("dev\udcff\u200e\u200f\u061c\ud83d0")
    assert line == "dev" + "\N{REPLACEMENT CHARACTER}" * 5 + "0"
    assert line.encode()
