"""Stretches of places: never two in one place, and every free one is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.engine.worker.segment import Segments

_STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "give", "extend", "grow"]), st.integers(1, 40), st.integers(0, 5)), max_size=60
)


@given(_STEPS)
def test_stretches_never_overlap_and_are_refused_only_where_there_is_no_room(
    steps: list[tuple[str, int, int]],
) -> None:
    segments = Segments(100)
    taken: dict[int, int] = {}
    for kind, length, which in steps:
        chosen = sorted(taken)[which % len(taken)] if taken else None
        if kind == "take":
            free = _gaps(taken, segments.size)
            start = segments.take(length)
            assert start == next((begin for begin, gap in free if gap >= length), None)
            if start is not None:
                taken[start] = length
        elif kind == "grow":
            segments.grow(segments.size + length)
        elif chosen is not None and kind == "give":
            segments.give(chosen)
            del taken[chosen]
        elif chosen is not None:
            longer = taken[chosen] + length
            following = min((begin for begin in taken if begin > chosen), default=segments.size)
            assert segments.extend(chosen, longer) == (chosen + longer <= following)
            if chosen + longer <= following:
                taken[chosen] = longer


def _gaps(taken: dict[int, int], size: int) -> list[tuple[int, int]]:
    gaps, at = [], 0
    for begin in sorted(taken):
        gaps.append((at, begin - at))
        at = begin + taken[begin]
    return [*gaps, (at, size - at)]


def test_a_stretch_that_is_not_taken_cannot_be_given() -> None:
    segments = Segments(10)
    assert segments.take(4) == 0
    with pytest.raises(KeyError):
        segments.give(2)
