"""The wrapping of a growing answer: nothing lost, nothing too wide, the same however it arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hwdash.tui.answer import Kind, Transcript, wrap

PIECES = st.sampled_from(
    [
        "a",
        "word ",
        "  ",
        "lengthyword",
        "漢",
        "字",
        "한글 ",
        "👩\u200d💻",
        "❤",
        "\ufe0f",
        "\u200d",
        "e\u0301",
        "\u0301",
        "🇩🇪",
        "é",
        "…",
        "[/b]",
    ]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=60).map("".join),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=200),
)
WIDTHS = st.integers(2, 40)


@given(TEXTS, WIDTHS)
def test_joined_rows_are_the_paragraph(text: str, width: int) -> None:
    assert "".join(wrap(text, width)) == text


@given(TEXTS, WIDTHS)
def test_no_row_is_wider_than_the_width(text: str, width: int) -> None:
    for row in wrap(text, width):
        assert cell_len(row.rstrip(" ")) <= width


@given(st.lists(st.one_of(PIECES, st.just("\n"), st.just("\t"), TEXTS), max_size=30), WIDTHS)
def test_growing_and_arriving_at_once_give_the_same_rows(pieces: list[str], width: int) -> None:
    grown, whole = Transcript(width), Transcript(width)
    grown.add(Kind.ANSWER)
    for piece in pieces:
        before = list(grown.rows)
        changed = grown.extend(piece)
        assert grown.rows[:changed] == before[:changed]
    whole.add(Kind.ANSWER, "".join(pieces))
    assert grown.rows == whole.rows
    assert grown.text(Kind.ANSWER) == whole.text(Kind.ANSWER)


@given(st.lists(TEXTS, max_size=6), WIDTHS, WIDTHS)
def test_resizing_is_wrapping_anew(texts: list[str], width: int, other: int) -> None:
    resized, fresh = Transcript(width), Transcript(other)
    for text in texts:
        resized.add(Kind.NOTE, text)
        fresh.add(Kind.NOTE, text)
    resized.resize(other)
    assert resized.rows == fresh.rows


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("", 10, [""]),
        ("the quick brown fox", 10, ["the quick ", "brown fox"]),
        ("the quick brown", 9, ["the quick ", "brown"]),
        ("unbreakable", 4, ["unbr", "eaka", "ble"]),
        ("漢字漢字漢字", 5, ["漢字", "漢字", "漢字"]),
        ("see 漢字漢字", 8, ["see 漢字", "漢字"]),
        ("    indented_code()", 10, ["    indent", "ed_code()"]),
    ],
)
def test_rows(text: str, width: int, rows: list[str]) -> None:
    assert list(wrap(text, width)) == rows


def test_extending_touches_the_last_row_only() -> None:
    transcript = Transcript(20)
    transcript.add(Kind.ANSWER, "word " * 10_000)
    rows = len(transcript.rows)
    assert transcript.extend("more") >= rows - 1


def test_control_characters_do_not_get_in() -> None:
    transcript = Transcript(40)
    transcript.add(Kind.ANSWER, "\x1b]0;pwned\x07 \x9b2J\rplain")
    text = "".join(row.text for row in transcript.rows)
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text)
    assert "plain" in text


def test_the_oldest_blocks_go_first() -> None:
    transcript = Transcript(10, max_rows=5)
    for number in range(4):
        transcript.add(Kind.NOTE, f"{number}\n{number}")
    assert [row.text for row in transcript.rows] == ["2", "2", "3", "3"]
    transcript.add(Kind.ANSWER, "\n" * 20)
    assert len(transcript.rows) == 21
    assert transcript.rows[0].kind is Kind.ANSWER


def test_each_block_marks_its_first_row() -> None:
    transcript = Transcript(4)
    transcript.add(Kind.PROMPT, "one two")
    transcript.add(Kind.ANSWER, "x\ny")
    assert [row.first for row in transcript.rows] == [True, False, True, False]
    transcript.resize(80)
    assert [row.first for row in transcript.rows] == [True, True, False]
    transcript.clear()
    assert transcript.rows == []
