"""Stretches of time are read as they are written, or refused with the name of their field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.duration import LONGEST_S, parse_duration
from hwdash.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        (" 5 min ", 300),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
    ],
)
def test_stretches_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text, "since") == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-1h", "1y", "1h30m", "3651d", "1e3", "nan", "١h", "9" * 4000])
def test_what_is_none_names_its_field(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--since: ") as caught:
        parse_duration(text, "--since")
    assert caught.value.param == "--since"


@given(st.text())
def test_any_text_is_a_time_within_bounds_or_a_usage_error(text: str) -> None:
    try:
        seconds = parse_duration(text, "since")
    except UsageError:
        return
    assert 0 < seconds <= LONGEST_S
