"""A small lead does not change the order every second."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.ranking import RankedDevice, Ranking
from hwdash.routing.settle import LEAD, settle

SCORES = st.dictionaries(
    st.sampled_from([f"gpu{number}" for number in range(8)]), st.integers(0, 1000).map(lambda n: n / 1000)
)


def ranking(scores: dict[str, float]) -> Ranking:
    order = sorted(scores, key=lambda name: (-scores[name], name))
    return Ranking("balanced", {}, tuple(RankedDevice(name, scores[name], {}, ()) for name in order), ())


def names(item: Ranking) -> list[str]:
    return [device.device for device in item.ranked]


def test_noise_keeps_the_order_and_a_lead_changes_it() -> None:
    before = ranking({"gpu0": 0.70, "gpu1": 0.69, "gpu2": 0.5})
    assert names(settle(ranking({"gpu0": 0.68, "gpu1": 0.72, "gpu2": 0.5}), before)) == ["gpu0", "gpu1", "gpu2"]
    assert names(settle(ranking({"gpu0": 0.68, "gpu1": 0.72, "gpu2": 0.9}), before)) == ["gpu2", "gpu0", "gpu1"]
    assert names(settle(ranking({"gpu0": 0.60, "gpu1": 0.72, "gpu2": 0.5}), before)) == ["gpu1", "gpu0", "gpu2"]


def test_a_new_device_takes_the_place_of_its_score_and_a_lost_one_leaves() -> None:
    before = ranking({"gpu0": 0.70, "gpu1": 0.69})
    assert names(settle(ranking({"gpu1": 0.69, "gpu2": 0.70}), before)) == ["gpu2", "gpu1"]


@given(SCORES, SCORES)
def test_every_device_is_there_once_and_nobody_stands_before_a_clearly_better_neighbour(
    first: dict[str, float], second: dict[str, float]
) -> None:
    settled = settle(ranking(second), settle(ranking(first), None))
    assert sorted(names(settled)) == sorted(second)
    scores = [device.score for device in settled.ranked]
    assert all(later <= earlier + LEAD + 1e-9 for earlier, later in itertools.pairwise(scores))
    assert settle(ranking(second), settled) == settled
