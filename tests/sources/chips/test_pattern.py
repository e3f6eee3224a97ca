"""Expressions that could take forever are refused; those that profiles need are not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.sources.chips.pattern import MAX_PATTERN, BadPattern, compile_pattern

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


@given(st.text(st.sampled_from(r"ab.*+?|()[]^$\dw{1,}-:P<>=!"), max_size=12), st.text("ab1 ", max_size=24))
def test_whatever_is_taken_also_works(text: str, subject: str) -> None:
    try:
        pattern = compile_pattern(text)
    except BadPattern:
        return
    assert (pattern.search(subject) is None) == (re.search(text, subject, re.ASCII) is None)
