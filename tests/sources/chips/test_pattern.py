"""Expressions that could take forever are refused; those that profiles need are not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.sources.chips.pattern import (
    MAX_LINE,
    MAX_PATTERN,
    MAX_TEXT,
    BadPattern,
    compile_pattern,
    find_all,
    matches_whole,
    search,
)

GOOD = [
    r"(\d+)\s*[Mm][Hh]z\s*\*",
    r"Core\d+:\s*(\d+)%",
    r"(?m)^rd (\d+)",
    r"^(GAUDI|GOYA)",
    r"wormhole|blackhole",
    r"[-+]?\d+(\.\d+)?",
    r"(?i)load: *(\d{1,3}) ?%",
    r"(?P<name>[a-z_]+)=(\d+)",
    r"^0x12",
    r"[^,]*,([^,]*),",
    r"(?:ab){2,5}c",
    r"(ab)*",
    r"[]a]+",
    r"[\]\-a-f]+x",
    r"(?:a+|b+)c",
    r"(?:0x)?[0-9a-f]+",
    r"(?:\d+:)?\d+",
    r"temp(\d+)(?:_(input|max|crit))?",
    r"(\d+)(?:\.(\d+))? (?:k|M|G)?(?:B|Hz)",
    r"",
]

BAD = [
    r"(a+)+$",
    r"(a|a)*$",
    r"(a|ab)*c",
    r"(a*)*",
    r"(?:\d+\s?)+x",
    r".*.*=",
    r"\d+\d+x",
    r".*=\d+;.*Z",
    r"\w+\s?\w+!",
    r"a?a?a?a?a?a?aaaaaa",
    r"[ab]+c*[ab]+",
    r"(a)\1",
    r"(?=a)b",
    r"(?!a)b",
    r"(?<=a)b",
    r"(?P<x>a)(?P=x)",
    r"(?>a+)b",
    r"a++b",
    r"(a)(?(1)b|c)",
    r"a{1,5000}",
    r"(?:b*a)?" * 20 + "z",
    r"(?:ab)?" * 20 + "z",
    r"(?:a|b)?" * 20 + "z",
    r"(?:a+b)?" * 5 + "z",
    r"(?:a|b)(?:a|ac)(?:a|bc)(?:a|cb)z",
    r"(unclosed",
    r"[unclosed",
    r"[[a]",
    r"[a--b]",
    r"*",
    r"\x41+",
    "a" * (MAX_PATTERN + 1),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_needed_is_taken(text: str) -> None:
    compile_pattern(text)


@pytest.mark.parametrize("text", BAD)
def test_what_can_explode_is_refused(text: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(text)


def test_digits_are_those_of_ascii() -> None:
    assert compile_pattern(r"\d").search("\N{ARABIC-INDIC DIGIT ONE}") is None


def test_searched_is_line_by_line() -> None:
    number = compile_pattern(r"\d+$")
    assert [match[0] for match in find_all(number, "a 1\nb\n\n22\n3")] == ["1", "22", "3"]
    assert search(compile_pattern(r"a\s+b"), "a\nb") is None
    assert search(compile_pattern("^b"), "a\nb") is None
    assert search(compile_pattern("(?m)^b"), "a\nb") is not None
    assert search(compile_pattern("x"), "") is None
    assert search(compile_pattern("^$"), "") is not None


def test_little_of_a_long_text_is_searched() -> None:
    far, near = compile_pattern("b"), "a" * (MAX_LINE - 1)
    assert search(far, near + "b") is not None
    assert search(far, near + "ab") is None
    assert search(far, near + "ab\nb") is not None
    assert search(far, "a\n" * (MAX_TEXT // 2) + "b") is None
    assert matches_whole(compile_pattern("a+"), "a" * MAX_LINE)
    assert not matches_whole(compile_pattern("a+"), "a" * (MAX_LINE + 1))
    assert not matches_whole(compile_pattern("a+"), "ab")


@given(st.text(st.sampled_from(r"ab.*+?|()[]^$\dw{1,}-:P<>=!"), max_size=12), st.text("ab1 ", max_size=24))
def test_whatever_is_taken_also_works(text: str, subject: str) -> None:
    try:
        pattern = compile_pattern(text)
    except BadPattern:
        return
    assert (pattern.search(subject) is None) == (re.search(text, subject, re.ASCII) is None)
