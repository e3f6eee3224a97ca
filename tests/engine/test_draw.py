"""Tokens out of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import pytest


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-6, 6), min_size=2, max_size=30),
    st.floats(0.05, 2.0),
    st.floats(0.01, 1.0),
    st.integers(0, 2**62 - 1),
)
def test_a_drawn_token_is_of_the_smallest_set_that_makes_up_top_p(
    logits: list[float], temperature: float, top_p: float, seed: int
) -> None:
    import torch

    from hwdash.engine.worker.draw import Draw, drawn

    rows = torch.tensor([logits])
    how = Draw(torch.tensor([temperature]), torch.tensor([top_p]), torch.tensor([seed]))
    token = int(drawn(rows, how, torch.tensor([3])))
    shares = (rows[0].double() / temperature).softmax(0)
    likelier = shares[shares > shares[token]].sum().item()
    assert likelier < top_p + 1e-4


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([3, 256, 300, 6000]),
    st.sampled_from([1e-6, 0.01, 0.7, 1.0, 5.0]),
    st.sampled_from([0.0, 0.1, 0.9, 0.999, 1.0]),
    st.booleans(),
)
def test_rows_are_drawn_the_same_whether_or_not_the_device_may_be_asked(
    seed: int, vocabulary: int, temperature: float, top_p: float, coarse: bool
) -> None:
    import torch

    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.draw import Draw, drawn, picked

    count = 16
    source = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.0, 0.3, 3.0, 30.0]).repeat(count // 4)[:, None]
    logits = torch.randn((count, vocabulary), generator=source) * scale
    logits[0, 1] = float("nan")
    if coarse:  # many are as likely as each other
        logits = logits.round()
    temperatures = [0.0 if row == 3 else temperature for row in range(count)]
    how = Draw(torch.tensor(temperatures), torch.full((count,), top_p), torch.arange(count))
    samplings = [Sampling(one, top_p, row) for row, one in enumerate(temperatures)]
    places = list(range(count))
    assert picked(logits, samplings, places).tolist() == drawn(logits, how, torch.tensor(places)).tolist()


def test_the_whole_vocabulary_is_sorted_only_where_the_likeliest_tokens_do_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.draw import picked

    sort, sorted_shapes = torch.Tensor.sort, []

    def noting(tensor: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        sorted_shapes.append(tuple(tensor.shape))
        return sort(tensor, *arguments, **more)

    monkeypatch.setattr(torch.Tensor, "sort", noting)
    logits = torch.zeros((2, 9000))
    logits[0, 5000:5009] = 20.0
    picked(logits, [Sampling(1.0, 0.99, 1), Sampling(0.0)], [1, 1])
    assert sorted_shapes
    assert max(shape[1] for shape in sorted_shapes) == 256
    picked(logits, [Sampling(1.0, 0.99, 1), Sampling(1.0, 0.99, 1)], [1, 1])
    assert sorted_shapes[-1] == (1, 9000)


def test_a_tiny_temperature_gives_the_likeliest_token() -> None:
    import torch

    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.draw import Draw, drawn, picked

    rows = torch.tensor([[1.0, 900.0, 3.0], [1.0, 899.0, 900.0]])
    for temperature in (1e-40, 1e-37, 1e-6, 1e-4):
        how = Draw(torch.full((2,), temperature), torch.ones(2), torch.arange(2))
        assert drawn(rows, how, torch.arange(2)).tolist() == [1, 2]
        assert picked(rows, [Sampling(temperature), Sampling(temperature)], [0, 1]).tolist() == [1, 2]


def test_drawn_tokens_come_as_often_as_their_probabilities_say() -> None:
    import torch

    from hwdash.engine.worker.draw import Draw, drawn

    count = 20_000
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    rows = shares.log().expand(count, -1)
    how = Draw(torch.ones(count), torch.full((count,), 0.9), torch.full((count,), 12345))
    tokens = drawn(rows, how, torch.arange(count))
    frequencies = torch.bincount(tokens, minlength=4) / count
    torch.testing.assert_close(frequencies, torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, atol=0.015, rtol=0)


def test_cold_rows_get_their_likeliest_token_and_damaged_ones_the_sign_of_it() -> None:
    import torch

    from hwdash.engine.worker.decoder import DAMAGED
    from hwdash.engine.worker.draw import Draw, drawn, likeliest

    rows = torch.tensor([[0.0, 2.0, 1.0], [0.0, float("nan"), 1.0], [float("inf"), 0.0, 1.0], [3.0, 2.9, 2.8]])
    assert likeliest(rows).tolist() == [1, DAMAGED, DAMAGED, 0]
    how = Draw(torch.tensor([0.0, 1.0, 1.0, 1.0]), torch.full((4,), 0.01), torch.arange(4))
    assert drawn(rows, how, torch.arange(4)).tolist() == [1, DAMAGED, DAMAGED, 0]


@given(st.integers(0, 2**62 - 1), st.integers(0, 10**6))
def test_numbers_of_seed_and_position_are_from_0_to_1(seed: int, position: int) -> None:
    import torch

    from hwdash.engine.worker.draw import uniform

    assert 0 <= uniform(torch.tensor([seed]), torch.tensor([position])).item() < 1


def test_numbers_of_neighbouring_seeds_and_positions_have_nothing_to_do_with_each_other() -> None:
    import torch

    from hwdash.engine.worker.draw import uniform

    seeds, positions = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    numbers = uniform(seeds.flatten(), positions.flatten()).view(200, 200).double()
    assert abs(numbers.mean().item() - 0.5) < 0.01
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1].item()) < 0.02
