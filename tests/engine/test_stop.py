"""Where an answer ends at a stop string, and that no part of one leaks."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hwdash.engine.stop import StopHolder


def held(stops: Sequence[str], pieces: Sequence[str]) -> tuple[list[str], bool]:
    holder = StopHolder(stops)
    out = [holder.push(piece) for piece in pieces]
    return [*out, holder.flush()], holder.stopped


def first_complete(text: str, stops: Sequence[str]) -> str | None:
    """The text before the stop string that is complete first, found the slow way."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return None


AB = st.text("ab\r\n", max_size=12)


@given(st.lists(AB, max_size=6), st.lists(st.text("ab\n", max_size=4), max_size=3))
def test_stops_do_not_depend_on_how_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    expected = first_complete(text, stops)
    out, stopped = held(stops, pieces)
    assert stopped == (expected is not None)
    assert "".join(out) == (text if expected is None else expected)


@given(st.lists(AB, max_size=6), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_no_beginning_of_a_stop_string_leaks(pieces: list[str], stops: list[str]) -> None:
    holder = StopHolder(stops)
    text = out = ""
    for piece in pieces:
        text += piece
        out += holder.push(piece)
        if not holder.stopped:
            begun = max(size for stop in stops for size in range(len(stop)) if text.endswith(stop[:size]))
            assert len(out) <= len(text) - begun


def test_a_line_break_of_two_characters_is_not_torn() -> None:
    assert held([], ["a\r", "\nb\r"])[0] == ["a", "\r\nb", "\r"]
