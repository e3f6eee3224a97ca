"""Sizes of memory as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.errors import UsageError
from hwdash.core.size import MAX_BYTES, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40GiB", 40 * 2**30),
        ("40 GiB", 40 * 2**30),
        ("40g", 40 * 2**30),
        ("80GB", 80 * 10**9),
        ("1.5T", 3 * 2**39),
        ("512 MiB", 512 * 2**20),
        ("1048576", 2**20),
        ("10B", 10),
    ],
)
def test_what_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "1e9", "4 iB", "nan", "1_000MB", "0", "2EiB", "9999P", "1.GiB", "٤GiB"]
)
def test_what_is_no_size_is_refused_and_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text, "min_memory")
    assert caught.value.param == "min_memory"
    assert caught.value.message.startswith("min_memory: ")


def test_a_forgotten_unit_is_asked_for() -> None:
    with pytest.raises(UsageError, match="40 of what"):
        parse_size("40")


@given(st.text(max_size=40))
def test_any_text_is_a_size_within_bounds_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except UsageError as error:
        assert "\n" not in error.message
    else:
        assert 1 <= size <= MAX_BYTES
